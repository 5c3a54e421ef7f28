"""The house's shape: what the wheel holds, what a light client imports, how long files are, whose numbers they name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import house

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("longtake", "workers", "cluster", "monitoring", "protos", "pocket", "benchmarks")
MOST_LINES, MOST_LINES_OF_THE_CORE = 400, 350


def sources(*packages: str) -> list[Path]:
    files = [path for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in files if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))]


def test_the_seven_names_of_the_design_are_at_the_top() -> None:
    for name in ("pyproject.toml", "cluster", "workers", "protos", "deploy", "tests", "monitoring"):
        assert (ROOT / name).exists(), name


def test_the_wheel_holds_every_package_its_weights_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"longtake", "workers", "cluster", "monitoring", "pocket"}
    packages = {str(Path(path).parent) for path in names if path.endswith("/__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert packages == {name.replace(".", "/") for name in listed}
    page = [path.relative_to(ROOT).as_posix() for path in (ROOT / "cluster/http/page/static").iterdir()]
    assert len(page) >= 8
    for needed in ("pocket/weights/model.json", "pocket/weights/dit.safetensors", "pocket/weights/vae.safetensors",
                   "longtake/v1/longtake_pb2.pyi", "longtake/py.typed", "longtake/cli/configs/pocket.toml",
                   *page):  # fmt: skip
        assert needed in names


def test_the_client_and_the_command_line_need_neither_torch_nor_ray() -> None:
    heavy = ("torch", "ray", "numpy", "av", "safetensors", "pydantic", "cluster", "workers", "pocket")
    code = f"import sys, longtake.client, longtake.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_worker_code_imports_no_ray_even_at_run_time() -> None:
    code = "import sys, workers.link.dial, workers.denoise.worker, workers.decode.worker; print('ray' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


def too_long(lines_of: dict[str, int]) -> set[str]:
    """Files that have more lines than theirs may have."""
    most = {path: MOST_LINES_OF_THE_CORE if path.startswith("longtake/core/") else MOST_LINES for path in lines_of}
    return {path for path, lines in lines_of.items() if lines > most[path]}


def test_no_file_is_so_long_that_a_type_is_missing() -> None:
    files = sources(*PACKAGES, "tests", "deploy")
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert too_long(lengths) == set(), "find the type, or the subject, that is missing"


def test_a_file_that_is_too_long_is_seen() -> None:
    lines_of = {"longtake/core/pages.py": 351, "longtake/client/client.py": 400, "tests/core/test_pages.py": 401}
    assert too_long(lines_of) == {"longtake/core/pages.py", "tests/core/test_pages.py"}


def introduction(text: str) -> str:
    """The first paragraph of a package's docstring, on one line."""
    return " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split())


def is_introduced(text: str) -> bool:
    """Whether it is one sentence that says what a package may import."""
    sentence = introduction(text)
    return sentence.endswith(".") and ". " not in sentence and "import" in sentence


def test_every_package_says_in_a_sentence_what_it_is_and_what_it_may_import() -> None:
    packages = [path for path in sources() if path.name == "__init__.py"]
    assert len(packages) > 30
    assert [str(path.relative_to(ROOT)) for path in packages if not is_introduced(path.read_text())] == []


def test_a_package_that_says_too_little_or_too_much_is_seen() -> None:
    assert is_introduced('"""Pages of K/V; it imports\nthe core only."""\nimport os\n')
    for text in ("", '"""Pages of K/V."""', '"""It imports. It runs."""', '"""It imports the core"""'):
        assert not is_introduced(text), text


def test_a_public_type_name_stands_for_one_thing() -> None:
    doubles = house.names_in_two_files(house.sources(ROOT, house.PRODUCT))
    assert doubles == {}, "name the less central one by what it is"


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Those of modules, classes and functions, and the texts that stand below fields and constants."""
    for node in ast.walk(tree):
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield text.strip()


def goes_on(text: str) -> bool:
    """Whether a docstring is half a sentence, whose other half stands below another field."""
    return text.startswith("…") or text.endswith(("…", "….", "..."))


def test_every_docstring_is_whole() -> None:
    files = sources(*PACKAGES, "tests", "deploy")
    halves = [(str(path), text) for path in files for text in docstrings(ast.parse(path.read_text())) if goes_on(text)]
    assert halves == [], "one field, one sentence"


def test_a_docstring_that_goes_on_elsewhere_is_seen() -> None:
    code = 'class A:\n  """Sizes."""\n  x: int\n  """Rows …"""\n  y: int\n  """… and columns."""\n'
    assert [text for text in docstrings(ast.parse(code)) if goes_on(text)] == ["Rows …", "… and columns."]


def test_no_number_of_one_model_stands_in_code() -> None:
    literal = re.compile(r"\b(1560|4680|32760|1536|8960)\b")
    code = [path for path in sources() if path.relative_to(ROOT).parts[0] in ("longtake", "workers", "cluster")]
    found = [str(path.relative_to(ROOT)) for path in code if literal.search(path.read_text())]
    assert found == ["longtake/core/plan/presets.py"], "recipes of published models stand in one file"


PUBLIC_IN_SPITE = {"_replace", "_asdict", "_make", "_fields"}
"""Of named tuples: the underscore keeps them apart from fields."""
BY_NAME = {"setattr", "getattr", "hasattr", "delattr", "object"}
"""Calls that are given a member's name, `monkeypatch.setattr` and `mock.patch.object` among them."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in PUBLIC_IN_SPITE


def is_own(base: ast.expr) -> bool:
    """Whether a member of `base` belongs to the class that reads it."""
    if isinstance(base, ast.Call):
        return isinstance(base.func, ast.Name) and base.func.id == "super"
    return isinstance(base, ast.Name) and base.id in ("self", "cls")


def private_reads(tree: ast.AST) -> Iterator[str]:
    """The private members of others that a test reads, sets, patches or imports: `x._y`, "_y" and "a.b._y"."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=base, attr=name) if is_private(name) and not is_own(base):
                yield ast.unparse(node)
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names if is_private(alias.name))
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=given) if called in BY_NAME:
                texts = [text.value for text in given if isinstance(text, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str) and is_private(text.rpartition(".")[2]))


def borrowings(tree: ast.AST) -> Iterator[str]:
    """The test files that a test imports from."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)):
                imported = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case _:
                imported = []
        modules = (name for name in imported if re.match(r"tests\.(\w+\.)*test_\w+$", name))
        yield from (name for name in modules if (ROOT / name.replace(".", "/")).with_suffix(".py").exists())


def found_in_tests(find: Callable[[ast.AST], Iterator[str]]) -> dict[str, list[str]]:
    """What is found in each test file in which anything is."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    found = {path.relative_to(ROOT).as_posix(): list(find(ast.parse(path.read_text()))) for path in files}
    return {path: names for path, names in found.items() if names}


def test_no_test_reads_a_private_member() -> None:
    assert found_in_tests(private_reads) == {}, "give the product a door that has a purpose beside the test"


def test_no_test_imports_from_another_test() -> None:
    assert found_in_tests(borrowings) == {}, "what two tests share belongs into a helper"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("cell.scheduler._sessions[name].state", ["cell.scheduler._sessions"]),
        ("def f(self):\n  self.engine._step(self._mine)", ["self.engine._step"]),
        ("engine()._inbox = 1", ["engine()._inbox"]),
        ("monkeypatch.setattr(Dispatcher, '_may_run', never)", ["_may_run"]),
        ("monkeypatch.setattr('longtake.core.pages._take', never)", ["longtake.core.pages._take"]),
        ("from longtake.core.carry.balancing import _WORTH", ["_WORTH"]),
        ("super()._perform(effect); cls._made; urgency._replace(step=0); thing.__dict__; _helper()", []),
    ],
)
def test_private_reads_are_found(code: str, found: list[str]) -> None:
    assert list(private_reads(ast.parse(code))) == found


def core_functions() -> Iterator[tuple[str, str, list[str]]]:
    """Every function of the core: its file, its name, and its parameters without self and cls."""
    for path in sources("longtake/core"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                yield path.relative_to(ROOT).as_posix(), node.name, names


def test_no_constructor_of_the_core_takes_more_than_three_parameters() -> None:
    made = [(path, names) for path, name, names in core_functions() if name == "__init__"]
    assert len(made) > 15
    assert [(path, names) for path, names in made if len(names) > 3] == [], "what is shared is the Cell"


def test_the_level_is_named_in_the_recipe_and_its_graph_only() -> None:
    level = re.compile(r"\bLevel\.|import .*\bLevel\b")
    named = {path.name for path in sources("longtake/core") if level.search(path.read_text())}
    rules = {"contradictions.py", "cue_rules.py", "memory_rules.py"}
    assert named == {"recipe.py", "sources.py", "chains.py", "published.py", "table.py", *rules}, (
        "elsewhere the graph says what follows from it"
    )


def test_functions_of_the_core_take_a_recipe_where_it_is_compiled_and_nowhere_else() -> None:
    takes = {path for path, _, names in core_functions() if "recipe" in names}
    compiled = {f"longtake/core/recipe/{name}.py" for name in ("sources", "chains", "graph")}
    assert takes == {*compiled, "longtake/core/scheduler.py"}


def test_only_the_models_know_a_network() -> None:
    """Everybody else has a Denoiser, a LatentDecoder and a TextEncoder; weights.py makes them, pocket trains one.

    A checkpoint is converted by what its tensors are called and how large they are.
    """
    network = re.compile(
        r"\b(Wan(Model|Decoder|Encoder|Layer|Pass)|TaehvDecoder)\b|patch_embedding|conv2\.|models\.wan\.(?!(?:config|names|sizes)\b)"
    )
    exempt = ("workers/models/wan/", "workers/models/weights.py", "pocket/")
    files = {str(path.relative_to(ROOT)): path.read_text() for path in sources()}
    assert network.search(files["workers/models/weights.py"]), "the pattern finds what there is"
    assert [path for path, text in files.items() if network.search(text) and not path.startswith(exempt)] == []
