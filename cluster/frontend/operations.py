"""What operators ask of a running server: its status, and what its workers do for a session."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.cell.engine import Engine
from cluster.frontend.offer import Offer
from cluster.frontend.recipes import named_recipe
from cluster.frontend.responses import WIRE_PACES, WIRE_ROLES, session_message, worker_message
from longtake.core.errors import Lack, NoCapacity
from longtake.core.fleet.worker import WorkerView
from longtake.core.flow import Pace
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.sessions.life import State
from longtake.core.sessions.views import SessionView
from longtake.core.work import SessionId
from longtake.v1 import longtake_pb2 as pb
from monitoring.folding.timeline import Observer, OpSpan
from workers.messages import Heartbeat

RETRY_S = 5.0
_PLAYING = (State.RUNNING, State.FINISHING)
"""Sessions in other states send nothing, so their newest segment says nothing about now."""
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
        now_s, drains_at_s = self._engine.now_s(), self._engine.drains_at_s
        draining = self._engine.scheduler.draining
        vitals = self._engine.vitals()
        scheduler = self._engine.scheduler
        views, limit = scheduler.workers(), scheduler.cell.limit
        queued = sum(view.state is State.QUEUED for view in sessions)
        least = limit.least
        return pb.GetStatusResponse(
            workers=[self._worker(view, vitals.get(view.worker, Heartbeat())) for view in views],
            sessions=len(sessions) - queued,
            sessions_queued=queued,
            max_sessions=self._offer.limits.max_sessions,
            draining=self._engine.is_draining,
            drains_in_s=None if drains_at_s == math.inf else max(0.0, drains_at_s - now_s),
            draining_for_s=None if draining.began_s == math.inf else now_s - draining.began_s,
            uptime_s=self._since_start_s(now_s),
            cell=self._offer.cell,
            totals=[self._totals(pace, sessions) for pace in Pace],
            forwards_per_block=Graph(self._offer.recipe).forwards_per_block,
            limit_blocks_per_s=None if least is None else least.blocks_per_s,
            limited_by="" if least is None else least.name,
            stages=[pb.Stage(role=WIRE_ROLES[one.role], blocks_per_s=one.blocks_per_s) for one in limit.stages],
            engine_busy_s=self._engine.step_s.total,
            sessions_late=scheduler.cell.load_limit.late,
            reservable=scheduler.cell.load_limit.share if scheduler.cell.load_limit.is_lowered else None,
        )

    def recipes(self) -> list[pb.NamedRecipe]:
        """The recipes that streams can name, with what they cost the workers that are here."""
        cell, offer = self._engine.scheduler.cell, self._offer
        return [named_recipe(each, cell, most_given=offer.max_given_pictures(each.name)) for each in offer.recipes]

    def session(self, view: SessionView) -> pb.Session:
        """What is told of an open session, except whose it is."""
        message = session_message(view)
        message.recipe = self._offer.recipe_named(view.recipe).name
        counts = self._engine.tally.streams.open.get(view.session)
        if counts is not None:
            message.pictures_sent = counts.pictures
            message.age_s = self._engine.now_s() - counts.opened_at_s
            slack_s = counts.slack_at(self._engine.now_s()) if view.state in _PLAYING else counts.slack_s
            if slack_s is not None:
                message.slack_s = slack_s
        return message

    def _worker(self, view: WorkerView, vitals: Heartbeat) -> pb.Worker:
        message = worker_message(view)
        counts = self._engine.tally.fleet.workers[view.worker]
        message.busy_s = counts.busy_since_joined_s
        message.ops = counts.done_since_joined
        message.passes = counts.passes_since_joined
        message.host_memory_bytes = vitals.host_bytes
        return message

    def _totals(self, pace: Pace, sessions: Sequence[SessionView]) -> pb.PaceTotals:
        streams = self._engine.tally.streams
        counts = streams.paces[pace]
        here = [view for view in sessions if view.pace is pace and view.state is not State.QUEUED]
        playing = [view.session for view in here if view.state in _PLAYING]
        now_s = self._engine.now_s()
        slacks_s = (streams.open[session].slack_at(now_s) for session in playing if session in streams.open)
        return pb.PaceTotals(
            pace=WIRE_PACES[pace],
            sessions=len(here),
            blocks=counts.blocks,
            late_blocks=counts.late_blocks,
            pictures=counts.pictures,
            bytes=counts.segment_bytes,
            opened=counts.opened,
            refused=counts.refusals,
            least_slack_s=min((slack_s for slack_s in slacks_s if slack_s is not None), default=None),
        )

    def observe(self, session: SessionId) -> Observer:
        """A new observer of the ops of an open session; NoCapacity if as many watch as are allowed."""
        count, limit = self._engine.timeline.observers(session), self._offer.wire.max_watchers
        if count >= limit:
            shortage = Shortage(of=session, unit="observers", needed=1, free=0, limit=limit)
            why = f"{count} observe the ops of session {session}, as many as may"
            raise NoCapacity(why, Scarcity(retry_after_s=RETRY_S, shortage=shortage), Lack.OBSERVERS)
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
