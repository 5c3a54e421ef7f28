"""Where frames stand on the time axis, by the papers: written once more, for whoever must know it before the core does.

Absolute: a frame by its number. Cyclic (Ca2-VDM): by its number modulo the period. Listed (LongLive's infinite
attention): what a block reads, put in the order of time and counted from 0; keys are stored without their time.

The reference's frames are -r .. -1. It is the oldest of all; with a lead (Knot Forcing, arXiv 2512.21734, "running
ahead") it stands at the first of the places lead, lead + stride, lead + 2 stride, … that no frame which is read has
reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from longtake.core.recipe.recipe import Recipe


class Standing(NamedTuple):
    """The places that one forward works with."""

    queries: list[int]
    """Of the block's own frames."""
    keys: list[int]
    """Of the same, as their keys are stored."""
    read: list[int]
    """Of each frame that is read, in the order of reading; empty if keys are stored with their time."""


def running(recipe: Recipe) -> tuple[int, int]:
    """The lead and the stride of a reference."""
    return recipe.positions.reference_lead, recipe.positions.reference_stride


def standing(recipe: Recipe, own: Sequence[int], seen: Sequence[int]) -> Standing:
    """The places of a block with these own frames that reads `seen`, its own among them, all frames of its window."""
    count, lead, stride = recipe.context.reference_frames, *running(recipe)
    match recipe.positions.plain():
        case "absolute" if lead:
            ahead = lead
            while ahead <= max(seen):
                ahead += stride
            place = {frame: frame if frame >= 0 else ahead + count + frame for frame in seen}
            return Standing([place[frame] for frame in own], [0 for _ in own], [place[frame] for frame in seen])
        case "absolute":
            return Standing([count + frame for frame in own], [count + frame for frame in own], [])
        case {"cyclic": int(period)}:
            fixed = [frame - frame // period * period for frame in own]
            return Standing(fixed, fixed, [])
        case "listed":
            in_time = sorted(seen)  # sinks are the oldest of all
            return Standing([*map(in_time.index, own)], [0 for _ in own], [*map(in_time.index, seen)])
        case other:
            raise NotImplementedError(f"nobody has written down what {other} means")
