"""What a recipe cannot ask of its reference: the part of the table of contradictions that is about it."""

from __future__ import annotations

from longtake.core.recipe.positions import Cyclic, Numbering
from longtake.core.recipe.rule import Described, Rule


def _has_one(of: Described) -> bool:
    return of.context.reference_frames > 0


RULES_OF_REFERENCES = (
    Rule(
        name="a reference where blocks step together",
        first=("reference_frames",),
        second=("level",),
        is_broken=lambda recipe: _has_one(recipe) and recipe.joint is not None,
        why="there a lane is whole between two iterations only, and there is none before the first",
    ),
    Rule(
        name="a reference beside cuts",
        first=("reference_frames",),
        second=("cut",),
        is_broken=lambda recipe: _has_one(recipe) and recipe.cues.cut,
        why="where a stream is cut, what its blocks see of earlier shots is all that they see beside sinks",
    ),
    Rule(
        name="a reference in the way",
        first=("positions",),
        second=("reference_frames",),
        is_broken=lambda recipe: _has_one(recipe) and isinstance(recipe.positions.stream, Cyclic),
        why="the reference keeps its place or runs ahead of all, and later frames come round to it",
    ),
    Rule(
        name="a place for no reference",
        first=("reference_lead",),
        second=("reference_frames",),
        is_broken=lambda recipe: recipe.positions.reference_lead > 0 and not _has_one(recipe),
        why="nothing runs ahead",
    ),
    Rule(
        name="a reference that runs ahead of a list",
        first=("reference_lead",),
        second=("positions",),
        is_broken=lambda recipe: recipe.positions.reference_lead > 0 and recipe.positions.stream is Numbering.LISTED,
        why="where places are counted over what a block reads, the reference is the first of it",
    ),
    Rule(
        name="a stride without a lead",
        first=("reference_stride",),
        second=("reference_lead",),
        is_broken=lambda recipe: recipe.positions.reference_stride > 1 and not recipe.positions.reference_lead,
        why="only a reference that runs ahead goes on",
    ),
)
"""In the order in which they are told."""
