"""One session as the core sees it: its life cycle, its cue timeline and how far each chain of its ops has come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from longtake.core.errors import InvalidField, TooLate, WrongState
from longtake.core.events import CueRequest, Open
from longtake.core.flow import Flow, Pace
from longtake.core.pages import PageTable
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Kind, Op, chains, lane_of
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import CueId, SessionId, SlotId, WorkerId


class State(Enum):
    """Where a session stands."""

    QUEUED = "queued"
    """There was no room for it: it holds nothing and waits for a place."""
    OPENING = "opening"
    """Its prompt is being encoded and its decoder slot cleared."""
    RUNNING = "running"
    PAUSED = "paused"
    """The client paused it: no further block starts, blocks begun are finished and sent."""
    PARKING = "parking"
    """Its lanes and its decoder slot are copied to host memory."""
    PARKED = "parked"
    """It holds no page, slot or rate; what it needs to go on, if it ever ran, lies in host memory."""
    RESTORING = "restoring"
    """It has a place again and its state comes back to it."""
    FINISHING = "finishing"
    """The server drains: as paused, then it ends."""
    CLOSING = "closing"
    """The client has been told that it ended; ops in flight are waited for, then its pages are free."""
    CLOSED = "closed"


GENERATING = (State.RUNNING, State.PAUSED, State.FINISHING)
"""States in which blocks may be under way."""


class Trigger(Enum):
    """What moves a session from state to state."""

    ADMIT = "admit"
    READY = "ready"
    PAUSE = "pause"
    PLAY = "play"
    PARK = "park"
    STOWED = "stowed"
    RESTORE = "restore"
    RESTORED = "restored"
    DRAIN = "drain"
    END = "end"
    QUIET = "quiet"
    """Nothing that names its pages or its slot is in flight any more."""


TRANSITIONS: dict[State, dict[Trigger, State]] = {
    State.QUEUED: {
        Trigger.PAUSE: State.QUEUED,
        Trigger.PLAY: State.QUEUED,
        Trigger.ADMIT: State.OPENING,
        Trigger.END: State.CLOSING,
    },
    State.OPENING: {
        Trigger.PAUSE: State.OPENING,
        Trigger.PLAY: State.OPENING,
        Trigger.READY: State.RUNNING,
        Trigger.END: State.CLOSING,
    },
    State.RUNNING: {
        Trigger.PAUSE: State.PAUSED,
        Trigger.PLAY: State.RUNNING,
        Trigger.PARK: State.PARKING,
        Trigger.DRAIN: State.FINISHING,
        Trigger.END: State.CLOSING,
    },
    State.PAUSED: {
        Trigger.PAUSE: State.PAUSED,
        Trigger.PLAY: State.RUNNING,
        Trigger.PARK: State.PARKING,
        Trigger.DRAIN: State.FINISHING,
        Trigger.END: State.CLOSING,
    },
    State.PARKING: {
        Trigger.PAUSE: State.PARKING,
        Trigger.PLAY: State.PARKING,
        Trigger.STOWED: State.PARKED,
        Trigger.RESTORE: State.RESTORING,
        Trigger.END: State.CLOSING,
    },
    State.PARKED: {
        Trigger.PAUSE: State.PARKED,
        Trigger.PLAY: State.PARKED,
        Trigger.RESTORE: State.RESTORING,
        Trigger.END: State.CLOSING,
    },
    State.RESTORING: {
        Trigger.PAUSE: State.RESTORING,
        Trigger.PLAY: State.RESTORING,
        Trigger.RESTORED: State.PAUSED,
        Trigger.END: State.CLOSING,
    },
    State.FINISHING: {Trigger.DRAIN: State.FINISHING, Trigger.END: State.CLOSING},
    State.CLOSING: {Trigger.DRAIN: State.CLOSING, Trigger.END: State.CLOSING, Trigger.QUIET: State.CLOSED},
    State.CLOSED: {},
}


def next_state(state: State, trigger: Trigger) -> State:
    """The state after `trigger`; WrongState if the table has no such edge."""
    try:
        return TRANSITIONS[state][trigger]
    except KeyError:
        allowed = ", ".join(sorted(edge.value for edge in TRANSITIONS[state])) or "nothing"
        message = f"{trigger.value} is not possible while the session is {state.value}; allowed: {allowed}"
        raise WrongState(message) from None


class Hold(Enum):
    """Why a lane begins no further block, whatever its session may do."""

    MOVING = "moving"
    """Its pages go to another worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A cue that has its block: from `block` on the stream is conditioned on `version`."""

    block: int
    version: int
    cue: CueId | None
    """None for the prompt that the stream was opened with."""
    prompt: str = ""
    """Its text; empty for the one that the stream was opened with."""


@dataclass(slots=True)
class Timeline:
    """The prompts of a session: those waiting for their text, and the turns that have a block."""

    turns: list[Turn] = field(default_factory=lambda: [Turn(block=0, version=0, cue=None)])
    waiting: dict[int, CueRequest] = field(default_factory=dict)
    """By conditioning version."""
    next_version: int = 1

    def ask(self, request: CueRequest) -> int:
        """Note a cue whose text is being encoded; returns its conditioning version."""
        version = self.next_version
        self.next_version += 1
        self.waiting[version] = request
        return version

    def take(self, version: int, *, block: int) -> Turn | None:
        """Give the waiting cue its block; returns the turn that it supersedes, if there is one."""
        request = self.waiting.pop(version)
        earlier = next((turn for turn in self.turns if turn.block == block), None)
        if earlier is not None:
            self.turns.remove(earlier)
        self.turns.append(Turn(block=block, version=version, cue=request.cue, prompt=request.prompt))
        self.turns.sort(key=lambda turn: turn.block)
        return earlier

    def turn_at(self, block: int) -> Turn:
        """The turn that `block` is conditioned on."""
        return max((turn for turn in self.turns if turn.block <= block), key=lambda turn: turn.block)

    def forget_before(self, block: int) -> tuple[int, ...]:
        """Drop turns that neither `block` nor a later one reads; returns their versions."""
        current = self.turn_at(block)
        past = [turn for turn in self.turns if turn.block < current.block]
        for turn in past:
            self.turns.remove(turn)
        return tuple(turn.version for turn in past)

    @property
    def pending_count(self) -> int:
        """Cues that are not in effect yet."""
        return len(self.waiting) + len(self.turns) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a session holds on the workers, from admission to its end."""

    lanes: tuple[WorkerId, ...]
    """Worker of each lane."""
    tables: tuple[PageTable, ...]
    """Page table of each lane."""
    decoder: WorkerId
    slot: SlotId

    def with_lane(self, lane: int, worker: WorkerId, table: PageTable) -> Place:
        """The place after a lane has moved."""
        lanes, tables = list(self.lanes), list(self.tables)
        lanes[lane], tables[lane] = worker, table
        return replace(self, lanes=tuple(lanes), tables=tuple(tables))

    @property
    def workers(self) -> tuple[WorkerId, ...]:
        """Every worker that holds something of the session, each once, in order."""
        return tuple(worker for worker in dict.fromkeys((*self.lanes, self.decoder)) if worker != _GONE)

    def without(self, lost: WorkerId) -> Place:
        """What is left when a worker is lost: one that joins later under its name holds nothing of this."""
        lanes = tuple(_GONE if worker == lost else worker for worker in self.lanes)
        return replace(self, lanes=lanes, decoder=_GONE if self.decoder == lost else self.decoder)


_GONE = WorkerId("")
NOWHERE = Place(lanes=(), tables=(), decoder=_GONE, slot=SlotId(-1))
"""The place of a session that holds nothing: queued or parked."""


@dataclass(slots=True)
class Session:
    """The mutable record of one session; its size does not depend on how long the stream has run."""

    request: Open
    recipe: Recipe
    geometry: Geometry
    place: Place
    flow: Flow
    state: State = State.OPENING
    playing: bool = True
    """What the client said last, Pause or Play; its state follows when it can."""
    timeline: Timeline = field(default_factory=Timeline)
    sent: dict[tuple[Kind, int], int] = field(init=False)
    """Per chain, how many blocks were dispatched …"""
    done: dict[tuple[Kind, int], int] = field(init=False)
    """… and how many are done."""
    in_flight: int = 0
    virtual_time: float = 0.0
    """Service received, for fair sharing."""
    conditioned: set[tuple[WorkerId, int]] = field(default_factory=set)
    """Which worker holds which conditioning version."""
    encoded: set[int] = field(default_factory=set)
    """Conditioning versions whose text is encoded."""
    holds: set[tuple[int, Hold]] = field(default_factory=set)
    """Lanes that are held, and why."""
    header: bytes | None = None
    media_type: str = ""
    first_block: int = 0
    """The first that is its own: above 0 if it is a fork."""
    unshared: set[int] = field(default_factory=set)
    """Lanes of a fork that do not have their share of its parent's pages yet …"""
    unprepared: bool = False
    """… and whether its slot is still to be filled from its parent's."""
    depends: bool = False
    """Whether ops of its parent, before its first block, are not done yet."""
    forks: list[tuple[SessionId, int]] = field(default_factory=list)
    """Sessions that fork from this one, and their first block, as long as they depend on it."""
    last_block: int | None = None
    """No block after this one; None while the stream is endless."""

    def __post_init__(self) -> None:
        self.sent = {chain: 0 for chain in chains(self.recipe)}
        self.done = dict(self.sent)
        limits = [limit for limit in (self._blocks_asked(), self.recipe.block_limit) if limit is not None]
        self.last_block = min(limits) - 1 if limits else None

    def begin_at(self, block: int) -> None:
        """Begin as a fork, with everything before `block` done."""
        self.first_block = block
        self.sent = dict.fromkeys(self.sent, block)
        self.done = dict(self.sent)
        self.flow = replace(self.flow, acknowledged=block - 1)

    def _blocks_asked(self) -> int | None:
        limit = self.request.picture_limit
        return None if limit is None else self.geometry.blocks_for(limit)

    @property
    def id(self) -> SessionId:
        return self.request.session

    @property
    def is_live(self) -> bool:
        """Whether its blocks have due times, for which a rate is reserved."""
        return self.request.pace is Pace.REALTIME

    @property
    def next_block(self) -> int:
        """The first block whose D(0, ·) is not dispatched: the earliest a cue can take."""
        return self.sent[Kind.DENOISE, 0]

    @property
    def emitted(self) -> int:
        """Number of the next segment to leave: as many were sent, less those before `first_block`."""
        return self.done[Kind.DECODE, 0]

    @property
    def is_delivered(self) -> bool:
        """Whether the segment of the last block was sent."""
        return self.last_block is not None and self.emitted > self.last_block

    @property
    def is_at_rest(self) -> bool:
        """Whether every block begun is done to the last op: between blocks, nothing of it in flight."""
        return not self.in_flight and not self.depends and not self.holds and len(set(self.done.values())) == 1

    @property
    def wants_place(self) -> bool:
        """Whether it would run if it had a place."""
        return self.playing and self.flow.has_credit(self.next_block)

    def prompts(self) -> dict[int, str]:
        """The text of every conditioning version in use or asked for."""
        turns = {turn.version: turn.prompt or self.request.prompt for turn in self.timeline.turns}
        return turns | {version: request.prompt for version, request in self.timeline.waiting.items()}

    def is_done(self, op: Op) -> bool:
        return op.block < self.done[op.kind, op.step]

    def is_sent(self, op: Op) -> bool:
        return op.block < self.sent[op.kind, op.step]

    def is_held(self, lane: int) -> bool:
        """Whether the lane may begin no further block now."""
        return any(held == lane for held, _ in self.holds)

    def boundary(self, lane: int) -> int | None:
        """The block that the lane begins next, if all its ops of the blocks before are done; None inside a block."""
        counts = set()
        for kind, step in chains(self.recipe):
            if kind is not Kind.DECODE and lane_of(Op(kind, step, 0), self.recipe) == lane:
                counts |= {self.sent[kind, step], self.done[kind, step]}
        return counts.pop() if len(counts) == 1 else None

    def wants(self, op: Op) -> bool:
        """Whether the stream needs `op` at all: not past its last block, and no commit that nobody will read."""
        if self.last_block is None:
            return True
        return op.block < self.last_block if op.kind is Kind.COMMIT else op.block <= self.last_block

    @property
    def oldest_block(self) -> int:
        """The oldest block of which an op is still to be done."""
        pending = (blocks for (kind, step), blocks in self.done.items() if self.wants(Op(kind, step, blocks)))
        return min(pending, default=self.emitted)

    def forget_prompts(self) -> tuple[int, ...]:
        """Drop the prompts that nothing reads any more; their versions."""
        return self.timeline.forget_before(self.oldest_block) if len(self.timeline.turns) > 1 else ()

    def picture_count(self, block: int) -> int:
        """Pictures of `block` that belong to the stream."""
        whole = self.geometry.pictures(block)
        limit = self.request.picture_limit
        return whole if limit is None else min(whole, limit - self.geometry.first_picture(block))

    def target_block(self, request: CueRequest) -> int:
        """The block at which a cue that comes now takes effect; TooLate or InvalidField if it cannot."""
        block = self.next_block
        if request.block is not None:
            block = request.block
        elif request.picture is not None:
            block = self.geometry.first_block_from(request.picture)
        if self.last_block is not None and block > self.last_block:
            raise InvalidField("cue.at", block, f"a block up to {self.last_block}, the last of this stream")
        if block < self.next_block:
            raise TooLate(block, self.next_block)
        return block


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """What others may know of a session."""

    session: SessionId
    state: State
    prompt: str
    seed: int
    window: int
    realtime: bool
    segments_sent: int
    segments_acknowledged: int
    blocks_begun: int
    cues_pending: int


def view(session: Session) -> SessionView:
    """The public face of a session."""
    return SessionView(
        session=session.id,
        state=session.state,
        prompt=session.request.prompt,
        seed=session.request.seed,
        window=session.flow.window,
        realtime=session.flow.pace.value == "realtime",
        segments_sent=session.emitted - session.first_block,
        segments_acknowledged=session.flow.acknowledged + 1 - session.first_block,
        blocks_begun=session.next_block,
        cues_pending=session.timeline.pending_count,
    )
