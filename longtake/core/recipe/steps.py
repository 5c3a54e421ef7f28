"""The step plan: which noise levels a block passes through on its way from noise to finished latents."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from longtake.core.errors import InvalidField, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The steps of all blocks."""

    ladder: tuple[int, ...]
    """Entries of the training schedule of 1000 steps, strictly falling."""
    shift: float
    """The flow shift."""

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[InvalidField]:
        ladder = self.ladder
        if not ladder or any(not 1 <= step <= 1000 for step in ladder):
            yield InvalidField("recipe.steps", list(ladder), "one or more whole numbers from 1 to 1000")
        elif any(later >= earlier for earlier, later in pairwise(ladder)):
            yield InvalidField("recipe.steps", list(ladder), "strictly falling numbers")
        if not 0 < self.shift < float("inf"):
            yield InvalidField("recipe.shift", self.shift, "a number above 0")

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


@lru_cache  # asked for with every op
def _shifted(steps: tuple[int, ...], shift: float) -> tuple[float, ...]:
    return tuple(_float32(shift * (d / 1000) / (1 + (shift - 1) * (d / 1000))) for d in steps)


@lru_cache
def _thousandfold(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_float32(1000 * sigma) for sigma in sigmas)


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
