"""What blocks read after recaches, frame by frame: written from the paper and what its code does, not from the core.

LongLive v1 (arXiv 2509.22622). W frames in the window, k sinks, c the first frame of the block before which that is.
A reference (Knot Forcing, arXiv 2512.21734) takes a part of the window, is read by all, and comes first: W is the rest.
Its frames are -r .. -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.recipe import Recipe


@dataclass(frozen=True)
class Recached:
    """One recache: which frames are made again, and what is read for each block of them."""

    frames: list[int]
    reads: dict[int, list[int]]
    """By block."""


def before(recipe: Recipe) -> list[int]:
    """The frames of the reference."""
    return list(range(-recipe.context.reference_frames, 0))


def left(recipe: Recipe) -> int | None:
    """What the reference leaves of the window."""
    return None if recipe.window_frames is None else recipe.window_frames - len(before(recipe))


def fixed(recipe: Recipe) -> int:
    """How many slots do not take turns: those of the sinks, and of what was folded, which is called by the frames that
    lay there first."""
    return recipe.sink_frames + recipe.context.memory_frames


def in_order(recipe: Recipe, frames: Sequence[int], sinks: Sequence[int]) -> list[int]:
    """Frames as their keys are presented: sinks first, the others by the places in which they take turns."""
    window = left(recipe)
    if window is None:
        return sorted({*before(recipe), *frames})
    first = fixed(recipe)
    others = [frame for frame in frames if frame not in sinks]
    place = {frame: (frame - first) % (window - first) for frame in others}
    assert len(set(place.values())) == len(others), "two frames are in one place"
    return [*before(recipe), *sorted(set(frames) & set(sinks)), *sorted(others, key=place.__getitem__)]


def sinks_after(recipe: Recipe, recaches: Sequence[int]) -> list[int]:
    """The sinks after recaches before these blocks."""
    sinks = list(range(fixed(recipe)))
    window = left(recipe)
    if window is None or recipe.cues.change not in (CueRule.WINDOW, CueRule.JOINT) or recipe.cues.keep_sinks:
        return sinks
    for block in sorted(recaches):
        first = recipe.blocks.first_frame(block)
        sinks = [frame - min(first, window) + first if first > window else frame for frame in range(len(sinks))]
    return sinks


def read_by(recipe: Recipe, block: int, recaches: Sequence[int]) -> list[int]:
    """What a block reads, its own frames among it, after recaches before these blocks, its own or earlier ones."""
    if block < 0:
        return before(recipe)
    window, end, sinks = left(recipe), recipe.blocks.own(block).stop, sinks_after(recipe, recaches)
    if window is None or end <= window:
        return in_order(recipe, range(end), sinks)
    ring = range(end - (window - fixed(recipe)), end)
    return in_order(recipe, [*(frame for frame in sinks if frame < ring.start), *ring], sinks)


def recached(recipe: Recipe, block: int, earlier: Sequence[int]) -> Recached:
    """What the recache before `block` does, after those before `earlier` blocks."""
    size, window, k = recipe.blocks.frames, left(recipe), recipe.sink_frames
    c, rule = recipe.blocks.first_frame(block), recipe.cues.change
    if rule is CueRule.FULL or window is None:
        blocks = list(range(block))
        if rule is CueRule.JOINT:
            return Recached(list(range(c)), {each: in_order(recipe, list(range(c)), []) for each in blocks})
        return Recached(list(range(c)), {each: read_by(recipe, each, []) for each in blocks})
    kept: list[int] = []
    if k and c <= window:
        first = 0
    elif k and recipe.cues.keep_sinks:
        kept, first = list(range(k)), c - (window - k)
    elif k:
        first = c - window
    else:
        first = c - window
    if rule is CueRule.WINDOW and (not k or kept):  # only what the coming block still reads
        first += size
    first = max(0, first)
    # Whole blocks: all that the window holds of it, or, one after the other, all of which it holds a part.
    oldest = recipe.blocks.block_of(first)
    if rule is CueRule.JOINT and recipe.blocks.first_frame(oldest) < first:
        oldest += 1
    made = list(range(recipe.blocks.first_frame(oldest), c))
    sinks = sinks_after(recipe, [*earlier, block])
    reads = {}
    for each in range(oldest, block):
        own = made if rule is CueRule.JOINT else [frame for frame in made if frame < recipe.blocks.own(each).stop]
        reads[each] = in_order(recipe, [*kept, *own], sinks)
    return Recached(made, reads)
