"""The scheduler: events in, effects out, for many sessions on many workers.

Theory of operation. `handle` applies one event to the sessions and workers, then lets the dispatcher look at what the
touched session can run now and feed the workers that have room. Every decision that needs a session's life cycle, its
cues or its ending is made here; which ready op runs first is the dispatcher's.

A session leaves in two strides: it is told Closed at once, and its pages and slot become free when the last op that
names them has reported.
"""

from __future__ import annotations

from collections.abc import Iterable

from longtake.core.carry.balancing import Balance
from longtake.core.carry.forking import parent_of, set_free
from longtake.core.carry.moving import Mover
from longtake.core.carry.parking import Parking
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import check_open, graph_for
from longtake.core.dispatch.dispatcher import Dispatcher
from longtake.core.dispatch.offering import Offers
from longtake.core.dispatch.urgency import slack_first
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
from longtake.core.fleet.ready import Urgency
from longtake.core.fleet.worker import Worker, WorkerView
from longtake.core.invariants import check
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph, Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions import cues
from longtake.core.sessions.census import Census
from longtake.core.sessions.draining import REASON, Draining, finish
from longtake.core.sessions.emitting import emit
from longtake.core.sessions.life import GENERATING, State, Trigger
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.session import Session, SessionView, view
from longtake.core.work import CueId, SessionId, Ticket, WorkerId, image_ids


class Scheduler:
    """All decisions of one cell. Not thread-safe; `handle` is deterministic in the sequence of events."""

    def __init__(self, recipe: Recipe, geometry: Geometry, limits: Limits) -> None:
        graph = Graph(recipe)
        self.cell = Cell(
            graphs={"": graph},
            geometry=geometry,
            limits=limits,
            fleet=Fleet(graph, geometry, limits),
            images=image_ids(),
            sessions={},
            workers={},
            urgency=slack_first,
        )
        """What all parts share; to be changed by nobody else."""
        self._offers = Offers(self.cell)
        self._dispatcher = Dispatcher(self.cell, self._offers)
        self._mover = Mover(self.cell)
        self._balance = Balance(self.cell, self._mover)
        self._parking = Parking(self.cell)
        self._waiting = WaitingRoom(self.cell, self._parking)
        self._now_s = 0.0
        self.draining = Draining(self.cell.sessions)
        self._effects: list[Effect] = []

    # --- what others may read ---------------------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions that hold something, in the order they were opened."""
        return tuple(view(session, now_s=self._now_s) for session in self.cell.sessions.values())

    def census(self) -> Census:
        """How many sessions there are of each kind; far cheaper than the view of each."""
        return Census.of(self.cell.sessions.values())

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that are joined, by id."""
        return tuple(self.cell.workers[worker].view() for worker in sorted(self.cell.workers))

    def inspect(self, session: SessionId) -> Session:
        """The live record of one session, for tests and debugging: to look at. KeyError if it is not there."""
        return self.cell.sessions[session]

    def worker(self, worker: WorkerId) -> Worker:
        """The live record of one worker, for tests and debugging: to look at. KeyError if it is not there."""
        return self.cell.workers[worker]

    def check(self) -> None:
        """State the invariants of pages, slots and counts; InternalFault names the first one broken."""
        check(self.cell, self._mover.homes())
        self._mover.check()
        self._parking.check()
        self._waiting.check()

    def next_batch(self, worker: WorkerId, *, now_s: float) -> tuple[Ticket, ...]:
        """What a worker for which something is ready would be handed next; nothing changes."""
        return self._dispatcher.next_batch(self.cell.workers[worker], now_s=now_s)

    def urgency(self, ticket: Ticket) -> Urgency:
        """How urgent an op is now."""
        return self.cell.urgency(self.cell, ticket)

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
        record = self.cell.sessions[session]
        self._effects = self._mover.begin(record, lane, self.cell.workers[target])
        self._advance(record)
        return self._effects

    def _tick(self) -> None:
        self._drain()
        woken = self._offers.wake(now_s=self._now_s)
        self._advance(*(self.cell.sessions[session_id] for session_id in woken if session_id in self.cell.sessions))
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
            if moved in self.cell.sessions:
                self._advance(self.cell.sessions[moved])
        elif heard is not None:
            self._effects += heard.effects
            session = self.cell.sessions[heard.session]
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
            elif heard.failure:
                self._end(session, Ending.FAILED, heard.failure)
            else:
                self._waiting.look_again()
                self._advance(session)

    def _session_event(self, event: Cue | TextEncoded | StreamPrepared | Ack | Pause | Play | Close) -> None:
        session_id = event.conditioning.session if isinstance(event, TextEncoded) else event.session
        session = self.cell.sessions.get(session_id)
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
                self._effects += cues.ask(session, event.request, self.cell.limits)
            case TextEncoded():
                self._effects += cues.text_encoded(session, event)
                self._open_if_ready(session)
            case StreamPrepared():
                session.header, session.media_type = event.header, event.media_type
                self._open_if_ready(session)
            case Pause():
                session.follow(Trigger.PAUSE)
                session.playing = False
                session.flow = session.flow.stopped()
                self._offers.withdraw(session)
            case Play():
                session.follow(Trigger.PLAY)
                session.playing = True
                self._start_clock(session)
            case Close():
                self._end(session, event.ending, event.reason)
        self._advance(session)

    def _open(self, event: Open) -> None:
        try:
            session, parent = self._petition(event)
            place = self._waiting.admit(session, parent)
        except LongtakeError as error:
            self._effects.append(Refused(session=event.session, error=error))
            return
        self.cell.sessions[session.id] = session
        for request in event.cues:
            session.prompts.ask(request)
        if place is None:
            session.state = State.QUEUED
            self._waiting.wait(session.id)
            return
        self._effects += self._waiting.settle(session, place, parent)
        if parent is not None:
            self._effects += self._dispatcher.share(parent, now_s=self._now_s)
            set_free(parent, self.cell.sessions)

    def _petition(self, event: Open) -> tuple[Session, Session | None]:
        """The session that is asked for, and the one that it forks; an error of the caller if it cannot be."""
        if event.session in self.cell.sessions:
            raise InvalidField("session", event.session, "an id that is not in use")
        self.draining.check_open()
        check_open(event, self.cell.limits)
        parent = parent_of(event, self.cell.sessions)
        graph = graph_for(event, self.cell, parent)
        flow = self.cell.limits.flow_for(event)
        geometry = self.cell.geometry.divided(graph.blocks)
        return Session(request=event, graph=graph, geometry=geometry, place=NOWHERE, flow=flow), parent

    def _open_if_ready(self, session: Session) -> None:
        wanted = {0, *session.prompts.waiting}
        if session.state is not State.OPENING or session.header is None or not wanted <= session.prompts.encoded:
            return
        session.follow(Trigger.READY)
        if not session.playing:
            session.follow(Trigger.PAUSE)
        self._start_clock(session)
        session.virtual_time = self._offers.virtual_clock
        self._effects.append(
            Opened(session=session.id, seed=session.request.seed, header=session.header, media_type=session.media_type)
        )
        for version in sorted(session.prompts.waiting):
            self._effects += cues.accept(session, version)

    def _start_clock(self, session: Session) -> None:
        session.flow = session.flow.started(session.emitted, now_s=self._now_s, geometry=session.geometry)

    def _worker_joined(self, event: WorkerJoined) -> None:
        if event.worker in self.cell.workers:
            self._worker_lost(WorkerLost(now_s=event.now_s, worker=event.worker, reason="it dialled in again"))
        self.cell.workers[event.worker] = Worker(event)
        self.cell.fleet.joined(self.cell.workers[event.worker])
        self._waiting.look_again()

    def _worker_lost(self, event: WorkerLost) -> None:
        worker = self.cell.workers.pop(event.worker, None)
        if worker is None:
            return
        self.cell.fleet.lost(worker)
        for flying in worker.in_flight:
            self._reported(flying.tickets)
        for session_id in sorted(worker.sessions | self._parking.lost(event.worker)):
            session = self.cell.sessions.get(session_id)
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
                self._offers.withdraw(session)
                self._advance(session)
            elif session.state not in (State.CLOSING, State.CLOSED):  # as a fork does with what it depends on
                self._end(session, Ending.DRAINED, REASON)

    def _op_done(self, event: OpDone) -> None:
        tickets = self._report(event.worker, event.sequence)
        if tickets:
            self.cell.fleet.measured(self.cell.workers[event.worker], event.seconds, len(tickets))
        self._count(tickets)
        self._feed(event.worker)

    def _op_failed(self, event: OpFailed) -> None:
        """End the sessions that it names; what else the dispatch did is done. Those ended before go when quiet."""
        tickets = self._report(event.worker, event.sequence)
        for session_id in event.sessions:
            session = self.cell.sessions.get(session_id)
            if event.sequence is None:
                self._parking.prepared(session_id)
            if session is not None and session.state is not State.CLOSING:
                self._end(session, Ending.FAILED, event.reason)
            elif session is not None and event.sequence is None:
                self._leave_if_quiet(session)
        self._count(tickets)
        self._feed(event.worker)

    def _count(self, tickets: tuple[Ticket, ...]) -> None:
        """The reported ops are done. All of them count before anything is dispatched, so that mates stay together."""
        woken: dict[SessionId, set[int]] = {}
        for ticket in tickets:
            session = self.cell.sessions.get(ticket.session)
            if session is None:  # gone with an earlier op of the same batch, or with the failed one
                continue
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
                continue
            woken.setdefault(session.id, set()).update(self._op_counts(session, ticket))
            self._effects += self._mover.advance(session)
        sessions = self.cell.sessions
        for parent in [sessions[session_id] for session_id in woken if session_id in sessions]:
            if parent.kin.forks:
                woken |= {child: set(_all_chains(sessions[child])) for child in set_free(parent, sessions)}
        self._advance_chains([(sessions[key], sorted(chains)) for key, chains in woken.items() if key in sessions])

    def _op_counts(self, session: Session, ticket: Ticket) -> Iterable[int]:
        """An op is done: send its segment, drop prompts that nothing reads any more. Chains that may go on now."""
        op, graph = ticket.op, session.graph
        number = graph.number_of(op)
        if not session.progress.mark_done(number, op.block):
            return graph.woken[number]
        if op.kind is Kind.DECODE:
            self._effects += emit(session, op.block, now_s=self._now_s)
        for version in session.forget_prompts():
            session.prompts.drop(version)
            self._effects += [
                Forget(worker=worker, session=session.id, version=version) for worker in session.place.workers
            ]
        # A segment that leaves may start the playback clock, and then every op has another urgency.
        return _all_chains(session) if op.kind is Kind.DECODE else graph.woken[number]

    def _report(self, worker_id: WorkerId, sequence: int | None) -> tuple[Ticket, ...]:
        """Take a reported dispatch off its worker; no ops if the worker has gone meanwhile or it was no dispatch."""
        worker = self.cell.workers.get(worker_id)
        if worker is None or sequence is None:
            return ()
        return self._reported(worker.report(sequence).tickets)

    def _reported(self, tickets: tuple[Ticket, ...]) -> tuple[Ticket, ...]:
        """These ops are in flight no more; those that count, because they were not taken back."""
        counted = []
        for ticket in tickets:
            session = self.cell.sessions[ticket.session]
            number = session.graph.number_of(ticket.op)
            if session.progress.mark_reported(number, ticket.op.block, ticket.attempt):
                counted.append(ticket)
        return tuple(counted)

    # --- what sessions do -------------------------------------------------------------------------------------------

    def _end(self, session: Session, ending: Ending, reason: str) -> None:
        session.follow(Trigger.END)
        closed = Closed(session=session.id, ending=ending, reason=reason, segments=session.segments_sent)
        self._effects.append(closed)
        for fork, _ in session.kin.forks:
            child = self.cell.sessions.get(fork)
            if child is not None and child.state is not State.CLOSING:
                first, because = child.kin.first_block, reason or ending.value
                why = f"the session it was forked from ended before block {first}: {because}"
                self._end(child, Ending.LOST if ending is Ending.LOST else Ending.FAILED, why)
        self._waiting.leave(session.id)
        for worker in session.place.workers:
            if worker in self.cell.workers:
                self.cell.workers[worker].ready.drop_session(session.id)
        self._effects += self._mover.ended(session)
        self._leave_if_quiet(session)

    def _leave_if_quiet(self, session: Session) -> None:
        if session.progress.in_flight or self._parking.owes(session.id):
            return
        session.follow(Trigger.QUIET)
        del self.cell.sessions[session.id]
        self._waiting.look_again()
        self._effects += self._parking.leave(session.id)
        for worker in session.place.workers:
            if worker in self.cell.workers:
                self.cell.workers[worker].release(session, self.cell.fleet.demands(session))
                self.cell.fleet.changed(self.cell.workers[worker])
                self._effects.append(Forget(worker=worker, session=session.id, version=None))
        self._effects.append(DropJournal(session=session.id))

    def _refuse(self, session: SessionId, cue: CueId | None, error: LongtakeError) -> None:
        self._effects.append(RequestRefused(session=session, cue=cue, error=error))

    def _advance(self, *sessions: Session) -> None:
        """See what the sessions can run now, together; end those whose last segment has left."""
        self._advance_chains([(session, _all_chains(session)) for session in sessions])

    def _advance_chains(self, candidates: Iterable[tuple[Session, Iterable[int]]]) -> None:
        """The same, where only these chains of each can have something new to run."""
        running: list[tuple[Session, Iterable[int]]] = []
        for session, chains in candidates:
            if session.state is State.PARKED:
                self._waiting.may_return(session)
            if session.state is State.RESTORING and self._parking.is_back(session):
                self._effects += self._parking.settle(session)
                self._start_clock(session)
                chains = _all_chains(session)
            if session.state not in GENERATING:
                continue
            if not session.is_delivered:
                running.append((session, chains))
                continue
            drained = session.state is State.FINISHING
            self._end(session, Ending.DRAINED if drained else Ending.COMPLETED, REASON if drained else "")
        self._effects += self._dispatcher.advance(running, now_s=self._now_s)
        for session, _ in running:
            self._effects += self._parking.note(session, now_s=self._now_s)

    def _feed(self, worker: WorkerId) -> None:
        if worker in self.cell.workers:
            self._effects += self._dispatcher.feed(self.cell.workers[worker], now_s=self._now_s)


def _all_chains(session: Session) -> range:
    return range(len(session.graph.chains))
