"""What is true of all sessions and workers together after every event."""

from __future__ import annotations

from collections.abc import Mapping

from longtake.core.errors import InternalFault
from longtake.core.fleet.worker import Worker
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, WorkerId


def check(
    sessions: Mapping[SessionId, Session],
    workers: Mapping[WorkerId, Worker],
    homes: Mapping[tuple[SessionId, int], WorkerId],
) -> None:
    """Pages, slots and counts; `homes` says where moving lanes are to be. InternalFault names what is broken."""
    existing = list(sessions.values())
    for worker in workers.values():
        worker.check(existing, homes)
    for session in existing:
        flying = sum(
            owner == session.id
            for worker in workers.values()
            for dispatch in worker.in_flight
            for owner, _ in dispatch.ops
        )
        if flying != session.in_flight:
            raise InternalFault(f"session {session.id} counts {session.in_flight} ops in flight, workers {flying}")
