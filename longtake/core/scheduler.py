"""The scheduler: events in, effects out, for many sessions on many workers.

Theory of operation. `handle` applies one event to the sessions and workers, then lets the dispatcher look at what the
touched session can run now and feed the workers that have room. Every decision that needs a session's life cycle, its
cues or its ending is made here; which ready op runs first is the dispatcher's.
"""

from __future__ import annotations

from longtake.core.adoption import HandOver
from longtake.core.carry.balancing import Balance
from longtake.core.carry.forking import set_free
from longtake.core.carry.moving import Mover
from longtake.core.carry.parking import Parking
from longtake.core.cell import Cell
from longtake.core.dispatch.adopting import adopt
from longtake.core.dispatch.asking import Asking, SessionEvent, refused, session_of, told, unknown
from longtake.core.dispatch.dispatcher import Dispatcher, Revisit, whole
from longtake.core.dispatch.leaving import Leaving
from longtake.core.dispatch.losing import Losses, recovered
from longtake.core.dispatch.offering import Offers
from longtake.core.dispatch.opening import petition, tell_opened
from longtake.core.dispatch.reporting import Reports, count
from longtake.core.dispatch.shedding import least_load
from longtake.core.dispatch.urgency import slack_first
from longtake.core.dispatch.waiting import WaitingRoom
from longtake.core.effects import Effect, Refused
from longtake.core.endings import Ending
from longtake.core.errors import LongtakeError, ShuttingDown, UnknownSession
from longtake.core.events import (
    Adopt,
    Attach,
    CallRefused,
    Drain,
    Event,
    FrameRefused,
    ImageFailed,
    Loaded,
    OpDone,
    Open,
    OpenRefused,
    OpFailed,
    Stowed,
    StreamPrepared,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.texts import Texts
from longtake.core.fleet.worker import Worker, WorkerView
from longtake.core.invariants import check
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.census import Census
from longtake.core.sessions.draining import KEPT, REASON, Draining, finish
from longtake.core.sessions.life import GENERATING, State
from longtake.core.sessions.session import Session
from longtake.core.sessions.views import SessionView, view
from longtake.core.work import SessionId, Ticket, WorkerId, image_ids


class Scheduler:
    """All decisions of one cell. Not thread-safe; `handle` is deterministic in the sequence of events."""

    def __init__(self, recipe: Recipe, geometry: Geometry, limits: Limits) -> None:
        graph = Graph(recipe)
        self.cell = Cell(
            graphs={"": graph},
            geometry=geometry,
            limits=limits,
            fleet=Fleet(graph, geometry, limits),
            texts=Texts(),
            images=image_ids(),
            urgency=slack_first,
            load_rule=least_load,
        )
        """What all parts share; only the core may change it."""
        self._offers = Offers(self.cell)
        self._dispatcher = Dispatcher(self.cell, self._offers)
        self._mover = Mover(self.cell)
        self._balance = Balance(self.cell, self._mover)
        self._parking = Parking(self.cell)
        self._waiting = WaitingRoom(self.cell, self._parking)
        self._leaving = Leaving(self.cell, self._waiting, self._mover)
        self._losses = Losses(self.cell, self._leaving)
        self._asking = Asking(self.cell, self._offers, self._leaving)
        self._reports = Reports(self.cell)
        self._now_s = 0.0
        self.draining = Draining(self.cell.sessions)
        self._effects: list[Effect] = []

    def serve(self, name: str, recipe: Recipe) -> None:
        """Sessions may ask for this recipe by name from now on; one that is served already gets a further name."""
        self.cell.serve(name, Graph(recipe))

    # --- what others may read ---------------------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions that hold something, in the order they were opened."""
        return tuple(view(session, now_s=self._now_s) for session in self.cell.sessions.values())

    def session(self, session_id: SessionId) -> SessionView | None:
        """The session of this id; None if it holds nothing."""
        session = self.cell.sessions.get(session_id)
        return None if session is None else view(session, now_s=self._now_s)

    def census(self) -> Census:
        """How many sessions there are of each kind; far cheaper than the view of each."""
        return Census.of(self.cell.sessions.values())

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that are joined, by id."""
        return tuple(self.cell.view(self.cell.workers[name]) for name in sorted(self.cell.workers))

    def inspect(self, session: SessionId) -> Session:
        """The live record of one session, for tests and debugging: to look at. KeyError if it is not there."""
        return self.cell.sessions[session]

    def worker(self, worker: WorkerId) -> Worker:
        """The same of one worker."""
        return self.cell.workers[worker]

    def check(self) -> None:
        """State the invariants of pages, slots and counts; InternalFault names the first one broken."""
        check(self.cell, self._mover.homes())
        self._offers.check()
        self._mover.check()
        self._parking.check()
        self._waiting.check()

    def next_batch(self, worker: WorkerId, *, now_s: float) -> tuple[Ticket, ...]:
        """What a worker for which something is ready would be handed next; nothing changes."""
        return self._dispatcher.next_batch(self.cell.workers[worker], now_s=now_s)

    @property
    def wakes_at_s(self) -> float:
        """When a tick lets a session begin a block that waits for its playback clock; infinity if none waits."""
        return self._offers.wakes_at_s

    # --- events -----------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Effect]:
        """Decide what follows from `event`. Never raises for what a client or a worker may do."""
        self._now_s = max(self._now_s, event.now_s)
        self._effects = []
        self._reports.answered(event, now_s=self._now_s)
        match event:
            case OpDone() | OpFailed():
                self._reported(event)
            case Open():
                self._open(event)
            case Adopt():
                self._effects += adopt(event, self.cell, self._asking.attendance, self.draining, now_s=self._now_s)
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
            case CallRefused() | OpenRefused() | FrameRefused():
                self._effects += told(event)
            case _:
                self._session_event(event)
        self._effects += [*self._waiting.let_in(now_s=self._now_s), *self._dispatcher.encode(now_s=self._now_s)]
        return self._reports.ordered(self._effects, now_s=self._now_s)

    def move(self, session: SessionId, lane: int, target: WorkerId) -> list[Effect]:
        """Begin to move a lane by hand, as the balance does: it is not on its way yet and `target` has room for it."""
        record = self.cell.sessions[session]
        self._effects = self._mover.begin(record, lane, self.cell.workers[target])
        self._advance(record)
        return self._reports.ordered(self._effects, now_s=self._now_s)

    def _tick(self) -> None:
        self._effects += self._reports.tick(now_s=self._now_s)
        self._drain()
        self._advance(*self._offers.wake(now_s=self._now_s))
        for session, effects in self._balance.moves(now_s=self._now_s):
            self._effects += effects
            self._advance(session)
        for session in self._parking.idle.due(now_s=self._now_s):
            self._effects += self._parking.begin(session, now_s=self._now_s)
            self._waiting.look_again()
        self._effects += self._asking.tick(now_s=self._now_s)
        self._waiting.tick()

    def _image_event(self, event: Stowed | Loaded | ImageFailed) -> None:
        """Tell whoever ordered the image; nobody, if what it was for has ended meanwhile."""
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
            else:
                self._waiting.look_again()
                self._advance(session)

    def _session_event(self, event: SessionEvent) -> None:
        session = self.cell.sessions.get(session_of(event))
        was_on_its_way = isinstance(event, StreamPrepared) and self._parking.prepared(event.session)
        if session is None or session.state is State.CLOSING:
            if session is not None and was_on_its_way:
                self._leave_if_quiet(session)
            if isinstance(event, Attach):
                self.draining.came(event.session)
            gone = ShuttingDown() if self.draining.has_kept else UnknownSession(session_of(event))
            self._effects += unknown(event, gone)
            return
        try:
            self._effects += self._asking.apply(session, event, now_s=self._now_s)
        except LongtakeError as error:
            self._effects.append(refused(event, error))
        else:
            if isinstance(event, HandOver):
                self.draining.went(session)
            self._advance(session)

    def _open(self, event: Open) -> None:
        try:
            self.draining.check_open()
            asked = petition(event, self.cell)
            self._effects += self._waiting.admit(asked.session, asked.shares, now_s=self._now_s)
        except LongtakeError as error:
            self._effects.append(Refused(session=event.session, problem=error.problem))
            return
        self._effects += asked.inherited
        if asked.shares is not None:
            self._effects += self._dispatcher.share(asked.shares, now_s=self._now_s)
            self._effects += set_free(asked.shares, self.cell.sessions)

    def _worker_joined(self, event: WorkerJoined) -> None:
        if event.worker in self.cell.workers:
            self._worker_lost(WorkerLost(now_s=event.now_s, worker=event.worker, reason="it dialled in again"))
        worker = self.cell.workers[event.worker] = Worker(event)
        self.cell.fleet.joined(worker)
        self._effects += self.cell.texts.joined(worker)
        self._waiting.look_again()

    def _worker_lost(self, event: WorkerLost) -> None:
        if (worker := self.cell.workers.pop(event.worker, None)) is None:
            return
        self.cell.fleet.lost(worker, now_s=self._now_s)
        self._reports.lose(worker)
        effects, struck = self._losses.lost(worker, event.reason, now_s=self._now_s)
        self._effects += effects
        self._waiting.look_again()
        self._advance(*struck)

    def _drain(self) -> None:
        for session in self.draining.leaving(now_s=self._now_s):
            if session.is_opened and self.draining.keeps_streams:
                self._effects += self._leaving.end(session, Ending.KEPT, KEPT)
            elif session.state in GENERATING:
                finish(session)
                self._offers.withdraw(session)
                self._advance(session)
            elif session.state not in (State.CLOSING, State.CLOSED):  # as a fork does with what it depends on
                self._effects += self._leaving.end(session, Ending.DRAINED, REASON)

    def _reported(self, event: OpDone | OpFailed) -> None:
        facts, tickets, late = self._reports.take(event)
        self._effects += facts
        if isinstance(event, OpFailed):
            effects, tickets, again = self._losses.failed(event, tickets, now_s=self._now_s)
            self._effects += effects
            self._advance(*again)
        self._count(tickets)
        for session in late:
            self._leave_if_quiet(session) if session.state is State.CLOSING else self._advance(session)
        if event.worker in self.cell.workers:
            self._effects += self._dispatcher.feed(self.cell.workers[event.worker], now_s=self._now_s)

    def _count(self, tickets: tuple[Ticket, ...]) -> None:
        """The reported ops are done. All of them count before anything is dispatched, so that mates stay together."""
        sessions = self.cell.sessions
        looks: dict[SessionId, Revisit] = {}
        for ticket in tickets:
            session = sessions.get(ticket.session)
            if session is None:  # gone with an earlier op of the same batch, or with the failed one
                continue
            if session.state is State.CLOSING:
                self._leave_if_quiet(session)
                continue
            woken, known = session.progress.again.woken_by(ticket.op, session.graph), looks.get(ticket.session)
            looks[ticket.session] = session, woken if known is None else {*known[1], *woken}
            self._effects += count(session, ticket, self.cell.fleet, self._reports.lateness, now_s=self._now_s)
            self._effects += self._mover.advance(session)
            if session.struck_s is not None:
                self._effects += recovered(session, now_s=self._now_s)
        for parent in [session for session, _ in looks.values() if session.kin.forks]:
            inherited = set_free(parent, sessions)
            self._effects += inherited
            looks |= {effect.session: whole(sessions[effect.session]) for effect in inherited}
        self._look([look for name, look in looks.items() if name in sessions])

    # --- what sessions do -------------------------------------------------------------------------------------------

    def _leave_if_quiet(self, session: Session) -> None:
        self._effects += self._leaving.leave_if_quiet(session)

    def _begin_again(self, session: Session) -> None:
        """A parked session is back; one that had not begun when a worker was lost begins now."""
        self._effects += self._parking.settle(session)
        session.start_clock(now_s=self._now_s)
        if not session.is_opened:
            session.virtual_time = self._offers.virtual_clock
            self._effects += tell_opened(session)
        self._effects += recovered(session, now_s=self._now_s)

    def _advance(self, *sessions: Session) -> None:
        """See what the sessions can run now, together; end those whose last segment has left."""
        self._look([whole(session) for session in sessions])

    def _look(self, looks: list[Revisit]) -> None:
        """The same, but look only at the chains that are named with each session."""
        running = []
        for session, chains in looks:
            if session.state is State.PARKING:
                self._effects += self._parking.settle_torn(session)
            if session.state is State.PARKED:
                self._waiting.may_return(session)
            if session.state is State.RESTORING and self._parking.is_back(session):
                self._begin_again(session)
            if session.state not in GENERATING:
                continue
            if not session.is_delivered:
                running.append((session, chains))
                continue
            ended = (Ending.DRAINED, REASON) if session.state is State.FINISHING else (Ending.COMPLETED, "")
            self._effects += self._leaving.end(session, *ended)
        self._effects += self._dispatcher.advance(running, now_s=self._now_s)
        for session, _ in running:
            self._effects += self._parking.idle.note(session, now_s=self._now_s)
