"""What lies in the window of a stream whose memory is folded: written from SoulX-LiveAct's paper and code, not from the
core.

There a lane is a row of slots: sinks, memory, frames by age. Before a block that has no room in it the memory and the
oldest frames, as many as make groups of k, are compressed group by group into the slots of the memory, the others move
up behind it, and the block takes the last slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.memory import MemoryPolicy, OnLeave
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan

T = TypeVar("T")


def slots(recipe: Recipe, frame: Callable[[int], T], fold: Callable[[Sequence[T]], T]) -> Iterator[list[T]]:
    """What lies in the slots as each block is denoised, by what stands for a frame and for frames that became one."""
    context, k = recipe.context, recipe.memory.fold_frames
    window, first, last = context.window_frames or 0, context.sink_frames, context.sink_frames + context.memory_frames
    row: list[T] = []
    for block in count():
        own = [frame(number) for number in recipe.blocks.own(block)]
        if len(row) + len(own) > window:
            folded = row[first : first + k * context.memory_frames]
            groups = [folded[start : start + k] for start in range(0, len(folded), k)]
            row = [*row[:first], *map(fold, groups), *row[first + len(folded) :]]
            assert last <= len(row) == window - len(own)
        row += own
        yield list(row)


def folding(
    level: Level = Level.INPUT, *, steps: int = 2, sinks: int = 1, memory: int = 1, k: int = 4, window: int = 9,
    frames: int = 3, first: int | None = None,
) -> Recipe:  # fmt: skip
    """A recipe that folds."""
    entries = tuple(1000 - 1000 * step // steps for step in range(steps))
    return Recipe(
        steps=StepPlan(ladder=entries, shift=5.0),
        blocks=BlockPlan(frames=frames, first_frames=first),
        context=Context(level=level, window_frames=window, sink_frames=sinks, memory_frames=memory),
        positions=Positions(stream=Numbering.LISTED),
        memory=MemoryPolicy(on_leave=OnLeave.FOLD, fold_frames=k),
    )


LIVEACT = folding(steps=3, sinks=2, memory=2, k=5, window=14, frames=8, first=6)
"""The sizes of the paper."""
SIZES = {
    "paper": LIVEACT,
    "pocket": folding(),
    "nothing but memory": folding(sinks=0, memory=3, k=2, window=6),
    "of several blocks": folding(sinks=1, memory=6, k=2, window=27, frames=6, first=3),
    "frame-wise": folding(memory=1, k=2, window=5, frames=1),
}
"""Some of those that are defined."""
