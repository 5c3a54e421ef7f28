"""Documents name files and functions, each of which exists; the architecture names every folder and counts its hops."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHITECTURE, CELL = "docs/architecture.md", "docs/life-of-a-cell.md"
DOCUMENTS = (ARCHITECTURE, CELL, "docs/life-of-a-block.md")
TWO_SCREENS = 112
MOST_HOPS = {"An Open, to its first dispatch": 18, "A latent, to the next worker": 17, "A segment, to its client": 14}
"""A walk that grows has got a detour."""
PRODUCT = ("longtake", "cluster", "workers", "monitoring", "pocket", "protos")


@cache
def names_in(path: str) -> frozenset[str]:
    """Every class, function and constant of a module, those in classes as `Class.name`."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{node.name}.")
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))

    walk(ast.parse((ROOT / path).read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def missing(text: str) -> list[str]:
    """Files and names in a document that are not there."""
    wrong = []
    for path, name in re.findall(r"`([\w/.]+\.py)(?:::([\w.]+))?`", text):
        known = (
            [path] if (ROOT / path).exists() else sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(f"*/**/{path}"))
        )
        known = [found for found in known if not found.startswith((".", "build/"))]
        if not known or (name and not any(name in names_in(found) for found in known)):
            wrong.append(f"{path}::{name}" if name else path)
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_function_that_is_named_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert missing(text) == []
    assert len(re.findall(r"\.py(?:::[\w.]+)?`", text)) > 15


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_no_document_names_a_file_that_is_gone(document: Path) -> None:
    assert missing(document.read_text(encoding="utf-8")) == []


def test_a_file_and_a_function_that_do_not_exist_are_found() -> None:
    engine = "cluster/cell/engine.py"
    text = f"`{engine}::Engine.run` and `{engine}::Engine.fly`, `cluster/motor.py`, `engine.py::walk`"
    assert missing(text) == ["cluster/cell/engine.py::Engine.fly", "cluster/motor.py", "engine.py::walk"]


# --- the architecture -------------------------------------------------------------------------------------------------


def unnamed(text: str, folders: set[str]) -> set[str]:
    """Folders that a text does not name."""
    return {folder for folder in folders if f"`{folder}/`" not in text}


def test_the_architecture_names_every_folder_of_the_product_on_two_screens() -> None:
    text = (ROOT / ARCHITECTURE).read_text(encoding="utf-8")
    files = [path.relative_to(ROOT) for top in PRODUCT for path in (ROOT / top).rglob("*.py")]
    folders = {path.parent.as_posix() for path in files if path.name == "__init__.py"}
    assert len(folders) > 30
    assert unnamed(text, folders | {"deploy", "benchmarks", "docs", "tests"}) == set()
    assert len(text.splitlines()) <= TWO_SCREENS
    assert max(map(len, text.splitlines())) <= 120


def test_a_folder_without_a_sentence_is_seen() -> None:
    assert unnamed("`cluster/cell/` is the engine.", {"cluster", "cluster/cell"}) == {"cluster"}


def walks(text: str) -> dict[str, list[tuple[int, str, str]]]:
    """By title, the stops of each walk: number, file, name."""
    section = text[text.index("## Three walks") :]
    parts = re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL)
    stop = re.compile(r"\((\d+)\) `([\w/]+\.py)::([\w.]+)`")
    return {title: [(int(number), path, name) for number, path, name in stop.findall(walk)] for title, walk in parts}


def missteps(stops: list[tuple[int, str, str]]) -> list[str]:
    """Numbers out of order, hops that stay where they are, and places that are not there."""
    wrong = [f"{number} stands at {place}" for place, (number, _, _) in enumerate(stops) if number != place]
    wrong += [f"{number} is no hop" for (_, before, _), (number, path, _) in pairwise(stops) if before == path]
    there = {path: names_in(path) for _, path, _ in stops if (ROOT / path).exists()}
    return wrong + [f"{path}::{name} is not there" for _, path, name in stops if name not in there.get(path, ())]


def test_the_walks_lead_from_file_to_file_and_grow_no_longer() -> None:
    found = walks((ROOT / ARCHITECTURE).read_text(encoding="utf-8"))
    assert {title: missteps(stops) for title, stops in found.items()} == {title: [] for title in MOST_HOPS}
    assert {title: stops[-1][0] for title, stops in found.items() if stops[-1][0] > MOST_HOPS[title]} == {}


def test_a_walk_that_stumbles_is_seen() -> None:
    engine = "cluster/cell/engine.py"
    text = f"""## Three walks

### One
- (0) `{engine}::Engine` to (1) `{engine}::Engine.run`, (3) `cluster/cell/journal.py::Diary`,
  (3) `cluster/motor.py::Motor`.
"""
    assert missteps(walks(text)["One"]) == [
        "3 stands at 2",
        "1 is no hop",
        "cluster/cell/journal.py::Diary is not there",
        "cluster/motor.py::Motor is not there",
    ]
