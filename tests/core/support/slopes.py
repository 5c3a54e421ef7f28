"""The rules about slopes: what breaks each of them, what does not, and how the sides are named."""

from __future__ import annotations

from typing import Any

from longtake.core.recipe.context import Level
from longtake.core.recipe.positions import Cyclic, Numbering, Positions

LISTED = Positions(stream=Numbering.LISTED)
OF_SLOPES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "a distance that comes round": (
        {"slope": 0.1, "positions": Positions(stream=Cyclic(cyclic=1))},
        {"slope": 0.1, "positions": LISTED},
        ("recipe.slope = 0.1", "recipe.positions = { cyclic = 1 }"),
    ),
    "a distance without an end": (
        {"slope": 0.1, "window_frames": 2, "sink_frames": 1},
        {"slope": 0.1, "window_frames": 2, "sink_frames": 1, "positions": LISTED},
        ("recipe.slope = 0.1", "recipe.positions = absolute with recipe.sink_frames = 1"),
    ),
    "a distance of what runs ahead": (
        {"slope": 0.1, "window_frames": 2, "reference_frames": 1, "reference_lead": 8},
        {"slope": 0.1, "window_frames": 2, "reference_frames": 1, "positions": LISTED},
        ("recipe.slope = 0.1", "recipe.reference_lead = 8"),
    ),
    "a distance from what is later": (
        {"slope": 0.1, "level": Level.STAGGERED, "lag": 1, "window_frames": 2, "both_ways": True},
        {"slope": 0.1, "level": Level.STAGGERED, "lag": 1, "window_frames": 2},
        ("recipe.slope = 0.1", "recipe.both_ways = True"),
    ),
}
