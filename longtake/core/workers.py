"""What the core keeps of each worker: its pages or slots, its queue, and the ops that wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.events import WorkerJoined
from longtake.core.pages import PagePool
from longtake.core.recipe import Recipe
from longtake.core.schedule import Op
from longtake.core.session import Session
from longtake.core.work import Role, Sequence, SessionId, SlotId, WorkerId


@dataclass(frozen=True, slots=True)
class InFlight:
    """A dispatch that has not reported yet."""

    sequence: Sequence
    ops: tuple[tuple[SessionId, Op], ...]
    """More than one: a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What others may know of a worker."""

    worker: WorkerId
    role: Role
    capacity: int
    free: int
    sessions: int
    in_flight: int
    ready: int
    dispatched: int
    batch_limit: int


@dataclass(slots=True)
class Worker:
    """One worker, from its joining to its loss."""

    id: WorkerId
    role: Role
    capacity: int
    pages_per_lane: int
    pool: PagePool
    free_slots: list[SlotId]
    batch_limit: int = 1
    in_flight: deque[InFlight] = field(default_factory=deque)
    ready: dict[tuple[SessionId, Op], None] = field(default_factory=dict)
    sessions: set[SessionId] = field(default_factory=set)
    lanes: int = 0
    next_sequence: int = 0

    @classmethod
    def joined(cls, event: WorkerJoined, recipe: Recipe) -> Worker:
        """A fresh worker: everything it has is free."""
        denoises = event.role is Role.DENOISE
        return cls(
            id=event.worker,
            role=event.role,
            capacity=event.capacity,
            pages_per_lane=recipe.page_count,
            pool=PagePool(event.capacity if denoises else 0),
            free_slots=[] if denoises else [SlotId(slot) for slot in reversed(range(event.capacity))],
            batch_limit=event.batch_limit if denoises else 1,
        )

    @property
    def lane_room(self) -> int:
        """Lanes that the free pages can still hold."""
        return self.pool.free_count // self.pages_per_lane

    def dispatched(self, ops: tuple[tuple[SessionId, Op], ...]) -> Sequence:
        """Note a dispatch; returns its sequence number."""
        sequence = Sequence(self.next_sequence)
        self.next_sequence += 1
        self.in_flight.append(InFlight(sequence, ops))
        return sequence

    def report(self, sequence: int) -> InFlight:
        """Take the oldest dispatch off the queue; UnknownPeer if the report is for another one."""
        if not self.in_flight or self.in_flight[0].sequence != sequence:
            expected = self.in_flight[0].sequence if self.in_flight else "nothing"
            raise UnknownPeer(f"worker {self.id} reports dispatch {sequence}, expected {expected}")
        return self.in_flight.popleft()

    def is_ready(self, session: SessionId, op: Op) -> bool:
        return (session, op) in self.ready

    def add_ready(self, session: SessionId, op: Op) -> None:
        self.ready[session, op] = None

    def drop_ready(self, session: SessionId, op: Op | None = None) -> None:
        """Take one op, or all ops of a session, off the ready list."""
        if op is not None:
            del self.ready[session, op]
            return
        for key in [key for key in self.ready if key[0] == session]:
            del self.ready[key]

    def release(self, session: Session) -> None:
        """Free everything the session holds here."""
        self.sessions.discard(session.id)
        for worker, table in zip(session.place.lanes, session.place.tables, strict=True):
            if worker == self.id:
                self.pool.release(table)
                self.lanes -= 1
        if session.place.decoder == self.id:
            self.free_slots.append(session.place.slot)

    def check(self, sessions: Iterable[Session]) -> None:
        """State the invariants of pages and slots against all sessions that exist."""
        here = [session for session in sessions if self.id in session.place.workers]
        lanes = [
            table
            for session in here
            for worker, table in zip(session.place.lanes, session.place.tables, strict=True)
            if worker == self.id
        ]
        self.pool.check(lanes)
        if len(lanes) != self.lanes or {session.id for session in here} != self.sessions:
            raise InternalFault(f"worker {self.id} counts {self.lanes} lanes and {len(self.sessions)} sessions")
        taken = [session.place.slot for session in here if session.place.decoder == self.id]
        slots = self.capacity if self.role is Role.DECODE else 0
        if sorted((*taken, *self.free_slots)) != list(range(slots)):
            raise InternalFault(f"worker {self.id}: slots {taken} are taken and {self.free_slots} are free")

    def view(self) -> WorkerView:
        """The public face of this worker."""
        return WorkerView(
            worker=self.id,
            role=self.role,
            capacity=self.capacity,
            free=self.pool.free_count if self.role is Role.DENOISE else len(self.free_slots),
            sessions=len(self.sessions),
            in_flight=len(self.in_flight),
            ready=len(self.ready),
            dispatched=self.next_sequence,
            batch_limit=self.batch_limit,
        )
