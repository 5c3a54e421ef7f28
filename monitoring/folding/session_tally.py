"""What is counted of streams: sums by pace, and the little that is kept of each while it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Effect,
    Emit,
    EncodeText,
    Parked,
    Recovered,
    Refused,
    RequestRefused,
    Restored,
)
from longtake.core.endings import Ending
from longtake.core.errors import Refusal
from longtake.core.events import Ack, Cue, Open, TextEncoded
from longtake.core.facts import Overdue, Stalled
from longtake.core.flow import Pace
from longtake.core.work import Continuity, CueId, SessionId
from monitoring.folding.histogram import Histogram
from monitoring.folding.refusals import OPEN_REASONS, open_reason

CUE_RESULTS = ("accepted", "applied", "superseded", "refused")
REBUILT, WAITED = "rebuilt", "waited"
"""How a stream comes to be whole again: what was lost is rebuilt at once, or it gives up its place and is parked."""


@dataclass(slots=True)
class PaceTally:
    """All streams of one pace since the server started."""

    opened: int = 0
    """Opens that were granted, because a session got a place."""
    refused: dict[Refusal, int] = field(default_factory=lambda: dict.fromkeys(OPEN_REASONS, 0))
    closed: dict[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))
    parked: int = 0
    restored: int = 0
    stalls: int = 0
    blocks: int = 0
    """Blocks that were sent as segments."""
    late_blocks: int = 0
    shed_blocks: int = 0
    """Those that took fewer steps than usual."""
    pictures: int = 0
    segment_bytes: int = 0
    slack_s: Histogram = field(default_factory=partial(Histogram.of, "longtake_block_slack_seconds"))
    first_segment_s: Histogram = field(default_factory=partial(Histogram.of, "longtake_first_segment_seconds"))
    block_latency_s: Histogram = field(default_factory=partial(Histogram.of, "longtake_block_latency_seconds"))
    prompt_to_screen_s: Histogram = field(default_factory=partial(Histogram.of, "longtake_prompt_to_screen_seconds"))
    client_lag: Histogram = field(default_factory=partial(Histogram.of, "longtake_client_lag_segments"))

    @property
    def refusals(self) -> int:
        """Opens that were refused, for whatever reason."""
        return sum(self.refused.values())


@dataclass(slots=True)
class SessionTally:
    """One open session. Only blocks in flight and cues not yet seen are kept, so this does not grow with the stream."""

    pace: PaceTally
    opened_at_s: float
    """When it was asked for, on the engine's clock."""
    placed_at_s: float | None = None
    """When it got a place; None while it is queued."""
    pictures: int = 0
    """Pictures that were sent."""
    slack_s: float | None = None
    """How long before it was due the newest segment left; None if nothing was due yet, or ever is."""
    overdue: Overdue | None = None
    """The block that should have left since then, and has not."""
    newest: int | None = None
    """Block of the newest segment; None if no segment was sent."""
    acknowledged: int = -1
    begun_s: dict[int, float] = field(default_factory=dict)
    """When the first op of each block was dispatched, for blocks whose segment has not left."""
    cues_s: dict[CueId, float] = field(default_factory=dict)
    """When the cues came that are to take effect as soon as possible and have not yet."""
    texts_s: dict[int, float] = field(default_factory=dict)
    """When a worker was told to encode them, for prompts that are not encoded yet, by conditioning version."""
    shown_s: dict[int, float] = field(default_factory=dict)
    """When the cues came whose first block was sent and not acknowledged, by that block."""
    parked_s: float = float("-inf")
    """When it last gave up its place."""

    def slack_at(self, now_s: float) -> float | None:
        """`slack_s`, or while a block is overdue how much less there is of it by now."""
        if self.overdue is None:
            return self.slack_s
        return min(self.overdue.due_s - now_s, 0.0 if self.slack_s is None else self.slack_s)


class Streams:
    """Folds what concerns streams."""

    def __init__(self) -> None:
        self.paces = {pace: PaceTally() for pace in Pace}
        self.open: dict[SessionId, SessionTally] = {}
        """The sessions, from their Open to their Closed."""
        self.text_s = Histogram.of("longtake_text_seconds")
        self.queue_wait_s = Histogram.of("longtake_queue_wait_seconds")
        self.cues = dict.fromkeys(CUE_RESULTS, 0)
        self.recovery_s = {
            (continuity, way): Histogram.of("longtake_recovery_seconds")
            for continuity in Continuity
            for way in (REBUILT, WAITED)
        }

    # --- events -------------------------------------------------------------------------------------------------------

    def opening(self, event: Open, effects: Sequence[Effect]) -> None:
        """Count an Open that came with these effects. What follows from the effects is folded after it."""
        for effect in effects:
            if isinstance(effect, Refused) and effect.session == event.session:
                self.refused(event.pace, effect.problem.kind)
                return
        entry = SessionTally(pace=self.paces[event.pace], opened_at_s=event.now_s)
        self.open[event.session] = entry
        for effect in effects:
            if isinstance(effect, EncodeText) and effect.conditioning.session == event.session:
                entry.placed_at_s = event.now_s
                entry.pace.opened += 1
                return

    def refused(self, pace: Pace, refusal: Refusal) -> None:
        """Count an Open that was refused."""
        self.paces[pace].refused[open_reason(refusal)] += 1

    def asked(self, event: Cue) -> None:
        """Note that a cue came."""
        entry, request = self.open.get(event.session), event.request
        if entry is not None and request.block is None and request.picture is None:
            entry.cues_s[request.cue] = event.now_s

    def encoded(self, event: TextEncoded) -> None:
        """Note that a prompt is encoded."""
        entry = self.open.get(event.conditioning.session)
        asked_s = None if entry is None else entry.texts_s.pop(event.conditioning.version, None)
        if asked_s is not None:
            self.text_s.observe(event.now_s - asked_s)

    def acknowledged(self, event: Ack) -> None:
        """Note that a client has consumed segments; an acknowledgement that is refused says nothing."""
        entry = self.open.get(event.session)
        if entry is None or entry.newest is None or event.segment > entry.newest:
            return
        entry.pace.client_lag.observe(entry.newest - entry.acknowledged)
        entry.acknowledged = max(entry.acknowledged, event.segment)
        if entry.shown_s:
            for block in [block for block in entry.shown_s if block <= event.segment]:
                entry.pace.prompt_to_screen_s.observe(event.now_s - entry.shown_s.pop(block))

    def begun(self, session: SessionId, block: int, now_s: float) -> None:
        """Note that the first op of a block was dispatched; again, perhaps, because a worker was lost."""
        entry = self.open.get(session)
        if entry is not None and (entry.newest is None or block > entry.newest):
            entry.begun_s.setdefault(block, now_s)

    # --- effects ------------------------------------------------------------------------------------------------------

    def sent(self, emit: Emit, size_bytes: int, now_s: float) -> None:
        """Count a segment that has left."""
        entry = self.open.get(emit.session)
        if entry is None:
            return
        pace = entry.pace
        pace.blocks += 1
        pace.shed_blocks += emit.load > 0
        pace.pictures += emit.picture_count
        pace.segment_bytes += size_bytes
        entry.pictures += emit.picture_count
        entry.slack_s = emit.slack_s
        if emit.slack_s is not None:
            pace.slack_s.observe(emit.slack_s)
            is_counted = entry.overdue is not None and entry.overdue.block == emit.block
            pace.late_blocks += emit.slack_s < 0 and not is_counted
        entry.overdue = None
        if entry.newest is None:
            entry.acknowledged = emit.block - 1
            pace.first_segment_s.observe(now_s - (entry.placed_at_s or entry.opened_at_s))
        entry.newest = emit.block
        begun_s = entry.begun_s.pop(emit.block, None)
        if begun_s is not None:
            pace.block_latency_s.observe(now_s - begun_s)

    def waits(self, overdue: Overdue) -> None:
        """Count a block as late that is overdue; it does not count again when it leaves."""
        entry = self.open.get(overdue.session)
        if entry is not None:
            entry.pace.late_blocks += 1
            entry.overdue = overdue

    def encoding(self, order: EncodeText, now_s: float) -> None:
        """Note that a text is encoded. That needs a place, so its session is not queued any more."""
        entry = self.open.get(order.conditioning.session)
        if entry is None:
            return
        entry.texts_s.setdefault(order.conditioning.version, now_s)  # what a lost worker had is ordered once more
        if entry.placed_at_s is None:
            entry.placed_at_s = now_s
            entry.pace.opened += 1
            self.queue_wait_s.observe(now_s - entry.opened_at_s)

    def cue(self, effect: CueAccepted | CueApplied | CueSuperseded | RequestRefused) -> None:
        """Count what became of a cue, or of another request."""
        entry = self.open.get(effect.session)
        match effect:
            case CueAccepted():
                self.cues["accepted"] += 1
            case CueApplied():
                self.cues["applied"] += 1
                asked_s = None if entry is None else entry.cues_s.pop(effect.cue, None)
                if entry is not None and asked_s is not None:
                    entry.shown_s[effect.block] = asked_s
            case CueSuperseded():
                self.cues["superseded"] += 1
                if entry is not None:
                    entry.cues_s.pop(effect.cue, None)
            case RequestRefused(cue=cue) if cue is not None:
                self.cues["refused"] += 1
                if entry is not None:
                    entry.cues_s.pop(cue, None)
            case RequestRefused():
                pass

    def placement(self, effect: Parked | Restored | Stalled, now_s: float) -> None:
        """Count a session that gave up its place, got one again, or had to stop."""
        entry = self.open.get(effect.session)
        if entry is None:
            return
        match effect:
            case Parked():
                entry.pace.parked += 1
                entry.parked_s = now_s
            case Restored():
                entry.pace.restored += 1
            case Stalled():
                entry.pace.stalls += 1

    def recovered(self, effect: Recovered, now_s: float) -> None:
        """Count a session that is whole again. One that is being rebuilt is not parked for any other reason."""
        entry = self.open.get(effect.session)
        if entry is not None:
            way = WAITED if now_s - entry.parked_s <= effect.seconds else REBUILT
            self.recovery_s[effect.continuity, way].observe(effect.seconds)

    def ended(self, effect: Closed) -> None:
        """Count the end of a session, and forget it."""
        entry = self.open.pop(effect.session, None)
        if entry is not None:
            entry.pace.closed[effect.ending] += 1
