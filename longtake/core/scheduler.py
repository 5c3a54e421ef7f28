"""The scheduler: events in, effects out, for many sessions on many workers.

Theory of operation. `handle` applies one event to the sessions and workers, then lets the dispatcher look at what the
touched session can run now and feed the workers that have room. Every decision that needs a session's life cycle, its
cues or its ending is made here; which ready op runs first is the dispatcher's.

A session leaves in two strides: it is told Closed at once, and its pages and slot become free when the last op that
names them has reported.
"""

from __future__ import annotations

from longtake.core.carry.balancing import Balance
from longtake.core.carry.forking import set_free
from longtake.core.carry.moving import Mover
from longtake.core.carry.parking import Parking
from longtake.core.dispatch.dispatcher import Dispatcher
from longtake.core.dispatch.waiting import WaitingRoom
from longtake.core.effects import Closed, DropJournal, Effect, Forget, Opened, Refused, RequestRefused
from longtake.core.errors import CallerFault, InvalidField, LongtakeError, UnknownSession
from longtake.core.events import (
    Ack,
    Close,
    Cue,
    Drain,
    Ending,
    Event,
    ImageFailed,
    Loaded,
    OpDone,
    Open,
    OpFailed,
    Pause,
    Play,
    Stowed,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.worker import Worker, WorkerView
from longtake.core.invariants import check
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Op
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions import cues
from longtake.core.sessions.census import Census
from longtake.core.sessions.draining import REASON, Draining, finish
from longtake.core.sessions.session import GENERATING, NOWHERE, Session, SessionView, State, Trigger, next_state, view
from longtake.core.work import CueId, SessionId, WorkerId, image_ids


class Scheduler:
    """All decisions of one cell. Not thread-safe; `handle` is deterministic in the sequence of events."""

    def __init__(
        self, recipe: Recipe, geometry: Geometry, limits: Limits, dispatcher: type[Dispatcher] = Dispatcher
    ) -> None:
        self._recipe = recipe
        self._geometry = geometry
        self._limits = limits
        self._sessions: dict[SessionId, Session] = {}
        self._workers: dict[WorkerId, Worker] = {}
        self.dispatcher = dispatcher(recipe, geometry, self._sessions, self._workers)
        self._fleet = Fleet(recipe, geometry)
        images = image_ids()
        self._mover = Mover(self._workers, self._fleet, images)
        self._balance = Balance(limits.load_limit, self._sessions, self._workers, self._fleet, self._mover)
        self._parking = Parking(recipe, limits, self._sessions, self._workers, images, self._fleet)
        self._waiting = WaitingRoom(recipe, geometry, limits, self._sessions, self._workers, self._parking, self._fleet)
        self._now_s = 0.0
        self.draining = Draining(self._sessions)
        self._effects: list[Effect] = []

    # --- what others may read ---------------------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions that hold something, in the order they were opened."""
        return tuple(view(session) for session in self._sessions.values())

    def census(self) -> Census:
        """How many sessions there are of each kind; far cheaper than the view of each."""
        return Census.of(self._sessions.values())

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that are joined, by id."""
        return tuple(self._workers[worker].view() for worker in sorted(self._workers))

    def inspect(self, session: SessionId) -> Session:
        """The live record of one session, for tests and debugging: to look at. KeyError if it is not there."""
        return self._sessions[session]

    def worker(self, worker: WorkerId) -> Worker:
        """The live record of one worker, for tests and debugging: to look at. KeyError if it is not there."""
        return self._workers[worker]

    def check(self) -> None:
        """State the invariants of pages, slots and counts; InternalFault names the first one broken."""
        check(self._sessions, self._workers, self._mover.homes())
        self._mover.check()
        self._parking.check()
        self._waiting.check()

    # --- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Effect]:
        """Decide what follows from `event`. Never raises for what a client or a worker may do."""
        self._now_s = max(self._now_s, event.now_s)
        self._effects = []
        match event:
            case OpDone():
                self._op_done(event)
            case OpFailed():
                self._op_failed(event)
            case Open():
                self._open(event)
            case WorkerJoined():
                self._worker_joined(event)
            case WorkerLost():
                self._worker_lost(event)
            case Stowed() | Loaded() | ImageFailed():
                self._image_event(event)
            case Drain():
                self._effects += self.draining.begin(event, now_s=self._now_s)
                self._drain()
            case Tick():
                self._tick()
            case _:
                self._session_event(event)
        self._effects += self._waiting.let_in()
        return self._effects

    def move(self, session: SessionId, lane: int, target: WorkerId) -> list[Effect]:
        """Begin to move a lane by hand, as the balance does: it is not on its way yet and `target` has room for it."""
        self._effects = self._mover.begin(self._sessions[session], lane, self._workers[target])
        self._advance(self._sessions[session])
        return self._effects

    def _tick(self) -> None:
        self._drain()
        woken = self.dispatcher.wake(now_s=self._now_s)
        self._advance(*(self._sessions[session_id] for session_id in woken if session_id in self._sessions))
        for session, effects in self._balance.moves(now_s=self._now_s):
            self._effects += effects
            self._advance(session)
        for session in self._parking.due(now_s=self._now_s):
            self._effects += self._parking.begin(session, now_s=self._now_s)
            self._waiting.look_again()
        self._waiting.tick()

    def _image_event(self, event: Stowed | Loaded | ImageFailed) -> None:
        """Whoever ordered the image is told; nobody, if what it was for has ended meanwhile."""
        moved = self._mover.owner(event.image)
        heard = None if moved is not None else self._parking.heard(event)
        if moved is not None:
            if isinstance(event, ImageFailed):
                self._balance.failed(event.worker, now_s=self._now_s)
            self._effects += self._mover.heard(event)
            self._waiting.look_again()
            if moved in self._sessions:
                self._advance(self._sessions[moved])
        elif heard is not None:
            self._effects += heard.effects
            session = self._sessions[heard.session]
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
            elif heard.failure:
                self._end(session, Ending.FAILED, heard.failure)
            else:
                self._waiting.look_again()
                self._advance(session)

    def _session_event(self, event: Cue | TextEncoded | StreamPrepared | Ack | Pause | Play | Close) -> None:
        session_id = event.conditioning.session if isinstance(event, TextEncoded) else event.session
        session = self._sessions.get(session_id)
        was_on_its_way = isinstance(event, StreamPrepared) and self._parking.prepared(session_id)
        if session is None or session.state is State.CLOSING:
            if session is not None and was_on_its_way:
                self._leave_if_quiet(session)
            if isinstance(event, Cue | Pause | Play):  # an acknowledgement may cross the end of its session
                self._refuse(session_id, cues.cue_of(event), UnknownSession(session_id))
            return
        try:
            self._apply(session, event)
        except CallerFault as error:
            self._refuse(session_id, cues.cue_of(event), error)

    def _apply(self, session: Session, event: Cue | TextEncoded | StreamPrepared | Ack | Pause | Play | Close) -> None:
        match event:
            case Ack():
                session.flow = session.flow.acknowledge(event.segment, emitted=session.emitted)
            case Cue():
                self._effects += cues.ask(session, event.request, self._limits)
            case TextEncoded():
                self._effects += cues.text_encoded(session, event)
                self._open_if_ready(session)
            case StreamPrepared():
                session.header, session.media_type = event.header, event.media_type
                self._open_if_ready(session)
            case Pause():
                session.state, session.playing = next_state(session.state, Trigger.PAUSE), False
                session.flow = session.flow.stopped()
                self.dispatcher.withdraw(session)
            case Play():
                session.state, session.playing = next_state(session.state, Trigger.PLAY), True
                self._start_clock(session)
            case Close():
                self._end(session, event.ending, event.reason)
        self._advance(session)

    def _open(self, event: Open) -> None:
        try:
            if event.session in self._sessions:
                raise InvalidField("session", event.session, "an id that is not in use")
            self.draining.check_open()
            place = self._waiting.admit(event)
        except LongtakeError as error:
            self._effects.append(Refused(session=event.session, error=error))
            return
        session = Session(
            request=event, recipe=self._recipe, geometry=self._geometry, place=NOWHERE,
            flow=self._limits.flow_for(event), state=State.QUEUED if place is None else State.OPENING,
        )  # fmt: skip
        self._sessions[session.id] = session
        for request in event.cues:
            session.timeline.ask(request)
        if place is None:
            self._waiting.wait(session.id)
        else:
            self._effects += self._waiting.settle(session, place)
            if event.fork is not None:
                parent = self._sessions[event.fork]
                self._effects += self.dispatcher.share(parent, now_s=self._now_s)
                set_free(parent, self._sessions)

    def _open_if_ready(self, session: Session) -> None:
        wanted = {0, *session.timeline.waiting}
        if session.state is not State.OPENING or session.header is None or not wanted <= session.encoded:
            return
        session.state = next_state(session.state, Trigger.READY)
        if not session.playing:
            session.state = next_state(session.state, Trigger.PAUSE)
        self._start_clock(session)
        session.virtual_time = self.dispatcher.virtual_clock
        self._effects.append(
            Opened(session=session.id, seed=session.request.seed, header=session.header, media_type=session.media_type)
        )
        for version in sorted(session.timeline.waiting):
            self._effects += cues.accept(session, version)

    def _start_clock(self, session: Session) -> None:
        session.flow = session.flow.started(session.emitted, now_s=self._now_s, geometry=self._geometry)

    def _worker_joined(self, event: WorkerJoined) -> None:
        if event.worker in self._workers:
            self._worker_lost(WorkerLost(now_s=event.now_s, worker=event.worker, reason="it dialled in again"))
        spare_pages = self._limits.spare_pages(self._recipe)
        self._workers[event.worker] = Worker.joined(event, self._recipe, spare_pages=spare_pages)
        self._fleet.joined(self._workers[event.worker])
        self._waiting.look_again()

    def _worker_lost(self, event: WorkerLost) -> None:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        self._fleet.lost(worker)
        for flying in worker.in_flight:
            for session_id, _ in flying.ops:
                self._sessions[session_id].in_flight -= 1
        for session_id in sorted(worker.sessions | self._parking.lost(event.worker)):
            session = self._sessions.get(session_id)
            if session is None:  # a fork, gone with the session it depended on
                continue
            if session.place is not NOWHERE:
                session.place = session.place.without(event.worker)
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
            else:
                self._end(session, Ending.LOST, f"worker {event.worker} was lost: {event.reason}")
        effects, stayed = self._mover.lost(worker)
        self._effects += effects
        self._advance(*stayed)

    def _drain(self) -> None:
        for session in self.draining.leaving(now_s=self._now_s):
            if session.state in GENERATING:
                finish(session)
                self.dispatcher.withdraw(session)
                self._advance(session)
            elif session.state not in (State.CLOSING, State.CLOSED):  # as a fork does with what it depends on
                self._end(session, Ending.DRAINED, REASON)

    def _op_done(self, event: OpDone) -> None:
        flying = self._report(event.worker, event.sequence)
        if flying:
            self._fleet.measured(self._workers[event.worker], event.seconds, len(flying))
        self._count(flying)
        self._feed(event.worker)

    def _op_failed(self, event: OpFailed) -> None:
        """End the sessions that it names; what else the dispatch did is done. Those ended before go when quiet."""
        flying = self._report(event.worker, event.sequence)
        for session_id in event.sessions:
            session = self._sessions.get(session_id)
            if event.sequence is None:
                self._parking.prepared(session_id)
            if session is not None and session.state is not State.CLOSING:
                self._end(session, Ending.FAILED, event.reason)
            elif session is not None and event.sequence is None:
                self._leave_if_quiet(session)
        self._count(flying)
        self._feed(event.worker)

    def _count(self, flying: tuple[tuple[SessionId, Op], ...]) -> None:
        """The reported ops are done. All of them count before anything is dispatched, so that mates stay together."""
        for session_id, op in flying:
            session = self._sessions.get(session_id)
            if session is None:  # gone with an earlier op of the same batch, or with the failed one
                continue
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
            else:
                self._effects += cues.op_done(session, op, now_s=self._now_s)
                self._effects += self._mover.advance(session)
        ids = dict.fromkeys(session_id for session_id, _ in flying)
        for parent in [self._sessions[session_id] for session_id in ids if session_id in self._sessions]:
            ids |= dict.fromkeys(set_free(parent, self._sessions) if parent.forks else ())
        self._advance(*(self._sessions[session_id] for session_id in ids if session_id in self._sessions))

    def _report(self, worker_id: WorkerId, sequence: int | None) -> tuple[tuple[SessionId, Op], ...]:
        """Take a reported dispatch off its worker; no ops if the worker has gone meanwhile or it was no dispatch."""
        worker = self._workers.get(worker_id)
        if worker is None or sequence is None:
            return ()
        flying = worker.report(sequence)
        for session_id, _ in flying.ops:
            self._sessions[session_id].in_flight -= 1
        return flying.ops

    # --- what sessions do -------------------------------------------------------------------------------------------

    def _end(self, session: Session, ending: Ending, reason: str) -> None:
        session.state = next_state(session.state, Trigger.END)
        sent = session.emitted - session.first_block
        self._effects.append(Closed(session=session.id, ending=ending, reason=reason, segments=sent))
        for fork, _ in session.forks:
            child = self._sessions.get(fork)
            if child is not None and child.state is not State.CLOSING:
                why = f"the session it was forked from ended before block {child.first_block}: {reason or ending.value}"
                self._end(child, Ending.LOST if ending is Ending.LOST else Ending.FAILED, why)
        self._waiting.leave(session.id)
        for worker in session.place.workers:
            if worker in self._workers:
                self._workers[worker].drop_ready(session.id)
        self._effects += self._mover.ended(session)
        self._leave_if_quiet(session)

    def _leave_if_quiet(self, session: Session) -> None:
        if session.in_flight or self._parking.owes(session.id):
            return
        session.state = next_state(session.state, Trigger.QUIET)
        del self._sessions[session.id]
        self._waiting.look_again()
        self._effects += self._parking.leave(session.id)
        for worker in session.place.workers:
            if worker in self._workers:
                self._workers[worker].release(session)
                self._fleet.changed(self._workers[worker])
                self._effects.append(Forget(worker=worker, session=session.id, version=None))
        self._effects.append(DropJournal(session=session.id))

    def _refuse(self, session: SessionId, cue: CueId | None, error: LongtakeError) -> None:
        self._effects.append(RequestRefused(session=session, cue=cue, error=error))

    def _advance(self, *sessions: Session) -> None:
        """See what the sessions can run now, together; end those whose last segment has left."""
        running = []
        for session in sessions:
            if session.state is State.PARKED:
                self._waiting.may_return(session)
            if session.state is State.RESTORING and self._parking.is_back(session):
                self._effects += self._parking.settle(session)
                self._start_clock(session)
            if session.state not in GENERATING:
                continue
            if not session.is_delivered:
                running.append(session)
                continue
            drained = session.state is State.FINISHING
            self._end(session, Ending.DRAINED if drained else Ending.COMPLETED, REASON if drained else "")
        self._effects += self.dispatcher.advance(running, now_s=self._now_s)
        for session in running:
            self._effects += self._parking.note(session, now_s=self._now_s)

    def _feed(self, worker: WorkerId) -> None:
        if worker in self._workers:
            self._effects += self.dispatcher.feed(self._workers[worker], now_s=self._now_s)
