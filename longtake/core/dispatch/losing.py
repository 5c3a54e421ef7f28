"""Losing: what becomes of sessions that had something with a worker that is gone.

Theory of operation. No session ends because a worker does. What it held of a session is rebuilt elsewhere from the
journal (carry/rebuilding.py), and the lanes and slots with other workers go on meanwhile as far as they can. Where
there is no room for it at once, the session gives up the rest of its place, is parked and waits: it returns before any
new one. What leaves is looked at first, as it makes room, then the oldest session; once one does not fit, a younger one
that was struck does not overtake it. So it is the youngest that wait, and never all of them that are a little late.

A fork that still depends on its parent has shown nothing. It gives up what it has, begins again once all that it forks
is done, and is rebuilt like any other.
"""

from __future__ import annotations

from typing import NamedTuple

from longtake.core.carry.rebuilding import rebuild_lane, rebuild_slot
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import take_again
from longtake.core.dispatch.leaving import Leaving
from longtake.core.effects import Effect, Notice, Recovered
from longtake.core.endings import Ending
from longtake.core.errors import NoCapacity, Unavailable
from longtake.core.events import OpFailed
from longtake.core.fleet.worker import Worker
from longtake.core.sessions import cues
from longtake.core.sessions.life import GENERATING, State
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.session import Session
from longtake.core.work import Ticket

_NO_ROOM = "a worker was lost, and there is no room for what it held ({}): the stream goes on as soon as there is"
_ANEW = "a worker was lost while the stream came to it: it goes on as soon as there is room"
_AGAIN = "a worker could not do what it was to do for this stream: it is tried once more, elsewhere if there is room"


class Failure(NamedTuple):
    """What follows when a worker could not do something."""

    effects: list[Effect]
    done: tuple[Ticket, ...]
    """The ops of the dispatch that are done."""
    again: list[Session]
    """The sessions that go on."""


class Losses:
    """Decides how each session goes on that a lost worker held something of."""

    def __init__(self, cell: Cell, leaving: Leaving) -> None:
        self._cell = cell
        self._leaving = leaving
        self._parking = leaving.parking
        self._mover = leaving.mover

    def lost(self, worker: Worker, reason: str, *, now_s: float) -> tuple[list[Effect], list[Session]]:
        """`worker`, whose dispatches are given up, is gone. Returned are also the sessions to be looked at again."""
        effects, moving = self._mover.lost(worker)
        effects += self._cell.texts.lost(worker.id)
        told, waiting = self._parking.lost(worker.id)
        effects += told
        names = worker.sessions | waiting
        struck = [session for name, session in self._cell.sessions.items() if name in names]  # the oldest first
        for session in struck:
            if session.place is not NOWHERE:
                session.place = session.place.without(worker.id)
        why = f"worker {worker.id} was lost: {reason}"
        lack = ""
        for session in sorted(struck, key=_goes_on):
            if session.id not in self._cell.sessions:  # a fork, gone with the session it depended on
                continue
            session.prompts.drop_worker(worker.id)
            if not _goes_on(session):
                effects += self._leave(session, why, now_s=now_s)
            elif lack and session.state is not State.FINISHING:
                effects += self._give_up(session, why, _NO_ROOM.format(lack), now_s=now_s)
            else:
                try:
                    effects += self._go_on(session, worker, now_s=now_s)
                except (NoCapacity, Unavailable) as error:
                    lack = lack or str(error)
                    effects += self._give_up(session, why, _NO_ROOM.format(error), now_s=now_s)
        there = {session.id: session for session in (*struck, *moving)}
        return effects, [session for name, session in there.items() if name in self._cell.sessions]

    def _leave(self, session: Session, reason: str, *, now_s: float) -> list[Effect]:
        """What a session needs that does not go on where it is."""
        match session.state:
            case State.CLOSING:
                return self._leaving.leave_if_quiet(session)
            case State.QUEUED | State.PARKED | State.CLOSED:
                return []  # an image was lost at most, and what it held is rebuilt when the session returns
            case _:
                return self._give_up(session, reason, _ANEW, now_s=now_s)

    def failed(self, event: OpFailed, tickets: tuple[Ticket, ...], *, now_s: float) -> Failure:
        """A dispatch, of which `tickets` count, or a preparation failed for the sessions that the event names.

        An op is tried once more elsewhere, then its session ends. What its worker was handed behind it counts no more,
        as it starts from what is not there.
        """
        effects: list[Effect] = []
        again = []
        for name in event.sessions:
            session = self._cell.sessions.get(name)
            own = [ticket for ticket in tickets if ticket.session == name]
            if event.sequence is None:
                self._parking.prepared(name)
            if session is None:
                continue
            if session.state is State.CLOSING:
                effects += self._leaving.leave_if_quiet(session) if event.sequence is None else []
            elif own:
                effects += self._try_again(session, own[0], event, now_s=now_s)
                tickets = tuple(ticket for ticket in tickets if ticket not in own)
                again.append(session)
            elif event.sequence is None:
                effects += self._leaving.end(session, Ending.FAILED, event.reason)
        return Failure(effects, tickets, again)

    def _try_again(self, session: Session, ticket: Ticket, event: OpFailed, *, now_s: float) -> list[Effect]:
        if session.failed == ticket.op or session.state is State.FINISHING:
            return self._leaving.end(session, Ending.FAILED, event.reason)
        session.failed, session.avoids = ticket.op, event.worker
        self._cell.workers[event.worker].disown(session)
        return self._give_up(session, event.reason, _AGAIN, now_s=now_s)

    def _go_on(self, session: Session, lost: Worker, *, now_s: float) -> list[Effect]:
        """Have what was lost rebuilt; NoCapacity or Unavailable if there is no room for it."""
        lanes, slot = session.place.lost_lanes, session.place.has_lost_slot
        take_again(self._cell, session)
        effects: list[Effect] = []
        for child in self._dependants(session):  # they share pages where the session's lanes were
            effects += self._give_up(child, f"worker {lost.id} was lost", _ANEW, now_s=now_s)
        session.struck(now_s)
        for lane in lanes:
            effects += rebuild_lane(self._cell, session, lane, now_s=now_s)
        if slot:
            effects.append(rebuild_slot(self._cell, session, now_s=now_s))
            if lost.joined.ability.encodes_text:  # what it was to encode
                decoder = self._cell.workers[session.place.decoder]
                effects += self._cell.texts.ask(cues.unknown(session), decoder, now_s=now_s)
        return effects + recovered(session, now_s=now_s)

    def _give_up(self, session: Session, reason: str, told: str, *, now_s: float) -> list[Effect]:
        """Give up what is left of its place, and those of the forks that depend on it: it waits for another."""
        if session.state is State.FINISHING:
            return self._leaving.end(session, Ending.LOST, reason)
        session.struck(now_s)
        effects = [*self._mover.ended(session), *self._parking.give_up(session)]
        if not session.kin.depends:
            effects.append(Notice(session=session.id, text=told))
        for child in self._dependants(session):
            effects += self._give_up(child, reason, told, now_s=now_s)
        return effects

    def _dependants(self, session: Session) -> list[Session]:
        """The forks that depend on the session and have a place."""
        found = [self._cell.sessions.get(name) for name, _ in session.kin.forks]
        placed = (*GENERATING, State.OPENING, State.PARKING, State.RESTORING)
        return [child for child in found if child is not None and child.state in placed]


def _goes_on(session: Session) -> bool:
    """Whether a session that lost something goes on with the rest, if there is room for what it lost."""
    is_placed = session.state in (*GENERATING, State.OPENING)
    return is_placed and not session.kin.depends


def recovered(session: Session, *, now_s: float) -> list[Effect]:
    """Tell that the session is whole again, if it was not and is."""
    if session.struck_s is None or session.state not in GENERATING or not session.progress.is_whole:
        return []
    seconds = now_s - session.struck_s
    continuity = session.recovered()
    return [Recovered(session=session.id, continuity=continuity, from_block=session.emitted, seconds=seconds)]
