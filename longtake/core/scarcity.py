"""What somebody is told for whom there is no room: what is short, in numbers, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What is short, in numbers."""

    of: str
    """Who has too little of it: a worker, or `cell`, `tenant`, a session."""
    unit: str
    """What is counted, for instance `share of time` or `pages`."""
    needed: float
    free: float
    limit: float | None = None
    """What may be taken in all; None where it is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scarcity:
    """Something has run out: what a program can do about it."""

    retry_after_s: float | None = None
    """When the same request may be met; None: waiting does not help."""
    shortage: Shortage | None = None
    fast_instead: bool = False
    """Whether the same stream would be let in, or would wait for its turn, if it asked for pace FAST."""

    @property
    def advice(self) -> str:
        """What to do, as a sentence; empty if there is nothing to say."""
        wait = "" if self.retry_after_s is None else f"Try again in {_in_words(self.retry_after_s)}"
        if not self.fast_instead:
            return f"{wait}." if wait else ""
        return f"{wait}, or choose pace fast." if wait else "Choose pace fast."


def _in_words(seconds: float) -> str:
    """A time in the unit that it is usually told in, rounded up."""
    for unit, unit_s in (("s", 1), ("min", 60)):
        if seconds < 120 * unit_s:
            return f"{math.ceil(seconds / unit_s)} {unit}"
    return f"{math.ceil(seconds / 3600)} h"
