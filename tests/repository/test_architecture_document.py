"""docs/architecture.md names files and functions: each of them exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("docs/architecture.md", "docs/life-of-a-block.md")


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


def test_a_file_and_a_function_that_do_not_exist_are_found() -> None:
    engine = "cluster/cell/engine.py"
    text = f"`{engine}::Engine.run` and `{engine}::Engine.fly`, `cluster/motor.py`, `engine.py::walk`"
    assert missing(text) == ["cluster/cell/engine.py::Engine.fly", "cluster/motor.py", "engine.py::walk"]


def test_every_configuration_key_that_is_named_exists() -> None:
    from cluster.config import ServerConfig

    text = (ROOT / DOCUMENTS[0]).read_text(encoding="utf-8")
    keys = re.findall(r"`((?:limits|cluster|listen|metrics|auth|tls|link|http)\.[a-z_]+)`", text)
    assert keys
    for key in keys:
        section, name = key.split(".")
        if name != "py":
            assert name in type(getattr(ServerConfig(), section)).model_fields, key
