"""Where frames stand on the time axis, by the papers: written once more, for whoever must know it before the core does.

Absolute: a frame by its number. Cyclic (Ca2-VDM): by its number modulo the period. Listed (LongLive's infinite
attention): what a block reads, put in the order of time and counted from 0; keys are stored without their time.

The reference's frames are -r .. -1. It is the oldest of all; with a lead (Knot Forcing, arXiv 2512.21734, "running
ahead") it stands at the first of the places lead, lead + stride, lead + 2 stride, … that no frame which is read has
reached.

With a slope, the logits of attention depend on the distance as well (FAR, arXiv 2503.19325, "FlexRoPE").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    weights: Sequence[Sequence[float]] = ()
    """What the logits of each own frame are changed by, for each frame that is read; empty: by nothing."""


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
            return turned(recipe, own, seen, {frame: frame if frame >= 0 else ahead + count + frame for frame in seen})
        case "absolute":
            return written(recipe, own, seen, {frame: count + frame for frame in seen})
        case {"cyclic": int(period)}:
            return written(recipe, own, seen, {frame: frame - frame // period * period for frame in seen})
        case "listed":
            in_time = sorted(seen)  # sinks are the oldest of all
            return turned(recipe, own, seen, {frame: in_time.index(frame) for frame in seen})
        case other:
            raise NotImplementedError(f"nobody has written down what {other} means")


def written(recipe: Recipe, own: Sequence[int], seen: Sequence[int], place: Mapping[int, int]) -> Standing:
    """What a block works with whose frames stand there, and whose keys are stored with their time."""
    fixed = [place[frame] for frame in own]
    return Standing(fixed, fixed, [], _weights(recipe, own, seen, place))


def turned(recipe: Recipe, own: Sequence[int], seen: Sequence[int], place: Mapping[int, int]) -> Standing:
    """The same if keys are turned as they are read."""
    weights = _weights(recipe, own, seen, place)
    return Standing([place[frame] for frame in own], [0 for _ in own], [place[frame] for frame in seen], weights)


def _weights(
    recipe: Recipe, own: Sequence[int], seen: Sequence[int], place: Mapping[int, int]
) -> Sequence[Sequence[float]]:
    """FlexRoPE: the logit of query i and key j gets slope (j - i), where i and j are the places of their frames."""
    slope = recipe.positions.slope
    return [[slope * (place[j] - place[i]) for j in seen] for i in own] if slope else ()
