"""The queue of events before the engine; putting one in never waits, and neither does taking one by hand."""

from __future__ import annotations

from collections import deque

from cluster.cell.signal import Signal
from longtake.core.events import Event


class Inbox:
    """Events in the order in which they came; both ends are on one thread.

    `Engine.run` waits for them with `get`. Whoever drives an engine by hand asks with `take`, and needs no event loop.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._filled = Signal()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)
        self._filled.set()

    def take(self) -> Event | None:
        """The oldest event; None if none waits."""
        return self._events.popleft() if self._events else None

    async def get(self) -> Event:
        """The oldest event, as soon as there is one; one task may wait."""
        while not self._events:
            await self._filled.wait()
        return self._events.popleft()
