"""The house of a checkout, measured from its syntax: folders, imports, circles, functions, names and private reads.

It takes any layout of this project: what is measured follows from the files that are found.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

PRODUCT = ("longtake", "cluster", "workers", "monitoring", "pocket", "protos")
TESTS = "tests"
GENERATED = ("_pb2.py", "_pb2_grpc.py")
LONG_LINES, MANY_PARAMETERS = 30, 5
FLOORS = {
    "pocket": 7,
    "longtake.__main__": 6,
    **dict.fromkeys(("longtake.cli", "longtake.local_server", "longtake.presets", "longtake.top"), 5),
    "cluster": 4,
    **dict.fromkeys(("workers", "monitoring"), 3),
    **dict.fromkeys(("longtake.client", "longtake.recording", "longtake.sync_client"), 2),
    **dict.fromkeys(("longtake.v1", "longtake.link", "protos"), 1),
    "longtake.core": 0,
}
"""How high modules lie, by the beginning of their names; of two packages on one floor neither may import the other."""
NAMED_TUPLES_OWN = ("_replace", "_asdict", "_fields", "_make")
"""Public in spite of their names."""

Graph = Mapping[str, frozenset[str]]
"""What each node imports."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of Python."""

    path: PurePosixPath
    """From the root of the checkout."""
    tree: ast.Module
    lines: int

    @property
    def module(self) -> str:
        """Its name in an import."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        """The part of the product that it belongs to: a folder at the top, or one of the folders of longtake."""
        top, *rest = self.path.parts
        return f"{top}/{rest[0]}" if top == "longtake" and len(rest) > 1 else top


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What was measured."""

    files_per_folder: dict[str, int]
    lines_per_package: dict[str, int]
    longest_files: dict[str, str]
    """Of each package, with the number of lines."""
    test_lines: int
    imports_up: list[str]
    circles_of_files: list[list[str]]
    circles_of_rooms: list[list[str]]
    """A room is a folder without folders; a file beside folders, or directly in a package, is a room of its own."""
    circles_of_packages: list[list[str]]
    functions: int
    long_functions: int
    longest_function: str
    wide_functions: int
    recipe_parameters: int
    """Functions of the core that take a parameter called `recipe`."""
    private_reads: int
    files_with_private_reads: int
    names_in_two_files: dict[str, list[str]]


# --- files ------------------------------------------------------------------------------------------------------------


def sources(root: Path, tops: Iterable[str]) -> list[Source]:
    """The files of these folders at the top that somebody wrote, and no program."""
    found = []
    for path in sorted(path for top in tops for path in (root / top).rglob("*.py")):
        if not path.name.endswith(GENERATED):
            text = path.read_text(encoding="utf-8")
            found.append(Source(PurePosixPath(path.relative_to(root)), ast.parse(text), len(text.splitlines())))
    return found


def lines_per_package(files: Iterable[Source]) -> dict[str, int]:
    """Lines of Python."""
    lines: Counter[str] = Counter()
    for file in files:
        lines[file.package] += file.lines
    return dict(sorted(lines.items()))


def longest_files(files: Iterable[Source]) -> dict[str, str]:
    """The longest file of each package."""
    longest: dict[str, Source] = {}
    for file in files:
        if file.package not in longest or file.lines > longest[file.package].lines:
            longest[file.package] = file
    return {package: f"{file.path} ({file.lines})" for package, file in sorted(longest.items())}


# --- imports ----------------------------------------------------------------------------------------------------------


def imports(files: Iterable[Source]) -> dict[str, frozenset[str]]:
    """What each module imports of the modules given, wherever in the file the import stands."""
    modules = {file.module: file for file in files}
    return {
        name: frozenset(
            found for asked in _asked(file) if (found := _known(asked, modules)) is not None and found != name
        )
        for name, file in modules.items()
    }


def _asked(file: Source) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = file.module if file.path.name == "__init__.py" else file.module.rpartition(".")[0]
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _known(asked: str, modules: Mapping[str, Source]) -> str | None:
    """The longest beginning of a dotted name that is a module."""
    while asked and asked not in modules:
        asked = asked.rpartition(".")[0]
    return asked or None


def imports_up(graph: Graph) -> list[str]:
    """Imports from a floor to a higher one, or to another package of the same floor."""
    arrows = [(name, other) for name, imported in graph.items() for other in imported]
    return sorted(f"{name} -> {other}" for name, other in arrows if _goes_up(name, other))


def _goes_up(name: str, other: str) -> bool:
    low, high = _floor(name), _floor(other)
    if low is None or high is None:
        return False
    return low < high or (low == high and name.split(".")[0] != other.split(".")[0])


def _floor(module: str) -> int | None:
    for beginning, floor in FLOORS.items():
        if module == beginning or module.startswith((f"{beginning}.", f"{beginning}_")):
            return floor
    return None


def merged(graph: Graph, node_of: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The graph with nodes put together; what they import of each other goes."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, imported in graph.items():
        arrows[node_of[name]] |= {node_of[other] for other in imported} - {node_of[name]}
    return {node: frozenset(others) for node, others in arrows.items()}


def rooms(files: Iterable[Source]) -> dict[str, str]:
    """The room of each module."""
    files = list(files)
    folders = {file.path.parent for file in files}
    with_folders = {parent for folder in folders for parent in folder.parents}
    open_ones = with_folders | {folder for folder in folders if len(folder.parts) == 1}
    return {file.module: str(file.path if file.path.parent in open_ones else file.path.parent) for file in files}


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that import each other round about."""
    reach = {name: _reached(graph, name) for name in graph}
    groups = {frozenset({name} | {other for other in seen if name in reach[other]}) for name, seen in reach.items()}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for other in graph[ahead.pop()]:
            if other not in seen:
                seen.add(other)
                ahead.append(other)
    return seen


# --- functions and names ----------------------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(files: Iterable[Source]) -> Iterator[tuple[Source, Function]]:
    """All of them, methods and inner ones too."""
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, Function):
                yield file, node


def length(function: Function) -> int:
    """Lines from `def` to the last, docstring included, decorators not."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def parameters(function: Function) -> list[str]:
    """Names of the parameters, without the object or class that a method belongs to."""
    given = function.args
    plain = [each.arg for each in (*given.posonlyargs, *given.args)]
    if plain and plain[0] in ("self", "cls"):
        plain = plain[1:]
    more = [each.arg for each in (given.vararg, *given.kwonlyargs, given.kwarg) if each is not None]
    return plain + more


def type_names(file: Source) -> Iterator[str]:
    """Public classes and named types at the top of a file; type variables are no types."""
    for node in file.tree.body:
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec"))):
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if not name.isupper():
                    yield name


def names_in_two_files(files: Iterable[Source]) -> dict[str, list[str]]:
    """Public class and type names that stand for two things or more."""
    where: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for name in type_names(file):
            if name[0].isupper():
                where[name].add(str(file.path))
    return {name: sorted(paths) for name, paths in sorted(where.items()) if len(paths) > 1}


# --- private reads ----------------------------------------------------------------------------------------------------


def private_reads(tests: Iterable[Source], product: Iterable[Source]) -> Counter[str]:
    """How often each test file names a private member of another object that is not only the tests' own."""
    tests = list(tests)
    own = {name for file in tests for name in _defined(file)} - {name for file in product for name in _defined(file)}
    own.update(NAMED_TUPLES_OWN)
    found: Counter[str] = Counter()
    for file in tests:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr) and not (_is_own(node) or node.attr in own):
                found[str(file.path)] += 1
    return found


def _defined(file: Source) -> Iterator[str]:
    for node in ast.walk(file.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) if _is_own(node):
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_own(node: ast.Attribute) -> bool:
    match node.value:
        case ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super")):
            return True
        case _:
            return False


# --- all of it --------------------------------------------------------------------------------------------------------


def measure(root: Path) -> House:
    """The house of the checkout at `root`."""
    files, tests = sources(root, PRODUCT), sources(root, [TESTS])
    graph = imports(files)
    defined = list(functions(files))
    longest_in, longest = max(defined, key=lambda pair: length(pair[1]))
    reads = private_reads(tests, files)
    return House(
        files_per_folder=dict(sorted(Counter(str(file.path.parent) for file in files).items())),
        lines_per_package=lines_per_package(files),
        longest_files=longest_files(files),
        test_lines=sum(file.lines for file in tests),
        imports_up=imports_up(graph),
        circles_of_files=circles(graph),
        circles_of_rooms=circles(merged(graph, rooms(files))),
        circles_of_packages=circles(merged(graph, {file.module: file.package for file in files})),
        functions=len(defined),
        long_functions=sum(length(node) > LONG_LINES for _, node in defined),
        longest_function=f"{longest_in.path}:{longest.name} ({length(longest)})",
        wide_functions=sum(len(parameters(node)) > MANY_PARAMETERS for _, node in defined),
        recipe_parameters=sum(
            "recipe" in parameters(node) for file, node in defined if file.package == "longtake/core"
        ),
        private_reads=reads.total(),
        files_with_private_reads=len(reads),
        names_in_two_files=names_in_two_files(files),
    )


def table(house: House) -> str:
    """The figures for people, one a line."""
    fullest = max(house.files_per_folder, key=lambda folder: house.files_per_folder[folder])
    rows = [
        ("most files in a folder", f"{house.files_per_folder[fullest]} ({fullest})"),
        ("folders", len(house.files_per_folder)),
        ("lines of product", sum(house.lines_per_package.values())),
        ("lines of tests", house.test_lines),
        ("imports that go up", len(house.imports_up)),
        ("circles of files", len(house.circles_of_files)),
        ("circles of rooms", len(house.circles_of_rooms)),
        ("circles of packages", len(house.circles_of_packages)),
        ("functions", house.functions),
        (f"functions over {LONG_LINES} lines", house.long_functions),
        ("longest function", house.longest_function),
        (f"functions with over {MANY_PARAMETERS} parameters", house.wide_functions),
        ("parameters `recipe` in the core", house.recipe_parameters),
        ("private reads in tests", f"{house.private_reads} in {house.files_with_private_reads} files"),
        ("type names in two files", len(house.names_in_two_files)),
    ]
    rows += [(f"files in {folder}", count) for folder, count in house.files_per_folder.items()]
    for package, count in house.lines_per_package.items():
        rows.append((f"lines of {package}", f"{count}, longest {house.longest_files[package]}"))
    details = [f"up: {each}" for each in house.imports_up]
    for circle in (*house.circles_of_files, *house.circles_of_rooms, *house.circles_of_packages):
        details.append(f"circle: {' '.join(circle)}")
    details += [f"{name}: {' '.join(paths)}" for name, paths in house.names_in_two_files.items()]
    return "\n".join([*(f"{name:<40} {value}" for name, value in rows), "", *details])


def main(arguments: list[str]) -> int:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    asked = parser.parse_args(arguments)
    house = measure(asked.root)
    sys.stdout.write((json.dumps(asdict(house)) if asked.json else table(house)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
