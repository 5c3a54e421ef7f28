"""Idle sessions: who generates nothing, and for how long."""

from __future__ import annotations

import heapq

from longtake.core.cell import Cell
from longtake.core.effects import Effect
from longtake.core.errors import InternalFault
from longtake.core.facts import Stalled
from longtake.core.sessions.census import is_stalled
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId


class Idle:
    """The grace time of sessions that could be parked."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._due_s: dict[SessionId, float] = {}
        """When a session that generates nothing is to be parked."""
        self._timers: list[tuple[float, SessionId]] = []
        """Heap over `_due_s`; an entry that it does not confirm is stale."""

    def note(self, session: Session, *, now_s: float) -> list[Effect]:
        """Look whether the session generates nothing and could be parked: then its grace time begins."""
        stalled = is_stalled(session)
        if not stalled and not (session.state is State.PAUSED and session.is_at_rest):
            self._due_s.pop(session.id, None)
        elif session.id not in self._due_s:
            self.look_again(session.id, at_s=now_s + self._cell.limits.park_after_s)
            return [Stalled(session=session.id)] if stalled else []
        return []

    def due(self, *, now_s: float) -> list[Session]:
        """The sessions whose grace time is over, each once."""
        found = []
        while self._timers and self._timers[0][0] <= now_s:
            at_s, session_id = heapq.heappop(self._timers)
            if self._due_s.get(session_id) == at_s:
                del self._due_s[session_id]
                found.append(self._cell.sessions[session_id])
        return found

    def look_again(self, session: SessionId, *, at_s: float) -> None:
        """Make the session due at this time, if it is idle until then."""
        self._due_s[session] = at_s
        heapq.heappush(self._timers, (at_s, session))

    def forget(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        self._due_s.pop(session, None)

    def check(self) -> None:
        """State that only sessions which exist are due; InternalFault names the others."""
        gone = self._due_s.keys() - self._cell.sessions.keys()
        if gone:
            raise InternalFault(f"sessions that have ended are still to be parked: {sorted(gone)}")
