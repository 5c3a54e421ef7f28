"""How long the ops of one worker take, and how slow that is."""

from __future__ import annotations

_MEMORY = 64
"""Ops over which a worker's time is averaged: so many that a hiccup moves no lane elsewhere."""
_CALIBRATION_WEIGHT = 8
"""A calibrated time counts as much as this many ops."""
_TRUSTED = 20
"""After this many ops an average says whether the worker is slow."""


class Timing:
    """Moving averages of what a worker says of its time."""

    __slots__ = ("_chain_length", "_count", "_is_calibrated", "op_s", "pass_s", "passage_s", "slowness")

    def __init__(self, forward_s: float, chain_length: int = 1) -> None:
        """`forward_s` is what the worker said on joining, 0 if it said nothing; an op passes through so many."""
        self._chain_length = chain_length
        self.op_s = forward_s
        """What one op costs the worker: its share of a forward, or the full decode of a block; 0: unknown.

        For a chain it is what the op costs its slowest worker: the chain can take another op that often.
        """
        self.pass_s = forward_s
        """The time that one op waits for: that of the whole forward that it shares."""
        self.passage_s = self.pass_s * chain_length
        """How long one op takes from end to end, with those that share its forward; 0: unknown."""
        self.slowness = 1.0
        """The times of its dispatches over what the fleet takes for as many ops: a batch makes no worker fast."""
        self._is_calibrated = forward_s > 0
        self._count: float = _CALIBRATION_WEIGHT if forward_s else 0

    @property
    def is_trusted(self) -> bool:
        """Whether enough is known to call the worker slow."""
        return self._is_calibrated or self._count >= _TRUSTED

    def fold(self, seconds: float, ops: int = 1, *, cost: float = 1.0, usual_s: float = 0.0) -> None:
        """Fold the time of a dispatch of so many ops into the averages; 0 seconds say nothing.

        `cost` is that of such an op over that of one which the averages are of: so they are right for a worker whose
        ops differ, whatever the mixture. `usual_s` is what the fleet takes for as many of them; 0: not known.
        """
        if seconds > 0:
            self._count = min(self._count + cost, _MEMORY)
            self.slowness += cost * ((seconds / usual_s if usual_s else 1.0) - self.slowness) / self._count
            self.op_s += (seconds / ops - cost * self.op_s) / self._count
            self.pass_s += (seconds - cost * self.pass_s) / self._count
            self.passage_s = self.pass_s * self._chain_length
