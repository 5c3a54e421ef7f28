"""The scheduler: events in, effects out, for many sessions on many workers.

Theory of operation. Each session has a handful of chains (one per step and kind); in every chain the next op is a
candidate. After an event only the candidates of the session it touched are looked at again: one whose needs are met
joins the ready list of the one worker that can run it. A worker is handed the most urgent ready op as long as it has
fewer than two dispatches (one running, one queued), so that the link's round trip hides behind a forward. Links are
first in, first out, so an op may follow right behind one it needs on the same worker; only an op whose input latents
have to travel waits until they have arrived.

A session leaves in two strides: it is told Closed at once, and its pages and slot become free when the last op that
names them has reported.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.admission import Limits, admit
from longtake.core.errors import CallerFault, InternalFault, InvalidField, LongtakeError, Unavailable, UnknownSession
from longtake.core.events import (
    Ack,
    Close,
    Closed,
    ConditioningRef,
    Cue,
    CueAccepted,
    CueApplied,
    CueId,
    CueSuperseded,
    Dispatch,
    Drain,
    DropJournal,
    Effect,
    Emit,
    EncodeText,
    Ending,
    Event,
    Forget,
    Notice,
    OpDone,
    Open,
    Opened,
    OpFailed,
    Pause,
    Play,
    PrepareStream,
    Refused,
    RequestRefused,
    SessionId,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerId,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.flow import Pace
from longtake.core.geometry import Geometry
from longtake.core.recipe import Recipe
from longtake.core.schedule import Kind, Op, chains, input_is_in_lane, lane_of, needs
from longtake.core.session import Session, SessionView, State, Trigger, next_state, view
from longtake.core.work import work_for
from longtake.core.workers import InFlight, Worker, WorkerView

_QUEUE_DEPTH = 2
"""One running and one queued dispatch per worker (DESIGN section 5)."""


@dataclass(frozen=True, slots=True, order=True)
class _Urgency:
    """What is dispatched first: the smallest."""

    due_s: float
    virtual_time: float
    block: int
    commit_last: bool
    step: int


class Scheduler:
    """All decisions of one cell. Not thread-safe; `handle` is deterministic in the sequence of events."""

    def __init__(self, recipe: Recipe, geometry: Geometry, limits: Limits) -> None:
        self._recipe = recipe
        self._geometry = geometry
        self._limits = limits
        self._chains = tuple(chains(recipe))
        self._sessions: dict[SessionId, Session] = {}
        self._workers: dict[WorkerId, Worker] = {}
        self._virtual_clock = 0.0
        self._now_s = 0.0
        self._draining = False
        self._effects: list[Effect] = []

    # --- what others may read ---------------------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions that hold something, in the order they were opened."""
        return tuple(view(session) for session in self._sessions.values())

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that are joined, by id."""
        return tuple(self._workers[worker].view() for worker in sorted(self._workers))

    def check(self) -> None:
        """State the invariants of pages, slots and counts; InternalFault names the first one broken."""
        for worker in self._workers.values():
            worker.check(list(self._sessions.values()))
        for session in self._sessions.values():
            flying = sum(1 for worker in self._workers.values() for op in worker.in_flight if op.session == session.id)
            if flying != session.in_flight:
                raise InternalFault(f"session {session.id} counts {session.in_flight} ops in flight, workers {flying}")

    # --- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Effect]:
        """Decide what follows from `event`. Never raises for what a client or a worker may do."""
        self._now_s = max(self._now_s, event.now_s)
        self._effects = []
        match event:
            case OpDone():
                self._op_done(event)
            case Open():
                self._open(event)
            case WorkerJoined():
                self._worker_joined(event)
            case WorkerLost():
                self._worker_lost(event)
            case Drain():
                self._drain()
            case Tick():
                for session in list(self._sessions.values()):
                    if session.flow.pace is Pace.REALTIME:
                        self._advance(session)
            case _:
                self._session_event(event)
        return self._effects

    def _session_event(self, event: Cue | TextEncoded | StreamPrepared | Ack | Pause | Play | Close | OpFailed) -> None:
        session_id = event.conditioning.session if isinstance(event, TextEncoded) else event.session
        session = self._sessions.get(session_id)
        if session is None or session.state is State.CLOSING:
            if isinstance(event, Cue | Ack | Pause | Play):
                self._refuse(session_id, _cue_id(event), UnknownSession(session_id))
            elif isinstance(event, OpFailed):
                self._quieten(event)
            return
        try:
            self._apply(session, event)
        except CallerFault as error:
            self._refuse(session_id, _cue_id(event), error)

    def _apply(
        self, session: Session, event: Cue | TextEncoded | StreamPrepared | Ack | Pause | Play | Close | OpFailed
    ) -> None:
        match event:
            case Ack():
                session.flow = session.flow.acknowledge(event.segment, emitted=session.emitted)
            case Cue():
                self._cue(session, event)
            case TextEncoded():
                self._text_encoded(session, event)
            case StreamPrepared():
                session.header, session.media_type = event.header, event.media_type
                self._open_if_ready(session)
            case Pause():
                session.state = next_state(session.state, Trigger.PAUSE)
                session.flow = session.flow.stopped()
            case Play():
                session.state = next_state(session.state, Trigger.PLAY)
            case Close():
                self._end(session, event.ending, "")
            case OpFailed():
                self._report(event.worker, event.sequence)
                self._end(session, Ending.FAILED, event.reason)
                self._feed_if_joined(event.worker)
        self._advance(session)

    def _open(self, event: Open) -> None:
        try:
            if event.session in self._sessions:
                raise InvalidField("session", event.session, "an id that is not in use")
            if self._draining:
                raise Unavailable("the server is shutting down")
            place = admit(event, self._recipe, self._geometry, self._limits, self._workers, len(self._sessions))
        except LongtakeError as error:
            self._effects.append(Refused(session=event.session, error=error))
            return
        session = Session(
            request=event, recipe=self._recipe, geometry=self._geometry, place=place, flow=self._limits.flow_for(event)
        )
        self._sessions[session.id] = session
        for worker in place.workers:
            self._workers[worker].sessions.add(session.id)
        self._effects.append(
            PrepareStream(worker=place.decoder, session=session.id, slot=place.slot, settings=event.settings)
        )
        self._encode(session, 0, event.prompt)
        for request in event.cues:
            self._encode(session, session.timeline.ask(request), request.prompt)

    def _cue(self, session: Session, event: Cue) -> None:
        if session.timeline.pending_count >= self._limits.max_pending_cues:
            raise InvalidField(
                "cue", session.timeline.pending_count + 1, f"at most {self._limits.max_pending_cues} cues not yet shown"
            )
        session.target_block(event.request)  # refuse at once what is already too late
        self._encode(session, session.timeline.ask(event.request), event.request.prompt)

    def _encode(self, session: Session, version: int, prompt: str) -> None:
        ref = ConditioningRef(session=session.id, version=version)
        self._effects.append(EncodeText(worker=session.place.decoder, conditioning=ref, prompt=prompt))

    def _text_encoded(self, session: Session, event: TextEncoded) -> None:
        version = event.conditioning.version
        session.encoded.add(version)
        if event.notice:
            self._effects.append(Notice(session=session.id, text=event.notice))
        if session.state is State.OPENING:
            # Cues that came with Open take their blocks when all of them are known, so that none can come too late.
            self._open_if_ready(session)
        else:
            self._accept_cue(session, version)

    def _accept_cue(self, session: Session, version: int) -> None:
        request = session.timeline.waiting[version]
        try:
            block = session.target_block(request)
        except CallerFault as error:
            del session.timeline.waiting[version]
            self._refuse(session.id, request.cue, error)
            return
        earlier = session.timeline.take(version, block=block)
        self._effects.append(CueAccepted(session=session.id, cue=request.cue, block=block))
        if earlier is not None and earlier.cue is not None:
            self._effects.append(CueSuperseded(session=session.id, cue=earlier.cue, by=request.cue, block=block))

    def _open_if_ready(self, session: Session) -> None:
        wanted = {0, *session.timeline.waiting}
        if session.state is not State.OPENING or session.header is None or not wanted <= session.encoded:
            return
        session.state = next_state(session.state, Trigger.READY)
        session.virtual_time = self._virtual_clock
        self._effects.append(
            Opened(session=session.id, seed=session.request.seed, header=session.header, media_type=session.media_type)
        )
        for version in sorted(session.timeline.waiting):
            self._accept_cue(session, version)

    def _worker_joined(self, event: WorkerJoined) -> None:
        if event.worker in self._workers:
            self._worker_lost(WorkerLost(now_s=event.now_s, worker=event.worker, reason="it dialled in again"))
        self._workers[event.worker] = Worker.joined(event, self._recipe)

    def _worker_lost(self, event: WorkerLost) -> None:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        for flying in worker.in_flight:
            self._sessions[flying.session].in_flight -= 1
        for session_id in sorted(worker.sessions):
            session = self._sessions[session_id]
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
            else:
                self._end(session, Ending.LOST, f"worker {event.worker} was lost: {event.reason}")

    def _drain(self) -> None:
        self._draining = True
        for session in list(self._sessions.values()):
            if session.state is State.OPENING:
                self._end(session, Ending.DRAINED, "the server is shutting down")
                continue
            session.state = next_state(session.state, Trigger.DRAIN)
            if session.state is State.FINISHING:
                session.last_block = session.next_block - 1
                self._advance(session)

    def _op_done(self, event: OpDone) -> None:
        flying = self._report(event.worker, event.sequence)
        if flying is None:
            return
        session = self._sessions[flying.session]
        if session.state is State.CLOSING:
            self._leave_if_quiet(session)
        else:
            self._op_counts(session, flying.op)
        self._feed_if_joined(event.worker)

    def _op_counts(self, session: Session, op: Op) -> None:
        """`op` is done: send its segment, drop prompts that nothing reads any more, see what can run now."""
        session.done[op.kind, op.step] += 1
        if op.kind is Kind.DECODE:
            self._emit(session, op.block)
        for version in session.timeline.forget_before(session.oldest_block):
            self._effects += [
                Forget(worker=worker, session=session.id, version=version) for worker in session.place.workers
            ]
        self._advance(session)

    def _quieten(self, event: OpFailed) -> None:
        """An op of a session that has ended already has failed, which is as good as done."""
        flying = self._report(event.worker, event.sequence)
        if flying is not None:
            self._leave_if_quiet(self._sessions[flying.session])
        self._feed_if_joined(event.worker)

    def _report(self, worker_id: WorkerId, sequence: int | None) -> InFlight | None:
        """Take a reported op off its worker; None if the worker has gone meanwhile or it was no op."""
        worker = self._workers.get(worker_id)
        if worker is None or sequence is None:
            return None
        flying = worker.report(sequence)
        session = self._sessions[flying.session]
        session.in_flight -= 1
        return flying

    # --- what sessions do -------------------------------------------------------------------------------------------

    def _emit(self, session: Session, block: int) -> None:
        session.flow = session.flow.played(block, now_s=self._now_s, geometry=self._geometry)
        turn = session.timeline.turn_at(block)
        if turn.block == block and turn.cue is not None:
            self._effects.append(CueApplied(session=session.id, cue=turn.cue, block=block))
        self._effects.append(
            Emit(
                session=session.id,
                block=block,
                first_picture=self._geometry.first_picture(block),
                picture_count=session.picture_count(block),
                prompt_version=turn.version,
            )
        )

    def _end(self, session: Session, ending: Ending, reason: str) -> None:
        session.state = next_state(session.state, Trigger.END)
        self._effects.append(Closed(session=session.id, ending=ending, reason=reason, segments=session.emitted))
        for worker in session.place.workers:
            if worker in self._workers:
                self._workers[worker].drop_ready(session.id)
        self._leave_if_quiet(session)

    def _leave_if_quiet(self, session: Session) -> None:
        if session.in_flight:
            return
        session.state = next_state(session.state, Trigger.QUIET)
        del self._sessions[session.id]
        for worker in session.place.workers:
            if worker in self._workers:
                self._workers[worker].release(session)
                self._effects.append(Forget(worker=worker, session=session.id, version=None))
        self._effects.append(DropJournal(session=session.id))

    def _refuse(self, session: SessionId, cue: CueId | None, error: LongtakeError) -> None:
        self._effects.append(RequestRefused(session=session, cue=cue, error=error))

    # --- ops --------------------------------------------------------------------------------------------------------

    def _advance(self, session: Session) -> None:
        """Look at the session's candidates again and feed the workers that got one."""
        if session.state in (State.OPENING, State.CLOSING, State.CLOSED):
            return
        if session.is_delivered:
            drained = session.state is State.FINISHING
            reason = "the server is shutting down" if drained else ""
            self._end(session, Ending.DRAINED if drained else Ending.COMPLETED, reason)
            return
        touched: list[Worker] = []
        for kind, step in self._chains:
            worker = self._offer(session, Op(kind, step, session.sent[kind, step]))
            if worker is not None:
                touched.append(worker)
        for worker in touched:
            self._feed(worker)

    def _offer(self, session: Session, op: Op) -> Worker | None:
        """Put `op` on its worker's ready list if it may run; returns the worker then."""
        worker = self._workers[self._worker_of(session, op)]
        if worker.is_ready(session.id, op) or not session.wants(op) or not self._may_run(session, op):
            return None
        if not session.in_flight:
            # A session that has been idle gets no credit for it.
            session.virtual_time = max(session.virtual_time, self._virtual_clock)
        worker.add_ready(session.id, op)
        return worker

    def _may_run(self, session: Session, op: Op) -> bool:
        if op.kind is Kind.DENOISE and op.step == 0:
            may_begin = session.state is State.RUNNING and session.flow.may_start(
                op.block, now_s=self._now_s, geometry=self._geometry
            )
            if not may_begin:
                return False
        return all(self._is_met(session, op, need) for need in needs(op, self._recipe))

    def _is_met(self, session: Session, op: Op, need: Op) -> bool:
        if session.is_done(need):
            return True
        input_travels = need.kind is Kind.DENOISE and need.block == op.block and not input_is_in_lane(op, self._recipe)
        same_link = self._worker_of(session, op) == self._worker_of(session, need)
        return same_link and not input_travels and session.is_sent(need)

    def _worker_of(self, session: Session, op: Op) -> WorkerId:
        return session.place.decoder if op.kind is Kind.DECODE else session.place.lanes[lane_of(op, self._recipe)]

    def _feed_if_joined(self, worker: WorkerId) -> None:
        if worker in self._workers:
            self._feed(self._workers[worker])

    def _feed(self, worker: Worker) -> None:
        """Dispatch the most urgent ready ops while the worker has room for one."""
        while len(worker.in_flight) < _QUEUE_DEPTH and worker.ready:
            session_id, op = min(worker.ready, key=self._urgency)
            worker.drop_ready(session_id, op)
            session = self._sessions[session_id]
            session.sent[op.kind, op.step] += 1
            session.in_flight += 1
            if op.kind is not Kind.DECODE:
                self._virtual_clock = max(self._virtual_clock, session.virtual_time)
                session.virtual_time += 1.0
            version = session.timeline.turn_at(op.block).version
            lacks_text = op.kind is not Kind.DECODE and (worker.id, version) not in session.conditioned
            if lacks_text:
                session.conditioned.add((worker.id, version))
            self._effects.append(
                Dispatch(
                    worker=worker.id,
                    sequence=worker.dispatched(session_id, op),
                    work=work_for(op, session, version),
                    attach_conditioning=lacks_text,
                )
            )
            for kind, step in self._chains:
                self._offer_behind(worker, session, Op(kind, step, session.sent[kind, step]))

    def _offer_behind(self, worker: Worker, session: Session, op: Op) -> None:
        """A dispatch may let another op of its session follow it on the same worker."""
        if self._worker_of(session, op) == worker.id:
            self._offer(session, op)

    def _urgency(self, ready: tuple[SessionId, Op]) -> _Urgency:
        session, op = self._sessions[ready[0]], ready[1]
        return _Urgency(
            due_s=session.flow.due_s(op.block, geometry=self._geometry),
            virtual_time=session.virtual_time,
            block=op.block,
            commit_last=op.kind is Kind.COMMIT,
            step=op.step,
        )


def _cue_id(event: Event) -> CueId | None:
    return event.request.cue if isinstance(event, Cue) else None
