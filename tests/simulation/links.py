"""Links: ordered streams that delay, stall and can be cut; only a cut loses anything, and only the end of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from tests.simulation.agenda import Agenda

T = TypeVar("T")


class Pipe(Generic[T]):
    """One direction of a link."""

    def __init__(self, agenda: Agenda, deliver: Callable[[T], None], delay_s: Callable[[], float]) -> None:
        """`delay_s` draws how long a message is on its way, if those before it have arrived by then."""
        self._agenda = agenda
        self._deliver = deliver
        self._delay_s = delay_s
        self._messages: deque[T] = deque()
        self._stalled_until_s = 0.0
        self._is_cut = False
        self.empty_at_s = 0.0
        """When what is on its way will have arrived, unless it stalls."""

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, message: T) -> None:
        """Put a message on its way; nothing if the link is cut."""
        if not self._is_cut:
            self._messages.append(message)
            self.empty_at_s = max(self.empty_at_s, self._agenda.now_s + self._delay_s())
            self._agenda.at(self.empty_at_s, self._arrive)

    def stall(self, until_s: float) -> None:
        """Let nothing arrive until then."""
        self._stalled_until_s = max(self._stalled_until_s, until_s)

    def cut(self, kept: int = 0) -> None:
        """Take no more; of what is on its way only the first `kept` messages arrive."""
        self._is_cut = True
        while len(self._messages) > kept:
            self._messages.pop()

    def _arrive(self) -> None:
        if self._stalled_until_s > self._agenda.now_s:
            self._agenda.at(self._stalled_until_s, self._arrive)
        elif self._messages:  # fewer than arrivals were noted, if the link was cut
            self._deliver(self._messages.popleft())
