"""What the core keeps of each worker: its pages or slots, its queue, and the ops that wait for it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.events import WorkerJoined
from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.graph import Op, input_is_in_lane
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.session import Session, State
from longtake.core.work import ImageId, Role, Sequence, SessionId, SlotId, WorkerId

_MEMORY = 64
"""Ops over which a worker's time is averaged: so many that a hiccup moves no lane elsewhere."""
_CALIBRATION_WEIGHT = 8
"""Ops that a calibrated time counts for."""
_TRUSTED = 20
"""Ops after which an average says whether the worker is slow."""

_SLACK_ENTRIES = 64
"""Dead heap entries that are tolerated before the heap is made anew."""


class Urgency(NamedTuple):
    """What is dispatched first: the smallest."""

    deadline_s: float
    virtual_time: float
    block: int
    commit_last: bool
    step: int


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
    chain_length: int = 1
    """Layer-split workers that are this one together."""
    op_s: float = 0.0
    """Average time of one op; 0 while unknown."""
    slowness: float = 1.0
    """Its time for a dispatch over what its fellows take for as many ops."""


@dataclass(slots=True)
class Worker:
    """One worker, from its joining to its loss."""

    id: WorkerId
    role: Role
    capacity: int
    pages_per_lane: int
    spare_pages: int
    """Of them, the spare block with which a lane can run fused passes."""
    pool: PagePool
    free_slots: list[SlotId]
    batch_limit: int = 1
    chain_length: int = 1
    """Workers that an op passes through, one after the other: more than one in a layer-split replica."""
    in_flight: deque[InFlight] = field(default_factory=deque)
    ready: dict[tuple[SessionId, Op], Urgency] = field(default_factory=dict)
    """Ops that may run now, with the urgency they were last given."""
    sessions: set[SessionId] = field(default_factory=set)
    lanes: int = 0
    live_lanes: int = 0
    """Lanes of REALTIME sessions among them …"""
    live_slots: int = 0
    """… and decoder slots: what admission by rate counts."""
    mixes_kinds: bool = False
    """Whether denoise ops and commits may share a forward."""
    op_s: float = 0.0
    """Moving average of what the worker says one op costs it (its share of a forward, or the decode of a block); 0:
    unknown. Of a chain, what it costs the slowest of its workers: so often it can take another one."""
    pass_s: float = 0.0
    """The same of what one op waits for: the whole forward that it shares."""
    slowness: float = 1.0
    """The same of its dispatches' times over what the fleet takes for as many ops: a batch makes no worker fast."""
    is_calibrated: bool = False
    """Whether the worker said on joining how long its ops take."""
    arriving: dict[ImageId, PageTable] = field(default_factory=dict)
    """Pages reserved for lanes that move here. They stay so until the order to load them is answered."""
    moves: int = 0
    """Moves of lanes from or to here that are under way."""
    next_sequence: int = 0
    _measured: int = 0
    _queue: list[tuple[Urgency, int, SessionId, Op]] = field(default_factory=list)
    """Heap over `ready`. Entries are not removed when their op is: one that `ready` does not confirm is skipped."""
    _queued: int = 0

    @classmethod
    def joined(cls, event: WorkerJoined, recipe: Recipe, *, spare_pages: int = 0) -> Worker:
        """A fresh worker: everything it has is free. `spare_pages` are those of a lane's spare block."""
        denoises = event.role is Role.DENOISE
        return cls(
            id=event.worker,
            role=event.role,
            capacity=event.capacity,
            pages_per_lane=recipe.page_count + spare_pages,
            spare_pages=spare_pages,
            pool=PagePool(event.capacity if denoises else 0, claims_in_flight=1 + event.chain_length),
            free_slots=[] if denoises else [SlotId(slot) for slot in reversed(range(event.capacity))],
            batch_limit=event.batch_limit if denoises else 1,
            mixes_kinds=event.mixes_kinds,
            chain_length=event.chain_length,
            op_s=event.forward_s,
            is_calibrated=event.forward_s > 0,
            pass_s=event.forward_s,
            _measured=_CALIBRATION_WEIGHT if event.forward_s else 0,
        )

    @property
    def lane_room(self) -> int:
        """Lanes that the free pages can still hold."""
        return self.pool.free_count // self.pages_per_lane

    @property
    def is_measured(self) -> bool:
        """Whether enough is known of its time to call the worker slow."""
        return self.is_calibrated or self._measured >= _TRUSTED

    @property
    def has_room(self) -> bool:
        """Whether it may be handed another dispatch: each of a chain's workers runs one, and one is queued."""
        return len(self.in_flight) < 1 + self.chain_length

    @property
    def queue_length(self) -> int:
        """Entries of the heap over the ready ops, dead ones too: what the ready list takes in memory."""
        return len(self._queue)

    @property
    def passage_s(self) -> float:
        """How long one op takes from end to end, with those that share its forward; 0: unknown."""
        return self.pass_s * self.chain_length

    def keeps_input(self, op: Op, recipe: Recipe) -> bool:
        """Whether `op` starts from an output that the worker has kept, so that nothing has to travel.

        In a chain outputs arise at its end and inputs are needed at its beginning: they travel as any latents do.
        """
        return self.chain_length == 1 and input_is_in_lane(op, recipe)

    def count_lane(self, number: int = 1, *, live: bool) -> None:
        """A lane is to be here; -1: no more."""
        self.lanes += number
        self.live_lanes += number * live

    def new_table(self) -> PageTable:
        """The pages of one more lane; NoCapacity if there are not so many."""
        return self.pool.allocate(self.pages_per_lane - self.spare_pages, spare=self.spare_pages)

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

    def measured(self, seconds: float, ops: int = 1, *, usual_s: float = 0.0) -> None:
        """Fold the reported time of a dispatch of so many ops into the averages; 0 seconds say nothing.

        `usual_s` is what the fleet takes for as many; 0: not known.
        """
        if seconds > 0:
            self._measured = min(self._measured + 1, _MEMORY)
            self.slowness += ((seconds / usual_s if usual_s else 1.0) - self.slowness) / self._measured
            self.op_s += (seconds / ops - self.op_s) / self._measured
            self.pass_s += (seconds - self.pass_s) / self._measured

    def is_ready(self, session: SessionId, op: Op) -> bool:
        return (session, op) in self.ready

    def add_ready(self, session: SessionId, op: Op, urgency: Urgency) -> None:
        """Put an op on the ready list, or give one that is there its present urgency."""
        if self.ready.get((session, op)) == urgency:
            return
        self.ready[session, op] = urgency
        self._queued += 1  # of two equally urgent ops the one that became ready first goes first
        if len(self._queue) > 2 * len(self.ready) + _SLACK_ENTRIES:
            self._queue = [entry for entry in self._queue if self.ready.get((entry[2], entry[3])) == entry[0]]
            heapq.heapify(self._queue)
        heapq.heappush(self._queue, (urgency, self._queued, session, op))

    def most_urgent(self, urgency: Callable[[tuple[SessionId, Op]], Urgency]) -> tuple[SessionId, Op]:
        """The ready op that goes first, by its urgency now; the list must not be empty. It stays on the list.

        An op that has become less urgent since it was queued goes back into the heap, so the cost does not grow with
        the length of the list. One that has become more urgent is offered again by its session's next event.
        """
        while True:
            queued, _, session, op = self._queue[0]
            if self.ready.get((session, op)) != queued:
                heapq.heappop(self._queue)
                continue
            now = urgency((session, op))
            if now <= queued:
                return session, op
            heapq.heappop(self._queue)
            self.add_ready(session, op, now)

    def drop_ready(self, session: SessionId, op: Op | None = None) -> None:
        """Take one op, or all ops of a session, off the ready list."""
        if op is not None:
            del self.ready[session, op]
        else:
            for key in [key for key in self.ready if key[0] == session]:
                del self.ready[key]
        if not self.ready:
            self._queue.clear()

    def release(self, session: Session) -> None:
        """Free everything the session holds here; nothing if it was here only before the worker joined again."""
        if session.id not in self.sessions:
            return
        self.sessions.discard(session.id)
        for worker, table in zip(session.place.lanes, session.place.tables, strict=True):
            if worker == self.id:
                self.pool.release(table)
                self.count_lane(-1, live=session.is_live)
        if session.place.decoder == self.id:
            self.free_slots.append(session.place.slot)
            self.live_slots -= session.is_live

    def check(self, sessions: list[Session], homes: Mapping[tuple[SessionId, int], WorkerId]) -> None:
        """State the invariants of pages and slots against all sessions that exist.

        `homes` says of lanes that move where they are to be: there they count, though they still have pages elsewhere.
        """
        here = [
            session
            for session in sessions
            if self.id in session.place.workers
            and (session.id in self.sessions or session.state is not State.CLOSING)  # else: before it joined again
        ]
        ids = {session.id for session in here}
        counted = [
            session
            for session in sessions
            for lane, worker in enumerate(session.place.lanes)
            if homes.get((session.id, lane), worker if session.id in ids else None) == self.id
        ]
        lanes = [
            table
            for session in here
            for worker, table in zip(session.place.lanes, session.place.tables, strict=True)
            if worker == self.id
        ]
        self.pool.check([*lanes, *self.arriving.values()])
        if len(counted) != self.lanes or ids != self.sessions:
            raise InternalFault(f"worker {self.id} counts {self.lanes} lanes and {len(self.sessions)} sessions")
        live = sum(session.is_live for session in counted)
        live_slots = sum(session.is_live for session in here if session.place.decoder == self.id)
        if (live, live_slots) != (self.live_lanes, self.live_slots):
            raise InternalFault(f"worker {self.id} counts {self.live_lanes} live lanes, {self.live_slots} live slots")
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
            chain_length=self.chain_length,
            op_s=self.op_s,
            slowness=self.slowness,
        )
