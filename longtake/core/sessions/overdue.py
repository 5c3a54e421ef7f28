"""Overdue blocks: what should have left by now and has not, noticed while it is so and not only once it leaves.

Theory of operation. When a segment of a stream with a playback clock leaves, it is known when the next one is due. Such
times lie in a heap, and every tick looks at those that have passed. A block that has left meanwhile is not overdue, nor
is one whose clock was stopped (a pause, a client that is away) or that its client gives no credit for.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from longtake.core.facts import Overdue
from longtake.core.sessions.life import GENERATING
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId


class DueTimes:
    """When the next block of each stream with a playback clock is due."""

    def __init__(self, sessions: Mapping[SessionId, Session]) -> None:
        self._sessions = sessions
        self._due: list[tuple[float, SessionId, int]] = []

    def expect(self, session: Session) -> None:
        """A segment of the session has left: the next one is expected in time, if there is to be one."""
        if session.flow.playing_since_s is not None and not session.is_delivered:
            due_s = session.flow.due_s(session.emitted, geometry=session.geometry)
            heapq.heappush(self._due, (due_s, session.id, session.emitted))

    def passed(self, *, now_s: float) -> list[Overdue]:
        """The blocks that have become overdue since the last call, each once."""
        found = []
        while self._due and self._due[0][0] < now_s:
            due_s, name, block = heapq.heappop(self._due)
            if self.awaits(name, block):
                found.append(Overdue(session=name, block=block, due_s=due_s))
        return found

    def awaits(self, name: SessionId, block: int) -> bool:
        """Whether this block is the next to leave of a stream whose clock runs, and its client gives credit for it."""
        session = self._sessions.get(name)
        if session is None or session.state not in GENERATING or session.emitted != block:
            return False
        return session.flow.playing_since_s is not None and session.flow.has_credit(block)
