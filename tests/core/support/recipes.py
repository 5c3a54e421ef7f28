"""Recipes by the fields of all their parts, for tests that change a few of them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan

SMALLEST = Recipe(
    steps=StepPlan(ladder=(1000,), shift=1.0),
    blocks=BlockPlan(frames=1),
    context=Context(level=Level.CLEAN, window_frames=1),
)

APART = [level for level in Level if level is not Level.STAGGERED]
"""The levels at which each op is a forward for itself."""


def altered(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with other values of these fields, each of its own or of one of its parts."""
    for name in ("steps", "blocks", "context", "cues", "positions", "memory"):
        part: Any = changes.get(name, getattr(recipe, name))
        own = {field.name: changes.pop(field.name) for field in fields(part) if field.name in changes}
        if own:
            changes[name] = replace(part, **own)
    return replace(recipe, **changes)  # type: ignore[arg-type]
