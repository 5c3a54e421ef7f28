"""The step plan: which noise levels a block passes through on its way from noise to finished latents."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from longtake.core.errors import InvalidField, refuse

_ENTRIES = "whole numbers from 1 to 1000, strictly falling"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The steps of all blocks: a ladder, and which of its entries each block takes.

    A list of entries that a block takes begins with the first of the ladder and keeps its order. The first
    `first_blocks` blocks that are generated take `first` (what is given to a stream is not generated). The others take
    `usual`, and under load, when there is no time for that, the lists of `shed`.
    """

    ladder: tuple[int, ...]
    """Entries of the training schedule of 1000 steps, strictly falling."""
    shift: float
    """The flow shift."""
    usual: tuple[int, ...] = ()
    """What blocks take; empty: the whole ladder. That itself means the same, and becomes it."""
    first: tuple[int, ...] = ()
    """What the first blocks take instead, under any load; empty: as usual."""
    first_blocks: int = 0
    """How many blocks are first ones."""
    shed: tuple[tuple[int, ...], ...] = ()
    """What blocks take under load 1, 2, …: each list is shorter than the one before."""

    def __post_init__(self) -> None:
        refuse(self._wrong())
        if self.usual == self.ladder:
            object.__setattr__(self, "usual", ())

    def _wrong(self) -> Iterator[InvalidField]:
        ladder = self.ladder
        if not ladder or any(not 1 <= step <= 1000 for step in ladder):
            yield InvalidField("recipe.steps", list(ladder), "one or more whole numbers from 1 to 1000")
        elif any(later >= earlier for earlier, later in pairwise(ladder)):
            yield InvalidField("recipe.steps", list(ladder), "strictly falling numbers")
        if not 0 < self.shift < float("inf"):
            yield InvalidField("recipe.shift", self.shift, "a number above 0")
        for name, entries in (("usual_steps", self.usual), ("first_steps", self.first)):
            if not _falls(entries):
                yield InvalidField(f"recipe.{name}", list(entries), _ENTRIES)
        if self.first_blocks < 0:
            yield InvalidField("recipe.first_blocks", self.first_blocks, "0 or more blocks")
        told = [list(entries) for entries in self.shed]
        if any(not entries or not _falls(entries) for entries in self.shed):
            yield InvalidField("recipe.shed_steps", told, f"lists of {_ENTRIES}, none of them empty")
        elif any(len(later) >= len(earlier) for earlier, later in pairwise(self.shed)):
            yield InvalidField("recipe.shed_steps", told, "lists of which each is shorter than the one before")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise level of the input of each step, in [0, 1]: shift s / (1 + (shift - 1) s), s = step / 1000, float32."""
        return _shifted(self.ladder, self.shift)

    @property
    def timesteps(self) -> tuple[float, ...]:
        """What the model is told for each step: 1000 sigma, not rounded to whole numbers (float32)."""
        return _thousandfold(self.sigmas)

    def sigma_of(self, entry: int) -> float:
        """Noise level of one entry of the schedule, 0 to 1000, whether or not it is in the ladder."""
        return _shifted((entry,), self.shift)[0]

    def timestep_of(self, entry: int) -> float:
        """What the model is told for that entry."""
        return _thousandfold((self.sigma_of(entry),))[0]

    @property
    def usual_entries(self) -> tuple[int, ...]:
        """The entries that blocks take as a rule."""
        return self.usual or self.ladder

    @property
    def lists(self) -> tuple[tuple[int, ...], ...]:
        """Every list of entries that some block may take, each once."""
        first = (self.first,) if self.first and self.first_blocks else ()
        return tuple(dict.fromkeys((*first, self.usual_entries, *self.shed)))

    @property
    def most_load(self) -> int:
        """The highest load that changes anything."""
        return len(self.shed)

    def entries(self, block: int, load: int = 0) -> tuple[int, ...]:
        """The entries that `block`, counted from the first generated one, takes under a load of 0 to `most_load`.

        The first blocks have no load: all later ones look like them.
        """
        if block < self.first_blocks and self.first:
            return self.first
        return self.shed[load - 1] if load else self.usual_entries

    def indexes(self, entries: tuple[int, ...]) -> tuple[int, ...]:
        """The places of these entries in the ladder: the numbers of the steps."""
        return tuple(map(self.ladder.index, entries))


def _falls(entries: tuple[int, ...]) -> bool:
    """Whether these may be entries of a ladder, or there are none."""
    return all(1 <= step <= 1000 for step in entries) and all(later < earlier for earlier, later in pairwise(entries))


@lru_cache  # asked for with every op
def _shifted(steps: tuple[int, ...], shift: float) -> tuple[float, ...]:
    return tuple(_float32(shift * (d / 1000) / (1 + (shift - 1) * (d / 1000))) for d in steps)


@lru_cache
def _thousandfold(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_float32(1000 * sigma) for sigma in sigmas)


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
