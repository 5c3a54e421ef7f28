"""Attendance: a client is not its call. A session outlives the call that it was opened with, and waits for another one.

Theory of operation. While no call has a session it begins no block: those begun are finished, then it is parked by the
rules for whoever generates nothing. A later call may attach at any time, also while the one before still has the
session (a connection can be dead for long before the server notices): then that one has lost it, and what follows from
its end changes nothing. A session that was never opened has no client that could come back, so it ends with its call.
"""

from __future__ import annotations

from collections import deque

from longtake.core.cell import Cell
from longtake.core.dispatch.leaving import Leaving
from longtake.core.dispatch.offering import Offers
from longtake.core.dispatch.opening import opened
from longtake.core.effects import Effect
from longtake.core.errors import InvalidField, OutOfRange, WrongState
from longtake.core.events import Attach, Detach, Ending
from longtake.core.openings import ClientAway, Resumed
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import ConnectionNumber, SessionId


class Attendance:
    """Lets clients go, takes them back, and knows who was away for too long."""

    def __init__(self, cell: Cell, offers: Offers, leaving: Leaving) -> None:
        self._cell = cell
        self._offers = offers
        self._leaving = leaving
        self._absences: deque[tuple[float, SessionId, ConnectionNumber]] = deque()
        """When each absence is over, oldest first, and the call that it began with."""
        self._lost: dict[SessionId, ConnectionNumber] = {}
        """The sessions whose clients are away, with the call that was the last."""

    def detach(self, session: Session, event: Detach, *, now_s: float) -> list[Effect]:
        """Its call broke; if that still had the session, its client is away from now on."""
        if event.connection != session.presence.connection:
            return []
        if not session.is_opened or not self._cell.limits.detached_s:
            return self._leaving.end(session, Ending.CLIENT, "")
        session.presence.connection = None
        session.flow = session.flow.stopped()
        self._offers.withdraw(session)
        self._lost[session.id] = event.connection
        self._absences.append((now_s + self._cell.limits.detached_s, session.id, event.connection))
        return [ClientAway(session=session.id)]

    def attach(self, session: Session, event: Attach, *, now_s: float) -> list[Effect]:
        """Another call has the session; what was consumed counts as acknowledged. CallerFault if it cannot be."""
        if not session.is_opened:
            raise WrongState("open.resume_token: the stream has not begun")
        first = session.kin.first_block
        segment = first if event.cursor is None else event.cursor + 1
        if not first <= segment <= session.emitted:
            sent = f"unset, or {first} to {session.emitted - 1}, the segments sent so far"
            allowed = sent if session.emitted > first else "unset: no segment was sent"
            raise InvalidField("open.cursor", event.cursor, allowed)
        held = event.held_from is not None and segment >= event.held_from
        if not held and segment < session.emitted:
            resend_from(session, segment)
        if segment > first:
            session.flow = session.flow.acknowledge(segment - 1, emitted=session.emitted)
        if session.presence.is_away and session.playing:
            session.start_clock(now_s=now_s)
        session.presence.connection = event.connection
        self._lost.pop(session.id, None)
        answer = opened(session, segment)
        return [Resumed(session=session.id, connection=event.connection, opened=answer, held=held)]

    def abandoned(self, *, now_s: float) -> list[Session]:
        """The sessions whose clients were away for too long; each is named once."""
        found = []
        while self._absences and self._absences[0][0] <= now_s:
            _, session_id, connection = self._absences.popleft()
            if self._lost.get(session_id) == connection:
                del self._lost[session_id]
                session = self._cell.sessions.get(session_id)
                if session is not None and session.state is not State.CLOSING:
                    found.append(session)
        return found


def resend_from(session: Session, segment: int) -> None:
    """Have the segments from this one on made again, although they were sent; OutOfRange if that cannot be."""
    raise OutOfRange(segment - 1 if segment else None, session.emitted)
