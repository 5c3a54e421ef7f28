"""Counts of values by size, for metrics: plain numbers, because they are written for every block and read seldom."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

from monitoring.declarations import BY_NAME


class Histogram:
    """Counts of values by bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are upper bounds, ascending, without infinity."""
        self._bounds = tuple(bounds)
        self.counts = [0] * (len(self._bounds) + 1)
        """The count of each bucket alone; the last one has no upper bound."""
        self.total = 0.0
        """Sum of all values."""

    @classmethod
    def of(cls, name: str) -> Self:
        """An empty histogram with the buckets of the metric `name`; KeyError if it is not declared."""
        return cls(BY_NAME[name].buckets)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value that occurred `times` times."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bounds as Prometheus writes them, each with how many values do not exceed it."""
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        below, buckets = 0, []
        for bound, count in zip(bounds, self.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        return buckets
