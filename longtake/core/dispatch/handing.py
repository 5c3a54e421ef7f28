"""Handing over: a session leaves for another server, and stays whole here until it is known to be there.

Theory of operation. What another server makes of a session is what it was when it was frozen: its record, its cues with
their blocks, and latents. Blocks and segments that are made here after that are the same bits there. A cue that gets a
block after that would be known here alone, so a frozen session gives none: its cues wait, without an answer, for which
a client that goes on elsewhere asks again. The session ends when it is handed over. If that does not come within a
minute, or is called off, the cues get their blocks here and it goes on as if nothing had been.
"""

from __future__ import annotations

from longtake.core.adoption import Freeze, HandOver, Thaw
from longtake.core.cell import Cell
from longtake.core.dispatch.leaving import Leaving
from longtake.core.effects import Effect
from longtake.core.endings import Ending
from longtake.core.errors import Unavailable, WrongState
from longtake.core.sessions import cues
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId

FROZEN_S = 60.0
"""A session that was frozen and neither handed over nor thawed is thawed after so long."""
REASON = "it goes on at another server"


class HandingOver:
    """Freezes sessions, thaws them, and lets them go."""

    def __init__(self, cell: Cell, leaving: Leaving) -> None:
        self._cell = cell
        self._leaving = leaving
        self._thaws_s: dict[SessionId, float] = {}
        """When each frozen session is thawed by itself, the soonest first; some may have ended."""

    def apply(self, session: Session, event: Freeze | Thaw | HandOver, *, now_s: float) -> list[Effect]:
        """Do what the event asks for; WrongState or Unavailable if it cannot be."""
        match event:
            case Freeze():
                return self._freeze(session, now_s)
            case Thaw():
                return self._thaw(session)
            case HandOver():
                return self._hand_over(session)

    def _freeze(self, session: Session, now_s: float) -> list[Effect]:
        if not session.is_opened:
            raise WrongState("session_id: the stream has not begun, so there is nothing of it to hand over")
        if session.state is State.FINISHING:
            raise WrongState("session_id: the server drains and the stream ends with the blocks begun")
        _check_alone(session)
        session.is_frozen = True
        self._thaws_s.pop(session.id, None)
        self._thaws_s[session.id] = now_s + FROZEN_S
        return []

    def _thaw(self, session: Session) -> list[Effect]:
        self._thaws_s.pop(session.id, None)
        return cues.thaw(session) if session.is_frozen else []

    def _hand_over(self, session: Session) -> list[Effect]:
        if not session.is_frozen:
            raise WrongState(f"session_id: the session was not exported with hand_over in the last {FROZEN_S:g} s")
        _check_alone(session)
        del self._thaws_s[session.id]
        return self._leaving.end(session, Ending.MOVED, REASON)

    def tick(self, *, now_s: float) -> list[Effect]:
        """Thaw the sessions that were to be handed over and were not."""
        effects: list[Effect] = []
        while self._thaws_s and (first := next(iter(self._thaws_s.items())))[1] <= now_s:
            session = self._cell.sessions.get(first[0])
            if session is None or session.state is State.CLOSING:
                del self._thaws_s[first[0]]
            else:
                effects += self._thaw(session)
        return effects


def _check_alone(session: Session) -> None:
    """Unavailable while a fork and the session that it forks need each other: that is over within a few blocks."""
    if session.kin.depends:
        raise Unavailable("the session still depends on the one that it forks; try again")
    if session.kin.forks:
        raise Unavailable("a fork still depends on the session; try again")
