"""The time between two calls of a stream."""

from __future__ import annotations

import random
from dataclasses import dataclass

import grpc

OUTAGES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Statuses of a call that broke; any other one says no."""
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
ATTEMPT_S = 10.0
"""An attempt to go on that is not answered for so long has failed."""


@dataclass(slots=True)
class Outage:
    """How long it may last, and how often the stream has tried to go on."""

    until_s: float
    attempt: int = 1

    def delay_s(self) -> float:
        """How long to wait before this attempt; a little less or more, so that clients of one server spread out."""
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self.attempt - 1, 16), LONGEST_DELAY_S)
        return delay_s * random.uniform(0.75, 1.25)
