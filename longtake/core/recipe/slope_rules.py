"""What a recipe cannot ask of a slope: the part of the table of contradictions that is about the weight of distance."""

from __future__ import annotations

from longtake.core.recipe.positions import Cyclic, Numbering
from longtake.core.recipe.rule import Described, Rule


def _has_one(of: Described) -> bool:
    return of.positions.slope > 0


def _stays_behind(of: Described) -> bool:
    """Whether something is read for as long as a stream goes on from further and further away."""
    stays = of.sink_frames or of.context.shot_frames or of.context.reference_frames
    return of.positions.stream is Numbering.ABSOLUTE and not of.positions.reference_lead and stays > 0


RULES_OF_SLOPES = (
    Rule(
        name="a distance that comes round",
        first=("slope",),
        second=("positions",),
        is_broken=lambda recipe: _has_one(recipe) and isinstance(recipe.positions.stream, Cyclic),
        why="where places come round, an older frame may stand behind a newer one, and a distance says nothing of age",
    ),
    Rule(
        name="a distance without an end",
        first=("slope",),
        second=("positions", "sink_frames", "shot_frames", "reference_frames"),
        is_broken=lambda recipe: _has_one(recipe) and _stays_behind(recipe),
        why="what stays while the stream goes on would be further away with every block, and soon weigh nothing; "
        'places that are "listed" keep it as far away as the window is long',
    ),
    Rule(
        name="a distance of what runs ahead",
        first=("slope",),
        second=("reference_lead",),
        is_broken=lambda recipe: _has_one(recipe) and recipe.positions.reference_lead > 0,
        why="the reference stands behind all that is read, so it would weigh the more the further away it is",
    ),
    Rule(
        name="a distance from what is later",
        first=("slope",),
        second=("both_ways",),
        is_broken=lambda recipe: _has_one(recipe) and recipe.context.both_ways,
        why="of the blocks that a block reads which come later, those would weigh most that have the most noise",
    ),
)
"""In the order in which they are told."""
