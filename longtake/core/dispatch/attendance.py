"""Attendance: a client is not its call. A session outlives the call that it was opened with, and waits for another one.

Theory of operation. While no call has a session it begins no block: those begun are finished, then it is parked by the
rules for whoever generates nothing. A later call may attach at any time, also while the one before still has the
session (a connection can be dead for long before the server notices): then that one has lost it, and what follows from
its end changes nothing. A session that was never opened has no client that could come back, so it ends with its call.
"""

from __future__ import annotations

import heapq
from collections import deque

from longtake.core.carry.rebuilding import rebuild_slot
from longtake.core.cell import Cell
from longtake.core.dispatch.leaving import Leaving
from longtake.core.dispatch.offering import Offers
from longtake.core.dispatch.opening import opened
from longtake.core.effects import Effect, Forget
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, SegmentGone, Unavailable, WrongState
from longtake.core.events import Attach, Detach
from longtake.core.openings import ClientAway, Resumed
from longtake.core.sessions import cues
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, SessionId

READ_S = 120.0
"""For so long a client may come back for what it lacks of a stream that was begun to its end by another engine."""


class Attendance:
    """Lets clients go, takes them back, and knows who was away for too long."""

    def __init__(self, cell: Cell, offers: Offers, leaving: Leaving) -> None:
        self._cell = cell
        self._offers = offers
        self._leaving = leaving
        self._absences: list[tuple[float, SessionId, ConnectionNumber, float]] = []
        """When each absence is over, the call that it began with, and how long it may last: a heap."""
        self._images: deque[tuple[float, SessionId, ConnectionNumber]] = deque()
        """The same for when the images of who is away are given up."""
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
        self._expect(session, event.connection, self._cell.limits.detached_s, now_s=now_s)
        return [ClientAway(session=session.id)]

    def attach(self, session: Session, event: Attach, *, now_s: float) -> list[Effect]:
        """Another call has the session; what was consumed counts as acknowledged. CallerFault if it cannot be."""
        if not session.is_opened:
            raise WrongState("open.resume_token: the stream has not begun")
        first = session.kin.first_block
        segment = first if event.cursor is None else event.cursor + 1
        most = session.sent_at_most
        if not first <= segment <= most:
            sent = f"unset, or {first} to {most - 1}, the segments sent so far"
            allowed = sent if most > first else "unset: no segment was sent"
            raise InvalidField("open.cursor", event.cursor, allowed)
        held = event.held_from is not None and segment >= event.held_from
        effects = [] if held else self.resend_from(session, segment, now_s=now_s)
        if segment > first:
            session.flow = session.flow.acknowledge(segment - 1, emitted=most)
        if session.presence.is_away and session.playing:
            session.start_clock(now_s=now_s)
        session.settle_past(segment)
        session.presence.connection = event.connection
        self._lost.pop(session.id, None)
        answer = opened(session, segment)
        resumed = Resumed(session=session.id, connection=event.connection, opened=answer, held=held)
        return [*effects, resumed, *([] if held else cues.told_again(session, segment))]

    def check_room(self, session: Session) -> None:
        """NoCapacity if the session cannot be let in beside those that are here."""
        self._leaving.waiting.check_room(session)

    def adopted(self, session: Session, *, now_s: float) -> None:
        """The session came from another engine, parked and without its client, who may have all of it."""
        self._leaving.parking.adopt(session)
        limit_s = self._cell.limits.detached_s
        self._expect(session, FIRST_CONNECTION, min(limit_s, READ_S) if session.is_begun else limit_s, now_s=now_s)

    def resend_from(self, session: Session, segment: int, *, now_s: float) -> list[Effect]:
        """Have the segments from this one on made (again); OutOfRange or Unavailable if that cannot be."""
        decodes = session.graph.decodes
        if segment >= max(session.progress.done[decodes], session.shown_from):
            session.shown_from = segment
            return []
        oldest = self._cell.fleet.retention(session.graph).oldest_segment(session.kept)
        if segment < oldest:
            raise SegmentGone(segment - 1 if segment else None, oldest)
        session.shown_from = segment
        match session.state:
            case State.RUNNING | State.PAUSED | State.FINISHING:
                return self._decode_again(session, segment, now_s=now_s)
            case State.PARKED:
                effects = self._leaving.parking.drop_images(session, slot_only=True)
                session.make_again(segment)
                return effects
            case _:
                raise Unavailable("the state of the stream is on its way to another place; try again")

    def _decode_again(self, session: Session, segment: int, *, now_s: float) -> list[Effect]:
        """Go back to a segment at once: the slot is given up, and taken again, behind what its worker was handed."""
        worker = self._cell.workers[session.place.decoder]
        worker.ready.drop_session(session.id)
        worker.disown(session)
        session.make_again(segment)
        prepare = rebuild_slot(self._cell, session, now_s=now_s)
        return [Forget(worker=worker.id, session=session.id, version=None), prepare]

    def tick(self, *, now_s: float) -> list[Effect]:
        """End the sessions whose clients were away for too long, and give up the images of those that are away."""
        effects: list[Effect] = []
        while self._absences and self._absences[0][0] <= now_s:
            _, session_id, connection, lasting_s = heapq.heappop(self._absences)
            session = self._absent(session_id, connection)
            if session is not None:
                del self._lost[session_id]
                why = f"its client was away for {lasting_s:g} s"
                effects += self._leaving.end(session, Ending.ABANDONED, why)
        while self._images and self._images[0][0] <= now_s:
            _, session_id, connection = self._images.popleft()
            session = self._absent(session_id, connection)
            if session is not None and session.state is State.PARKED:
                effects += self._leaving.parking.drop_images(session)
            elif session is not None:  # it is not parked yet
                self._images.append((now_s + max(1.0, self._cell.limits.detached_images_s), session_id, connection))
        return effects

    def _absent(self, session_id: SessionId, connection: ConnectionNumber) -> Session | None:
        """The session, if it is open and its client is away since this call ended."""
        session = self._cell.sessions.get(session_id)
        is_away = self._lost.get(session_id) == connection
        return session if is_away and session is not None and session.state is not State.CLOSING else None

    def _expect(self, session: Session, connection: ConnectionNumber, lasting_s: float, *, now_s: float) -> None:
        """The client of the session, which had this call last, is away from now on, and may be for so long."""
        self._lost[session.id] = connection
        heapq.heappush(self._absences, (now_s + lasting_s, session.id, connection, lasting_s))
        self._images.append((now_s + self._cell.limits.detached_images_s, session.id, connection))
