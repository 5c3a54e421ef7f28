"""The oracle of folded memory: lanes as lists of frames, of which the oldest become one, as SoulX-LiveAct writes it.

Written from its paper and from what its code was seen to do (ConvKV): before a block for which the window has no room,
in every layer and at every level, the tokens of the memory and of the frames that leave are one sequence by age, and
each group of k frames is compressed by a depthwise convolution whose kernel and stride are k. Keys are taken as they
are before any rotation. Shape suffixes as in oracle.py.

A server turns keys by rows and columns when it stores them, and has to turn them back; to have its bits the oracle does
as much to what it kept bare (`there_and_back`). Without that it is right to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import Attend
from tests.workers.unturned import UnturnedLanes, factors, listed, turned
from workers.models.api import Denoiser, Inputs, TextKV
from workers.models.wan.dit import WanModel

Weights = Callable[[int], tuple[Tensor, Tensor] | None]
"""For each layer the weights [E, 1, k] of the convolutions of keys and of values; None: all are 1 / k."""
Grouping = Callable[[Sequence[int], int], list[list[int]]]
"""Which of these frames, by age, become one, in groups of so many."""


def neighbours(frames: Sequence[int], k: int) -> list[list[int]]:
    """As on one device: one after the other."""
    return [list(frames[start : start + k]) for start in range(0, len(frames), k)]


def compressed(frames_BTND: Sequence[Tensor], weight_E1K: Tensor | None) -> Tensor:
    """The tokens of k frames in a row, of which each k neighbours become one: as many as a frame has."""
    k, row_BTND = len(frames_BTND), torch.cat(list(frames_BTND), 1)
    _, tokens, heads, channels = row_BTND.shape
    made = []
    for first in range(0, tokens, k):
        total = torch.zeros_like(row_BTND[:, 0])
        for place in range(k):
            weight = torch.tensor(1 / k) if weight_E1K is None else weight_E1K[:, 0, place].view(heads, channels)
            product = row_BTND[:, first + place] * weight
            total = total + product if place else product
        made.append(total)
    return torch.stack(made, 1)


def there_and_back(k_BTND: Tensor, rows: int) -> Tensor:
    """Keys turned by rows and columns, and back: what rounding leaves of them."""
    cos_T1R, sin_T1R = factors(0, rows, k_BTND.shape[1], k_BTND.shape[-1] // 2)
    there = turned(k_BTND, 0, rows)
    even, odd = there[..., 0::2], there[..., 1::2]
    back = torch.empty_like(there)
    back[..., 0::2] = even * cos_T1R + odd * sin_T1R
    back[..., 1::2] = odd * cos_T1R - even * sin_T1R
    return back


@dataclass
class FoldingLanes(UnturnedLanes):
    """Lanes with a memory behind their sinks. It is named by the frames in whose slots it lies."""

    sinks: int = 0
    """Frames of `sink_frames` that are no memory."""
    k: int = 0
    weights: Weights = lambda _: None
    grouping: Grouping = neighbours
    touch: Callable[[Tensor, int], Tensor] = there_and_back
    begun: dict[str, int] = field(default_factory=dict)
    """The first frame of the block that each lane has begun last."""

    @staticmethod
    def of(model: Denoiser, recipe: Recipe, attention: Attend) -> FoldingLanes:
        """Those of a recipe."""
        memory = recipe.context.memory_frames
        return FoldingLanes(
            model, recipe.window_frames, recipe.sink_frames + memory, attention, placing=listed,
            sinks=recipe.sink_frames, k=recipe.memory.fold_frames,
        )  # fmt: skip

    def inputs(self, lane: str, first: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Inputs:
        """See ContiguousLanes; what leaves the window is folded before the first forward of a block in its lane."""
        if self.begun.get(lane) != first:
            self.begun[lane] = first
            self._fold(lane, first, x_BFCHW)
        return super().inputs(lane, first, x_BFCHW, timestep, text)

    def _fold(self, lane: str, first: int, x_BFCHW: Tensor) -> None:
        assert self.window_frames is not None and isinstance(self.model, WanModel)
        end, room = first + x_BFCHW.shape[1], self.window_frames - self.sink_frames
        if end <= self.window_frames:
            return
        rows = x_BFCHW.shape[-2] // self.model.config.patch_size[1]
        memory = list(range(self.sinks, self.sink_frames))
        leaving = list(range(first - room, end - room))
        for layer, frames in self.lanes[lane].items():
            weights = self.weights(layer) or (None, None)
            made = []
            for group in self.grouping([*memory, *leaving], self.k):
                keys = [self.touch(frames[frame][0], rows) for frame in group]
                values = [frames[frame][1] for frame in group]
                made.append((compressed(keys, weights[0]), compressed(values, weights[1])))
            frames.update(zip(memory, made, strict=True))
