"""Ticks: the passing of time as events on the loop, often enough for what waits, and never in quick succession."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LONGEST_TICK_S = 0.1
"""So long after one tick the next one comes at the latest: loads are evened out, idle sessions parked."""
SHORTEST_TICK_S = 0.02
"""So long after one tick the next one comes at the earliest, when a playback clock asks for it; far below the time of a
block."""


class Ticks:
    """Calls `tick` with the present time, from `begin` to `end`."""

    def __init__(self, now_s: Callable[[], float], tick: Callable[[float], None]) -> None:
        self._now_s = now_s
        self._tick = tick
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = self._next_s = now_s()

    def begin(self) -> None:
        """Tick now, and go on."""
        self._last_s = self._now_s()
        self._tick(self._last_s)
        self._at(self._last_s + LONGEST_TICK_S)

    def wanted(self, at_s: float) -> None:
        """Tick at this time, if that is sooner than otherwise."""
        if at_s < self._next_s:
            self._at(max(at_s, self._last_s + SHORTEST_TICK_S))

    def end(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _at(self, at_s: float) -> None:
        self.end()
        self._next_s = at_s
        self._timer = asyncio.get_running_loop().call_later(at_s - self._now_s(), self.begin)
