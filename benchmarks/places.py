"""Where frames stand on the time axis, by the papers: written once more, for whoever must know it before the core does.

Absolute: a frame by its number. Cyclic (Ca2-VDM): by its number modulo the period. Listed (LongLive's infinite
attention): what a block reads, put in the order of time and counted from 0; keys are stored without their time.
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


def standing(recipe: Recipe, own: Sequence[int], seen: Sequence[int]) -> Standing:
    """The places of a block with these own frames that reads `seen`, its own among them, all frames of its window."""
    match recipe.positions.plain():
        case "absolute":
            return Standing([*own], [*own], [])
        case {"cyclic": int(period)}:
            fixed = [frame - frame // period * period for frame in own]
            return Standing(fixed, fixed, [])
        case "listed":
            in_time = sorted(seen)  # sinks are the oldest of all
            return Standing([*map(in_time.index, own)], [0 for _ in own], [*map(in_time.index, seen)])
        case other:
            raise NotImplementedError(f"nobody has written down what {other} means")
