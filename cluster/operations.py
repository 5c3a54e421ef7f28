"""What operators ask of a running server: its status, and what its workers do for a session."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.engine import Engine
from cluster.offer import Offer
from cluster.responses import worker_message
from longtake.core.errors import Lack, NoCapacity
from longtake.core.schedule import Kind
from longtake.core.session import SessionView
from longtake.core.work import SessionId
from monitoring.timeline import Observer, OpSpan
from protos.longtake.v1 import longtake_pb2 as pb

RETRY_S = 5.0
WIRE_KINDS: dict[Kind, pb.OpKind] = {
    Kind.DENOISE: pb.OP_KIND_DENOISE,
    Kind.COMMIT: pb.OP_KIND_COMMIT,
    Kind.DECODE: pb.OP_KIND_DECODE,
}


class Operations:
    """Answers operators for one engine, since its front end was made."""

    def __init__(self, engine: Engine, offer: Offer) -> None:
        self._engine = engine
        self._offer = offer
        self._started_at_s = engine.now_s()

    def status(self, sessions: Sequence[SessionView]) -> pb.GetStatusResponse:
        """The cell as it is; `sessions` are the open ones."""
        now_s, deadline_s = self._engine.now_s(), self._engine.scheduler.draining.deadline_s
        return pb.GetStatusResponse(
            workers=map(worker_message, self._engine.scheduler.workers()),
            sessions=len(sessions),
            max_sessions=self._offer.limits.max_sessions,
            draining=self._engine.draining.is_set(),
            drains_in_s=None if deadline_s == math.inf else max(0.0, deadline_s - now_s),
            uptime_s=self._since_start_s(now_s),
        )

    def observe(self, session: SessionId) -> Observer:
        """Somebody who watches the ops of an open session; NoCapacity if as many do as may."""
        count, limit = self._engine.timeline.observers(session), self._offer.wire.max_watchers
        if count >= limit:
            raise NoCapacity(f"{count} observe the ops of session {session}, the most allowed", RETRY_S, Lack.OBSERVERS)
        return self._engine.timeline.observe(session)

    def span(self, span: OpSpan) -> pb.OpSpan:
        """An op as it goes over the wire: its times count from the start of the server."""
        return pb.OpSpan(
            kind=WIRE_KINDS[span.kind],
            step=span.step,
            block=span.block,
            worker_id=span.worker,
            batch=span.batch,
            dispatched_at_s=self._since_start_s(span.dispatched_s),
            done_at_s=self._since_start_s(span.done_s),
            seconds=span.seconds,
        )

    def _since_start_s(self, now_s: float) -> float:
        return now_s - self._started_at_s
