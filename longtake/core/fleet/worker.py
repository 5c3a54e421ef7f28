"""What the core keeps of each worker: its pages or slots, its load, its times, and the ops that wait for it or fly."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from longtake.core.effects import Worked
from longtake.core.errors import InternalFault
from longtake.core.events import OpDone, OpFailed, WorkerJoined
from longtake.core.fleet.clips import Clips
from longtake.core.fleet.errands import Errands
from longtake.core.fleet.load import Demand, Demands, Load
from longtake.core.fleet.ready import ReadyList
from longtake.core.fleet.timing import Timing
from longtake.core.numbers import FreeNumbers
from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.ops import Chain
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import Ability, DispatchNumber, ImageId, Role, SessionId, Ticket, WorkerId


@dataclass(frozen=True, slots=True)
class InFlight:
    """A dispatch that has not reported yet."""

    sequence: DispatchNumber
    tickets: tuple[Ticket, ...]
    """The ops of the dispatch; more than one are a batch."""
    dispatched_s: float
    cost: float = 1.0
    """The time of one of its ops over that of one of the cell's default recipe, which the worker's times are of."""

    @property
    def name(self) -> str:
        """What it is, in a sentence."""
        return f"dispatch {self.sequence}"

    def worked(self, report: OpDone | OpFailed, landed: tuple[Ticket, ...]) -> Worked:
        """What the worker has done of it, as it reports now; of these ops the reports count."""
        failed, seconds = (report.sessions, 0.0) if isinstance(report, OpFailed) else ((), report.seconds)
        return Worked(
            worker=report.worker,
            ops=tuple(ticket for ticket in self.tickets if ticket.session not in failed) if failed else self.tickets,
            counted=tuple(ticket for ticket in landed if ticket.session not in failed) if failed else landed,
            batch=len(self.tickets),
            dispatched_s=self.dispatched_s,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What others may know of a worker."""

    worker: WorkerId
    role: Role
    ability: Ability
    free: int
    sessions: int
    in_flight: int
    ready: int
    dispatched: int
    op_s: float = 0.0
    """Average time of one op; 0 while unknown."""
    reserved: float = 0.0
    """The share of its time that REALTIME sessions reserve; 0 also while its time is unknown."""
    slowness: float = 1.0
    """Its time for a dispatch over what the other workers take for as many ops."""
    oldest_s: float = 0.0
    """How long the oldest order that it has not answered has been that; 0 if it has none."""


@dataclass(slots=True)
class Worker:
    """One worker, from its joining to its loss."""

    joined: WorkerJoined
    """What the worker said of itself when it joined."""
    id: WorkerId = field(init=False)
    role: Role = field(init=False)
    capacity: int = field(init=False)
    """How many pages or decoder slots it has."""
    batch_limit: int = field(init=False)
    """How many ops one of its forwards may serve; a decode worker does one op at a time."""
    mixes_kinds: bool = field(init=False)
    """Whether denoise ops and commits may share a forward."""
    chain_length: int = field(init=False)
    """How many workers an op passes through, one after the other: more than one in a layer-split replica."""
    numerics: str = field(init=False)
    """Its class: workers of its role that have the same give the same bits."""
    pool: PagePool = field(init=False)
    """Its pages; a decode worker has none."""
    free_slots: FreeNumbers = field(init=False)
    """Its free decoder slots; a denoise worker has none."""
    timing: Timing = field(init=False)
    load: Load = field(default_factory=Load)
    """The lanes or slots that are here, or are to be."""
    ready: ReadyList = field(default_factory=ReadyList)
    in_flight: deque[InFlight] = field(default_factory=deque)
    errands: Errands = field(default_factory=Errands)
    """What it was ordered beside ops."""
    clips: Clips = field(default_factory=Clips)
    """What it is to encode of what clients gave."""
    sessions: set[SessionId] = field(default_factory=set)
    arriving: dict[ImageId, PageTable] = field(default_factory=dict)
    """Pages reserved for lanes that move here. They stay so until the order to load them is answered."""
    moves: int = 0
    """Moves of lanes from or to here that are under way."""
    next_sequence: int = 0
    shared_s: float = field(init=False)
    """When it was last seen to that sessions without due times get something of it."""
    oldest_s: float = 0.0
    """How old its oldest order was at the last tick; 0 if it had none."""

    def __post_init__(self) -> None:
        # As fields of its own, because the dispatcher asks for them with every op.
        ability, denoises = self.joined.ability, self.joined.role is Role.DENOISE
        self.id, self.role, self.capacity = self.joined.worker, self.joined.role, ability.capacity
        self.batch_limit = ability.batch_limit if denoises else 1
        self.mixes_kinds, self.chain_length = ability.mixes_kinds, ability.chain_length
        self.numerics = ability.numerics
        self.pool = PagePool(self.capacity if denoises else 0, claims_in_flight=1 + self.chain_length)
        self.free_slots = FreeNumbers(self.capacity if self.role is Role.DECODE else 0)
        self.timing = Timing(ability.forward_s, ability.chain_length)
        self.shared_s = self.joined.now_s

    # --- its time -----------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether it may be handed another dispatch, or a part of a clip, which counts as one.

        Each of a chain's workers runs one, and one is queued.
        """
        return len(self.in_flight) + (self.clips.out is not None) < 1 + self.chain_length

    def owes_share(self, *, limit: float, now_s: float, cost: float = 1.0) -> bool:
        """Whether an op without a due time goes first now, if one of this cost is ready (see `InFlight.cost`).

        Of its time a share of `limit` at most is ever reserved; one dispatch in each 1 / (1 - limit) is for the others,
        whatever those want that have due times.
        """
        is_shared = self.load.total > self.load.realtime and self.timing.pass_s > 0
        return is_shared and (now_s - self.shared_s) * (1 - limit) >= cost * self.timing.pass_s

    def keeps_input(self, chain: Chain) -> bool:
        """Whether ops of `chain` start from an output that the worker has kept, so that nothing has to travel.

        In a chain of workers outputs arise at its end and inputs are needed at its beginning: they travel as any
        latents do.
        """
        return chain.input_is_in_lane and self.chain_length == 1

    def disown(self, session: Session) -> None:
        """Let what was handed to the worker of a session count for nothing when it is reported."""
        for flying in self.in_flight:
            for ticket in flying.tickets:
                if ticket.session == session.id:
                    session.progress.disown(session.graph.number_of(ticket.op), ticket.op.block)

    # --- its memory ---------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many pages or slots are free; a text worker has none that could be taken."""
        if self.role is Role.TEXT:
            return self.capacity
        return self.pool.free_count if self.role is Role.DENOISE else len(self.free_slots)

    def new_table(self, session: Session, demand: Demand) -> PageTable:
        """Take the pages of one more lane; NoCapacity if too few are free."""
        window = session.graph.window
        return self.pool.allocate(window, spare=demand.units - window.slots)

    def release(self, session: Session, demands: Demands) -> None:
        """Free everything the session holds here; nothing if it was here only before the worker joined again."""
        if session.id not in self.sessions:
            return
        self.sessions.discard(session.id)
        self.clips.drop(session.id)
        for worker, table in zip(session.place.lanes, session.place.tables, strict=True):
            if worker == self.id:
                self.pool.release(table)
                self.load.count(-1, demands.lane, realtime=session.is_realtime)
        if session.place.decoder == self.id:
            self.free_slots.give_back(session.place.slot)
            self.load.count(-1, demands.slot, realtime=session.is_realtime)

    # --- its dispatches -----------------------------------------------------------------------------------------------

    def dispatched(self, tickets: tuple[Ticket, ...], *, now_s: float, cost: float = 1.0) -> DispatchNumber:
        """Note a dispatch of ops of this cost (see `InFlight.cost`); returns its sequence number."""
        sequence = DispatchNumber(self.next_sequence)
        self.next_sequence += 1
        self.in_flight.append(InFlight(sequence, tickets, now_s, cost))
        return sequence

    # --- what others see ----------------------------------------------------------------------------------------------

    def check(self, sessions: list[Session], homes: Mapping[tuple[SessionId, int], WorkerId]) -> None:
        """State the invariants of pages and slots against all sessions that exist.

        `homes` says where moving lanes are going: they count there, though they still have pages elsewhere.
        """
        here = [
            session
            for session in sessions
            if session.place.has_on(self.id)
            and (session.id in self.sessions or session.state is not State.CLOSING)  # else: before it joined again
        ]
        ids = {session.id for session in here}
        if ids != self.sessions:
            raise InternalFault(f"worker {self.id} counts sessions {sorted(self.sessions)}, here are {sorted(ids)}")
        self.pool.check([*_tables(here, self.id), *self.arriving.values()])
        taken = [session.place.slot for session in here if session.place.decoder == self.id]
        slots = self.capacity if self.role is Role.DECODE else 0
        if sorted((*taken, *self.free_slots)) != list(range(slots)):
            raise InternalFault(f"worker {self.id}: slots {taken} are taken and {[*self.free_slots]} are free")
        self._check_load(sessions, ids, homes)
        self.clips.check([session for session in here if session.place.decoder == self.id])

    def _check_load(
        self, sessions: list[Session], here: set[SessionId], homes: Mapping[tuple[SessionId, int], WorkerId]
    ) -> None:
        counted = [
            session.is_realtime
            for session in sessions
            for lane, worker in enumerate(session.place.lanes)
            if homes.get((session.id, lane), worker if session.id in here else None) == self.id
        ]
        counted += [
            session.is_realtime for session in sessions if session.id in here and session.place.decoder == self.id
        ]
        if (len(counted), sum(counted)) != (self.load.total, self.load.realtime):
            told = f"{self.load.total} lanes and slots, {self.load.realtime} of them realtime"
            raise InternalFault(f"worker {self.id} counts {told}; there are {len(counted)} and {sum(counted)}")

    def view(self, prompts: int = 0, *, reserved: float = 0.0) -> WorkerView:
        """The public face of this worker, which is to encode so many prompts if it is a text worker."""
        return WorkerView(
            worker=self.id,
            role=self.role,
            ability=replace(self.joined.ability, batch_limit=self.batch_limit),
            free=self.free,
            sessions=len(self.sessions),
            in_flight=len(self.in_flight),
            ready=len(self.ready) + prompts + self.clips.parts,
            dispatched=self.next_sequence,
            op_s=self.timing.op_s,
            reserved=reserved,
            slowness=self.timing.slowness,
            oldest_s=self.oldest_s,
        )


def _tables(sessions: list[Session], worker: WorkerId) -> list[PageTable]:
    return [
        table
        for session in sessions
        for at, table in zip(session.place.lanes, session.place.tables, strict=True)
        if at == worker
    ]
