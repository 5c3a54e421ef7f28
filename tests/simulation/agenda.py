"""The one clock of a simulation: what is to happen, in the order of its time."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], object]


class Agenda:
    """A heap of events on a fake clock. What is due at the same time happens in the order in which it was noted."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._noted = 0

    def at(self, time_s: float, action: Action) -> None:
        """Do something at this time, or now if it has passed."""
        self._noted += 1
        heapq.heappush(self._heap, (max(time_s, self.now_s), self._noted, action))

    def after(self, delay_s: float, action: Action) -> None:
        """Do something so much later."""
        self.at(self.now_s + delay_s, action)

    def next(self) -> None:
        """Let the next thing happen; there must be one."""
        self.now_s, _, action = heapq.heappop(self._heap)
        action()
