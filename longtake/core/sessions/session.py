"""One session as the core sees it: what was asked for, where it stands, what it holds and how far it has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from longtake.core.effects import Trim
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, TooLate
from longtake.core.events import CueRequest, Open
from longtake.core.flow import Flow, Pace
from longtake.core.recipe.block_steps import BlockSteps
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.recipe.renewals import Renewal
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State, Trigger, next_state
from longtake.core.sessions.loads import Loads
from longtake.core.sessions.place import Classes, Place
from longtake.core.sessions.progress import Progress
from longtake.core.sessions.prompts import Prompts
from longtake.core.sessions.retention import Floors, Retention
from longtake.core.sessions.story import Story
from longtake.core.sessions.ties import Kinship, Presence
from longtake.core.work import (
    ConditioningRef,
    Continuity,
    SessionId,
    Ticket,
    WorkerId,
)

_HELD_BY_STATE = {
    State.QUEUED: Hold.PLACE,
    State.OPENING: Hold.CONDITION,
    State.PAUSED: Hold.PAUSE,
    State.PARKING: Hold.RESTORING,
    State.PARKED: Hold.PLACE,
    State.RESTORING: Hold.RESTORING,
    State.FINISHING: Hold.DRAIN,
    State.CLOSING: Hold.DRAIN,
    State.CLOSED: Hold.DRAIN,
}


_UNKNOWN = 100_000
"""So many blocks may have been made after the last one whose latents reached the disk: more than in a day."""


@dataclass(slots=True)
class Session:
    """The mutable record of one session; its size does not depend on how long the stream has run."""

    request: Open
    graph: Graph
    geometry: Geometry
    place: Place
    flow: Flow
    credits: deque[tuple[int, float]] = field(default_factory=deque)
    """Up to which block its client's credit went, beyond what has left, and when that was seen; oldest first."""
    classes: Classes = field(default_factory=Classes)
    """The workers that it may go on with: others would go on with other bits than it began with."""
    state: State = State.OPENING
    playing: bool = True
    """What the client said last, Pause or Play; its state follows when it can."""
    is_realtime: bool = field(init=False)
    """Whether its blocks have due times, for which a rate is reserved."""
    progress: Progress = field(init=False)
    prompts: Prompts = field(default_factory=Prompts)
    story: Story = field(default_factory=Story)
    loads: Loads = field(default_factory=Loads)
    kin: Kinship = field(default_factory=Kinship)
    presence: Presence = field(default_factory=Presence)
    lane_holds: set[tuple[int, Hold]] = field(default_factory=set)
    """Lanes that are held for a reason of their own."""
    is_to_encode: bool = field(init=False)
    """Whether the pictures that its client gave are still to be encoded: the worker of its slot does that."""
    is_opened: bool = False
    """Whether its client was told that the stream has begun."""
    is_frozen: bool = False
    """Whether its cues wait, because it may be about to go on at another server."""
    struck_s: float | None = None
    """When a part of its state was lost with a worker; None once it is whole again."""
    journal_bytes: int = 0
    """What it was let in with of the journal's memory."""
    shown_from: int = 0
    """Segments before this one are not emitted: the client has them, from another engine."""
    has_sent: int = 0
    """Segments before this one were sent by this engine, though they may be made again."""
    may_have_sent: int = 0
    """Up to so many segments may have been sent by another engine, which nobody knows."""
    settled_to: int = 0
    """Blocks before this one may have been shown already, by an engine before: their prompts are what they are."""
    kept: Floors = field(init=False)
    """From which blocks on something is kept of it: what was dropped once does not come back."""
    whole_by_s: float = float("inf")
    """When what is being rebuilt of it should be there again."""
    avoids: WorkerId | None = None
    """A worker on which an op of it failed: what is rebuilt goes elsewhere if it can."""
    failed: Op | None = None
    """That op; if it fails again, the session ends."""
    continuity: Continuity = Continuity.EXACT
    """What it will be against an undisturbed stream, once it is whole again."""
    ending: Ending | None = None
    """How it has ended; None while it has not."""
    virtual_time: float = 0.0
    """The service that it has received, for fair sharing."""
    header: bytes | None = None
    media_type: str = ""
    _tickets: dict[int, Ticket] = field(default_factory=dict)
    """The ticket that was made last, by chain."""

    def __post_init__(self) -> None:
        self.is_realtime = self.request.pace is Pace.REALTIME
        gives = self.request.given_frames > 0 or self.graph.window.references > 0
        self.is_to_encode = gives and self.request.fork is None
        asked = self.request.picture_limit
        limits = (None if asked is None else self.geometry.blocks_for(asked), self.graph.recipe.block_limit)
        self.progress = Progress(self.graph, min((limit - 1 for limit in limits if limit is not None), default=None))
        self.kept = Floors(latents=(0,) * self.graph.step_count, texts=0)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> SessionId:
        return self.request.session

    def follow(self, trigger: Trigger) -> None:
        """Go to the state that `trigger` leads to; WrongState if it leads nowhere from here."""
        self.state = next_state(self.state, trigger)

    # --- how far it is ------------------------------------------------------------------------------------------------

    @property
    def next_block(self) -> int:
        """The first block whose D(0, ·) is not dispatched: the earliest a cue can take. Given blocks count as begun."""
        return max(self.progress.next_block, self.graph.given_blocks)

    @property
    def paced_block(self) -> int:
        """The block for which there must be credit and time, so that the next op that may be held can go."""
        return self.next_block if self.progress.riding is None else self.progress.riding.paced_block

    @property
    def last_block(self) -> int | None:
        """No block comes after this one; None while the stream is endless."""
        return self.progress.last_block

    @property
    def emitted(self) -> int:
        """Number of the next segment to leave: as many were sent, less those before the first that is its own."""
        return self.progress.emitted

    @property
    def segments_sent(self) -> int:
        """Segments that the client was sent."""
        return max(self.emitted, self.has_sent) - self.kin.first_block

    def make_again(self, segment: int) -> None:
        """Go back to this segment, which was sent; nothing of the decodes is in flight that counts."""
        self.has_sent = max(self.has_sent, self.emitted)
        self.progress.rewind(self.graph.decodes, segment)

    @property
    def is_begun(self) -> bool:
        """Whether no block is left to begin."""
        last = self.progress.last_block
        return last is not None and self.next_block > last

    @property
    def is_delivered(self) -> bool:
        """Whether the segment of the last block was sent."""
        last = self.progress.last_block
        return last is not None and self.emitted > last

    @property
    def is_at_rest(self) -> bool:
        """Whether every block begun is done to the last op: between blocks, nothing of it in flight."""
        return self.progress.is_even and not self.kin.depends and not self.lane_holds

    @property
    def wants_place(self) -> bool:
        """Whether it would do anything if it had a place: begin a block, or end one that is begun."""
        if self.kin.depends or self.presence.is_away:
            return False  # what it would begin with is not there before its parent has come to it, or nobody looks
        begins = self.playing and self.flow.has_credit(self.paced_block)
        return begins or not self.is_opened or not self.progress.is_even

    def ticket(self, chain: int, block: int) -> Ticket:
        """The op of a block in the chain with this number, which comes next there."""
        attempt = self.progress.attempt(chain, block)
        known = self._tickets.get(chain)
        if known is not None and known.op.block == block and known.attempt == attempt:
            return known  # an op is asked for many times before it runs
        known = self._tickets[chain] = Ticket(self.request.session, self.graph.op(chain, block), attempt)
        return known

    def conditioning(self, op: Op) -> ConditioningRef:
        """The prompt that a forward is conditioned on: that of its block, unless it commits that anew."""
        version = (self.renewal(op) or self.prompts.turn_at(op.block)).version
        return ConditioningRef(session=self.request.session, version=version)

    def renewal(self, op: Op) -> Renewal | None:
        """What an op that is sent next in its chain, or was sent last, commits anew."""
        return self.progress.again.renewal(self.graph.number_of(op), op.block)

    def steps(self, block: int) -> BlockSteps:
        """The steps that a block takes; those that it would take now if it is not begun."""
        return self.graph.steps_of(block, self.loads.at(block))

    def seed_at(self, block: int) -> int:
        """The seed of the noise of `block`: before its own first one that of the stream it was forked from."""
        return next((seed for until, seed in self.kin.seeds if block < until), self.request.seed)

    def seeds_before(self, block: int) -> tuple[tuple[int, int], ...]:
        """The seeds of all blocks before this one: up to which block each of them holds, in ascending order."""
        older = [(until, seed) for until, seed in self.kin.seeds if until < block]
        return (*older, (block, self.seed_at(block - 1))) if block else ()

    def shown_next(self, block: int) -> int:
        """The first block from this one on, which is to be decoded next, whose pictures are wanted."""
        return max(block, self.shown_from, self.progress.replayed_to(self.graph.decodes, block))

    def trim(self, retention: Retention, *, all_texts: bool = False) -> Trim:
        """Drop the prompts that nothing can be computed from any more, and have the journal drop such latents.

        With `all_texts` the journal drops what all prompts were encoded to.
        """
        forks = [block for _, block in self.kin.forks]
        floors = retention.floors(self.progress, acknowledged=self.flow.acknowledged, forks=forks)
        self.kept = self.kept.raised(floors)
        self.loads.forget_before(self.kept.latents[-1])
        sinks, held = self.graph.kept_blocks, retention.held(self.prompts.turns, self.kept)
        versions = self.prompts.forget_before(self.kept.texts, sinks=self.graph.prompting_blocks, keep=held.turns)
        self.story.forget_before(self.kept.texts, keep={*range(sinks), *(turn.block for turn in held.turns)})
        if all_texts:
            versions = (*versions, *sorted(self.prompts.encoded))
        return Trim(session=self.id, floors=self.kept.latents, sinks=sinks, held=held.blocks, versions=versions)

    # --- why it does not go on ----------------------------------------------------------------------------------------

    def holds(self, lane: int, *, now_s: float) -> Iterator[Hold]:
        """Every reason why the lane begins no block now; if there is none it may, as far as its ops allow."""
        for held, hold in self.lane_holds:
            if held == lane:
                yield hold
        ends_together = self.graph.joint is not None and self.state is State.FINISHING  # no block is to come
        if lane != self.graph.chains[self.graph.first].lane or ends_together:
            return
        block = self.next_block
        begun_again = self.state is State.FINISHING and self.last_block is not None and block <= self.last_block
        if self.state is not State.RUNNING and not begun_again:  # that is a block that was begun, and lost
            yield _HELD_BY_STATE[self.state]
        if self.presence.is_away:
            yield Hold.DETACHED
        if not self.flow.has_credit(self.paced_block):
            yield Hold.CREDIT
        if self.flow.earliest_start_s(self.paced_block, geometry=self.geometry) > now_s:
            yield Hold.PLAYBACK

    def struck(self, now_s: float) -> None:
        """Note that a part of its state is lost now, if none was missing already."""
        self.struck_s = now_s if self.struck_s is None else self.struck_s

    def recovered(self) -> Continuity:
        """Note that it is whole again; returns what it is against an undisturbed stream."""
        continuity, self.continuity = self.continuity, Continuity.EXACT
        self.struck_s = self.avoids = None
        return continuity

    def note_credit(self, *, now_s: float) -> None:
        """Note how far its client's credit goes, as a segment has left."""
        while self.credits and self.credits[0][0] < self.emitted:
            self.credits.popleft()
        until = self.flow.acknowledged + self.flow.window
        if not self.credits or until > self.credits[-1][0]:
            self.credits.append((until, now_s))

    def credited_s(self, block: int) -> float | None:
        """When its client's credit for a block that has not left was there, as far as that was seen; None if not."""
        return next((at_s for until, at_s in self.credits if until >= block), None)

    def start_clock(self, *, now_s: float) -> None:
        """Note that the stream begins or goes on now."""
        self.flow = self.flow.started(self.emitted, now_s=now_s, geometry=self.geometry)

    # --- what clients ask about it ------------------------------------------------------------------------------------

    @property
    def cues_pending(self) -> int:
        """Cues that are not in effect yet."""
        return self.prompts.pending_count(self.progress.oldest_new_block)

    def prompt_texts(self) -> dict[int, str]:
        """The text of every conditioning version that is in use or was asked for."""
        turns = {turn.version: turn.prompt or self.request.prompt for turn in self.prompts.turns}
        return turns | {version: request.prompt for version, request in self.prompts.waiting.items()}

    def prompt_at(self, block: int) -> str:
        """The prompt that a block shows; the oldest that is known for one before."""
        return self.prompts.shown_at(block).prompt or self.request.prompt

    def picture_count(self, block: int) -> int:
        """Pictures of `block` that belong to the stream."""
        whole = self.geometry.pictures(block)
        limit = self.request.picture_limit
        return whole if limit is None else min(whole, limit - self.geometry.first_picture(block))

    def target_block(self, request: CueRequest) -> int:
        """The block at which a cue that comes now takes effect; TooLate or InvalidField if it cannot."""
        begun = self.next_block + self.progress.again.has_renewed(self.next_block)  # in effect, if a lane is renewed
        first = block = max(begun, self.settled_to)
        if request.block is not None:
            block = request.block
        elif request.picture is not None:
            block = self.geometry.first_block_from(request.picture)
        if self.last_block is not None and block > self.last_block:
            raise InvalidField("cue.at", block, f"a block up to {self.last_block}, the last of this stream")
        if block < first:
            raise TooLate(block, first)
        return block

    def resume_at(self, frontier: tuple[int, ...], *, acknowledged: int) -> None:
        """Go on where another engine stood: so far each chain is done, segments up to `acknowledged` are shown."""
        self.progress.resume_at(frontier)
        self.flow = replace(self.flow, acknowledged=acknowledged)
        self.shown_from, self.may_have_sent = acknowledged + 1, max(frontier) + _UNKNOWN
        self.presence.connection = None

    def settle_past(self, segment: int) -> None:
        """Its client wants `segment` next: a window from there may have been shown, in which no cue takes effect."""
        if self.may_have_sent and not self.settled_to:
            self.settled_to = segment + self.flow.window
            self.loads.settle_to(self.settled_to)

    @property
    def sent_at_most(self) -> int:
        """Segments of higher numbers were never sent."""
        return max(self.emitted, self.has_sent, self.may_have_sent)

    def begin_at(self, block: int, seeds: tuple[tuple[int, int], ...]) -> None:
        """Begin as a fork, with everything before `block` done, by these seeds."""
        self.kin = Kinship(first_block=block, seeds=seeds)
        self.progress.begin_at(block)
        self.flow = replace(self.flow, acknowledged=block - 1)
