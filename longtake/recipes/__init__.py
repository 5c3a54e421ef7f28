"""Recipes in files: those that ship, by name, and those of users, by path; it imports the core and longtake.net."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

from longtake.core.errors import InvalidField
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.table import NamedRecipe, read_recipe
from longtake.net.names import ALLOWED, is_name
from longtake.recipes.toml_reading import read_toml

SUFFIX = ".toml"
FIRST = "hiar"
"""What the pocket model was trained for."""
_FOLDER = files("longtake.recipes")


@cache
def shipped() -> dict[str, NamedRecipe]:
    """The recipes that ship, by name: `FIRST`, and the others by the size of their blocks and what a block costs."""
    found = (each for each in _FOLDER.iterdir() if each.name.endswith(SUFFIX))
    made = (read_recipe(tomllib.loads(each.read_text(encoding="utf-8")), _name(each.name)) for each in found)
    return {each.name: each for each in sorted(made, key=_order)}


def find_recipe(text: str, *, field: str) -> NamedRecipe:
    """A recipe that ships, by its name, or that of a file, by its path, which holds a `/` or ends in `.toml`.

    The recipe of a file is called as the file, without its ending. InvalidField, about `field`, if there is none; what
    is wrong in a file is told by its keys, as `read_recipe` tells it.
    """
    if "/" in text or text.endswith(SUFFIX):
        return recipe_in(Path(text), field=field)
    if text not in shipped():
        names = ", ".join(shipped())
        raise InvalidField(field, text, f"{names}, or the path of a file, such as ./mine{SUFFIX}")
    return shipped()[text]


def recipe_in(path: Path, *, field: str) -> NamedRecipe:
    """The recipe in a file; see `find_recipe`."""
    document = read_toml(path, field=field)
    name = _name(path.name)
    if not is_name(name):
        raise InvalidField(field, str(path), f"a file whose name, without {SUFFIX}, is that of a recipe: {ALLOWED}")
    return read_recipe(document, name)


def _name(file: str) -> str:
    return file.removesuffix(SUFFIX)


def _order(made: NamedRecipe) -> tuple[object, ...]:
    of = made.recipe
    return made.name != FIRST, -of.blocks.frames, -Graph(of).forwards_per_block, len(of.steps.lists), made.name
