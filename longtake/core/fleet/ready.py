"""The ready list of one worker: ops that may run now, the most urgent first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import NamedTuple

from longtake.core.work import SessionId, Ticket

_SLACK_ENTRIES = 64
"""So many dead heap entries are tolerated before the heap is made anew."""


class Urgency(NamedTuple):
    """How urgent an op is: the smallest is dispatched first."""

    deadline_s: float
    virtual_time: float
    block: int
    commit_last: bool
    step: int


class ReadyList(dict[Ticket, Urgency]):
    """Ops that may run now, with the urgency that they were last given; only its own methods may change it."""

    __slots__ = ("_heap", "_queued")

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[Urgency, int, Ticket]] = []
        """Entries are not removed when their op is: one that the list does not confirm is skipped."""
        self._queued = 0

    @property
    def heap_length(self) -> int:
        """Entries of the heap, dead ones too: what the list takes in memory."""
        return len(self._heap)

    @property
    def has_patient(self) -> bool:
        """Whether an op without a deadline is ready."""
        return any(urgency.deadline_s == math.inf for urgency in self.values())

    def put(self, ticket: Ticket, urgency: Urgency) -> None:
        """Put an op on the list, or give one that is there its present urgency."""
        if self.get(ticket) == urgency:
            return
        self[ticket] = urgency
        self._queued += 1  # of two equally urgent ops the one that became ready first goes first
        if len(self._heap) > 2 * len(self) + _SLACK_ENTRIES:
            self._heap = [entry for entry in self._heap if self.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (urgency, self._queued, ticket))

    def most_urgent(self, now: Callable[[Ticket], Urgency]) -> Ticket:
        """The op that goes first, by its urgency now; the list must not be empty. It stays on the list.

        An op that has become less urgent since it was queued goes back into the heap, so the cost does not grow with
        the length of the list. One that has become more urgent is put again when its session is looked at as a whole,
        by the next segment that leaves at the latest.
        """
        while True:
            queued, _, ticket = self._heap[0]
            if self.get(ticket) != queued:
                heapq.heappop(self._heap)
                continue
            urgency = now(ticket)
            if urgency <= queued:
                return ticket
            heapq.heappop(self._heap)
            self.put(ticket, urgency)

    def drop(self, ticket: Ticket) -> None:
        """Take one op off the list."""
        del self[ticket]
        if not self:
            self._heap.clear()

    def drop_session(self, session: SessionId) -> None:
        """Take all ops of a session off the list."""
        for ticket in [ticket for ticket in self if ticket.session == session]:
            del self[ticket]
        if not self:
            self._heap.clear()
