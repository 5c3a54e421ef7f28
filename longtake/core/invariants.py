"""What is true of all sessions and workers together after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from longtake.core.cell import Cell
from longtake.core.errors import InternalFault
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, WorkerId


def check(cell: Cell, homes: Mapping[tuple[SessionId, int], WorkerId]) -> None:
    """Pages, slots and counts; `homes` says where moving lanes are to be. InternalFault names what is broken."""
    sessions = list(cell.sessions.values())
    for worker in cell.workers.values():
        worker.check(sessions, homes)
    flying = Counter(
        ticket.session
        for worker in cell.workers.values()
        for dispatch in worker.in_flight
        for ticket in dispatch.tickets
    )
    spoken_for = sum(session.journal_bytes for session in sessions)
    if spoken_for != cell.journal_bytes:
        raise InternalFault(f"sessions may need {spoken_for} bytes of the journal, {cell.journal_bytes} are counted")
    cell.texts.check(frozenset(cell.sessions))
    for session in sessions:
        _check_classes(cell, session)
        counted = session.progress.in_flight
        if flying[session.id] != counted:
            raise InternalFault(f"session {session.id} counts {counted} ops in flight, workers {flying[session.id]}")


def _check_classes(cell: Cell, session: Session) -> None:
    """All that a session holds is with workers of the classes that its state is of."""
    place, classes = session.place, session.classes
    lanes = {cell.workers[worker].numerics for worker in place.lanes if worker in cell.workers}
    decoder = {cell.workers[place.decoder].numerics} if place.decoder in cell.workers else set()
    if not (lanes <= {classes.lanes} and decoder <= {classes.decoder}):
        raise InternalFault(f"session {session.id} is of {classes}; its lanes are of {lanes}, its slot of {decoder}")
