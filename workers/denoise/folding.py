"""Folding: pages of a lane become one, in every layer that is held here, before a forward that reads it."""

from __future__ import annotations

from longtake.core.work import FoldWork
from workers.denoise.kv import PageMemory
from workers.models.api import Denoiser


class Folding:
    """Does what orders say is to be folded; it knows neither lanes nor recipes."""

    def __init__(self, denoiser: Denoiser, memory: PageMemory, grid: tuple[int, int]) -> None:
        """`grid` are the rows and columns of tokens in a frame."""
        self._denoiser = denoiser
        self._memory = memory
        self._grid = grid

    def fold(self, work: FoldWork) -> None:
        """Have pages become one. IndexError for one that is not in the pool; nothing is written if it fails."""
        index, memory = self._memory.index(work.reads), self._memory
        memory.check((work.write,))
        made = [
            self._denoiser.fold(layer, memory.of_layer(layer).index_select(1, index), self._grid)
            for layer in memory.shape.layers
        ]
        for layer, kv_ULND in zip(memory.shape.layers, made, strict=True):
            memory.of_layer(layer)[:, work.write] = kv_ULND
