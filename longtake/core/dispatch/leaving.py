"""Leaving: a session ends in two strides.

Theory of operation. It is told Closed at once and begins nothing more. Its pages and its slot become free when the last
op that names them has reported, and the last order about its images: only then nothing can write what somebody else has
been given.
"""

from __future__ import annotations

from longtake.core.carry.moving import Mover
from longtake.core.cell import Cell
from longtake.core.dispatch.waiting import WaitingRoom
from longtake.core.effects import Closed, DropJournal, Effect, Forget
from longtake.core.endings import Ending, Remains
from longtake.core.sessions.life import State, Trigger
from longtake.core.sessions.session import Session

_OF_FORKS = {
    Ending.LOST: Ending.LOST,
    Ending.FAILED: Ending.FAILED,
    Ending.DRAINED: Ending.DRAINED,
    Ending.KEPT: Ending.DRAINED,
}
"""How forks end that depend on a session which ends so; else nothing has failed, and they are orphaned."""


class Leaving:
    """Ends sessions."""

    def __init__(self, cell: Cell, waiting: WaitingRoom, mover: Mover) -> None:
        self._cell = cell
        self.waiting = waiting
        self.parking = waiting.parking
        self.mover = mover

    def end(self, session: Session, ending: Ending, reason: str) -> list[Effect]:
        """The session ends, and the forks that depend on it."""
        session.follow(Trigger.END)
        session.ending = ending
        session.is_to_encode = False
        effects: list[Effect] = [
            Closed(session=session.id, ending=ending, reason=reason, segments=session.segments_sent)
        ]
        for fork, _ in session.kin.forks:
            child = self._cell.sessions.get(fork)
            if child is not None and child.state is not State.CLOSING:
                why = _why_of_forks(child.kin.first_block, ending, reason)
                effects += self.end(child, _OF_FORKS.get(ending, Ending.ORPHANED), why)
        self.waiting.leave(session.id)
        self._cell.texts.forget(session.id)
        for worker in session.place.workers:
            if worker in self._cell.workers:
                self._cell.workers[worker].ready.drop_session(session.id)
                self._cell.workers[worker].clips.drop(session.id)
        return [*effects, *self.mover.ended(session), *self.leave_if_quiet(session)]

    def leave_if_quiet(self, session: Session) -> list[Effect]:
        """Free what an ended session holds, as soon as nothing that names it is in flight."""
        if session.progress.in_flight or self.parking.owes(session.id):
            return []
        session.follow(Trigger.QUIET)
        del self._cell.sessions[session.id]
        self._cell.journal_bytes -= session.journal_bytes
        self.waiting.look_again()
        effects = self.parking.leave(session.id)
        demands = self._cell.fleet.demands(session)
        for worker_id in session.place.workers:
            worker = self._cell.workers.get(worker_id)
            if worker is not None:
                worker.release(session, demands)
                self._cell.fleet.changed(worker)
                effects.append(Forget(worker=worker_id, session=session.id, version=None))
        return [*effects, DropJournal(session=session.id, remains=_remains(session))]


def _why_of_forks(first: int, ending: Ending, reason: str) -> str:
    because = reason or ("its client has left" if ending is Ending.CLIENT else ending.value)
    return f"the session it was forked from ended before block {first} was reached: {because}"


def _remains(session: Session) -> Remains:
    match session.ending:
        case Ending.KEPT:
            return Remains.ALL
        case Ending.COMPLETED:
            return Remains.UNREAD
        case _:
            return Remains.NOTHING
