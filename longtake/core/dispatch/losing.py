"""Losing: what becomes of sessions that had something with a worker that is gone.

Theory of operation. No session ends because a worker does. What it held of a session is rebuilt elsewhere from the
journal (carry/rebuilding.py), and the lanes and slots with other workers go on meanwhile as far as they can. Where
there is no room for it at once, the session gives up the rest of its place, is parked and waits: it returns before any
new one. The oldest sessions are looked at first, so that of those which do not fit any more it is the youngest that
wait, and never all of them that are a little late.

A fork that still depends on its parent has shown nothing. It gives up what it has, begins again once all that it forks
is done, and is rebuilt like any other.
"""

from __future__ import annotations

from longtake.core.carry.moving import Mover
from longtake.core.carry.parking import Parking
from longtake.core.carry.rebuilding import rebuild_lane, rebuild_slot
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import take_again
from longtake.core.dispatch.leaving import Leaving
from longtake.core.effects import Effect, Notice, Recovered
from longtake.core.errors import NoCapacity, Unavailable
from longtake.core.events import Ending
from longtake.core.fleet.worker import Worker
from longtake.core.sessions import cues
from longtake.core.sessions.life import GENERATING, State
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity

_NO_ROOM = "a worker was lost, and there is no room for what it held: the stream goes on as soon as there is"


class Losses:
    """Decides how each session goes on that a lost worker held something of."""

    def __init__(self, cell: Cell, parking: Parking, mover: Mover, leaving: Leaving) -> None:
        self._cell = cell
        self._parking = parking
        self._mover = mover
        self._leaving = leaving

    def strike(self, session: Session, worker: Worker, reason: str, *, now_s: float) -> list[Effect]:
        """`worker`, which held something of the session or was to answer for it, is gone."""
        session.prompts.drop_worker(worker.id)
        match session.state:
            case State.CLOSING:
                return self._leaving.leave_if_quiet(session)
            case State.QUEUED | State.PARKED | State.CLOSED:
                return []  # an image was lost at most, and what it held is rebuilt when the session returns
            case State.PARKING | State.RESTORING:
                return self._give_up(session, reason, now_s=now_s)
            case State.OPENING | State.RUNNING | State.PAUSED | State.FINISHING:
                if session.kin.depends:
                    return self._give_up(session, reason, now_s=now_s)
                return self._go_on(session, worker, reason, now_s=now_s)

    def _go_on(self, session: Session, lost: Worker, reason: str, *, now_s: float) -> list[Effect]:
        """Have what was lost rebuilt where there is room, or give up the rest."""
        effects: list[Effect] = []
        for child in self._dependants(session):  # they share pages where the session's lanes were
            effects += self._give_up(child, reason, now_s=now_s)
        lanes, slot = session.place.lost_lanes, session.place.has_lost_slot
        try:
            take_again(self._cell, session)
        except (NoCapacity, Unavailable):
            return effects + self._give_up(session, reason, now_s=now_s)
        session.struck(now_s)
        retention = self._cell.fleet.retention(session.graph)
        for lane in lanes:
            rebuild_lane(session, lane, retention)
        if slot:
            effects.append(rebuild_slot(session, retention))
            if lost.joined.ability.encodes_text:  # what it was to encode
                decoder = self._cell.workers[session.place.decoder]
                effects += self._cell.texts.ask(cues.unknown(session), decoder, now_s=now_s)
        return effects + recovered(session, now_s=now_s)

    def _give_up(self, session: Session, reason: str, *, now_s: float) -> list[Effect]:
        """Give up what is left of its place, and those of the forks that depend on it: it waits for another."""
        if session.state is State.FINISHING:
            return self._leaving.end(session, Ending.LOST, reason)
        session.struck(now_s)
        effects = [*self._mover.ended(session), *self._parking.give_up(session)]
        if not session.kin.depends:
            effects.append(Notice(session=session.id, text=_NO_ROOM))
        for child in self._dependants(session):
            effects += self._give_up(child, reason, now_s=now_s)
        return effects

    def _dependants(self, session: Session) -> list[Session]:
        """The forks that depend on the session and have a place."""
        found = [self._cell.sessions.get(name) for name, _ in session.kin.forks]
        placed = (*GENERATING, State.OPENING, State.PARKING, State.RESTORING)
        return [child for child in found if child is not None and child.state in placed]


def recovered(session: Session, *, now_s: float) -> list[Effect]:
    """Tell that the session is whole again, if it was not and is."""
    if session.struck_s is None or session.state not in GENERATING or not session.progress.is_whole:
        return []
    told = Recovered(
        session=session.id,
        continuity=session.continuity,
        from_block=session.emitted,
        seconds=now_s - session.struck_s,
    )
    session.struck_s = None
    session.continuity = Continuity.EXACT
    return [told]
