"""The tally: everything that is counted of a running cell, folded from its events and effects.

Theory of operation. Every event passes here once, with its effects, so each costs a handful of plain additions: no
locks, no label look-ups, nothing that grows with sessions or time. Even so most of the cost is that code and counts are
no longer in the processor's caches when the engine comes back to them: so events wait until there are many, or until
somebody reads, and are then counted one after the other. Metrics are made of the counts only when somebody asks
(`monitoring.exposition`), and so is the status that operators see. Time is the events' own, the engine's clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import get_args

from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Dispatch,
    Effect,
    Emit,
    EncodeText,
    Give,
    Parked,
    Recovered,
    RequestRefused,
    Restored,
    Worked,
)
from longtake.core.errors import Lack, Refusal
from longtake.core.events import (
    Ack,
    CallRefused,
    Cue,
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
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.facts import LaneMoved, Overdue, Renewed, Stalled
from longtake.core.recipe.ops import Kind
from longtake.core.work import DecodeWork
from monitoring.folding.refusals import CALL_REASONS, call_reason
from monitoring.folding.session_tally import Streams
from monitoring.folding.work_tally import FleetTally

_TOGETHER = 128
"""This many events are counted together."""


class Tally:
    """A recorder that counts. Read what you need; only `fold` and `spent` change it."""

    def __init__(self) -> None:
        self._streams = Streams()
        self._fleet = FleetTally()
        self._refused_calls: dict[Refusal, int] = dict.fromkeys(CALL_REASONS, 0)
        self._events: dict[type[Event], int] = dict.fromkeys(get_args(Event), 0)
        self._draining = False
        self._seconds = 0.0
        self._waiting: list[tuple[Event, Sequence[Effect]]] = []

    @property
    def streams(self) -> Streams:
        """What is counted of streams."""
        self._count()
        return self._streams

    @property
    def fleet(self) -> FleetTally:
        """What is counted of workers."""
        self._count()
        return self._fleet

    @property
    def refused_calls(self) -> Mapping[Refusal, int]:
        """Calls that were not let in, or did not get what their tenants have used up, by reason."""
        self._count()
        return self._refused_calls

    @property
    def events(self) -> Mapping[type[Event], int]:
        """How many events there were of each kind."""
        self._count()
        return self._events

    @property
    def draining(self) -> bool:
        """Whether the server was told to end."""
        self._count()
        return self._draining

    @property
    def seconds(self) -> float:
        """CPU time spent on counting and on writing out."""
        self._count()
        return self._seconds

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.recorder.Recorder."""
        self._waiting.append((event, effects))
        if len(self._waiting) >= _TOGETHER:
            self._count()

    def spent(self, seconds: float) -> None:
        """Note how much CPU time it took to write out metrics."""
        self._seconds += seconds

    def _count(self) -> None:
        if not self._waiting:
            return
        began_s = time.thread_time()
        waiting, self._waiting = self._waiting, []
        events, streams, worked = self._events, self._streams, self._fleet.worked
        for event, effects in waiting:
            events[type(event)] += 1
            # What is frequent comes first, and by isinstance: a class pattern takes twice as long.
            if isinstance(event, Ack):
                streams.acknowledged(event)
            elif not isinstance(event, OpDone | Tick):
                self._seldom(event, effects)
            for effect in effects:
                if isinstance(effect, Worked):
                    worked(effect)
                elif isinstance(effect, Dispatch):
                    work = effect.work
                    if not isinstance(work, DecodeWork):
                        for item in work:
                            if item.step == 0 and item.kind is Kind.DENOISE and item.block >= 0:
                                streams.begun(item.session, item.block, event.now_s)
                elif isinstance(effect, Emit):
                    size_bytes = event.segment_bytes if isinstance(event, OpDone) else 0
                    streams.sent(effect, size_bytes, event.now_s)
                else:
                    self._effect(effect, event.now_s)
        self._seconds += time.thread_time() - began_s

    def _seldom(self, event: Event, effects: Sequence[Effect]) -> None:
        match event:
            case Open():
                self._streams.opening(event, effects)
            case Cue():
                self._streams.asked(event)
            case TextEncoded():
                self._streams.encoded(event)
            case OpFailed():
                self._fleet.failed(event)
            case WorkerJoined():
                self._fleet.join(event)
            case WorkerLost():
                self._fleet.lose(event)
            case Stowed():
                self._fleet.copied(event.worker, "stowed")
            case Loaded():
                self._fleet.copied(event.worker, "loaded")
            case ImageFailed():
                self._fleet.copied(event.worker, "failed")
            case Drain():
                self._draining = True
            case CallRefused() | OpenRefused() | FrameRefused():
                self._refused(event)
            case _:
                pass

    def _refused(self, event: CallRefused | OpenRefused | FrameRefused) -> None:
        """Count what the front end has refused; for a cue the effect is counted instead."""
        refusal = event.problem.kind
        if isinstance(event, CallRefused):
            self._refused_calls[call_reason(refusal)] += 1
        elif refusal is Lack.QUOTA:
            self._refused_calls[refusal] += 1
        if isinstance(event, OpenRefused):
            self._streams.refused(event.pace, refusal)

    def _effect(self, effect: Effect, now_s: float) -> None:
        match effect:
            case EncodeText():
                self._streams.encoding(effect, now_s)
            case CueAccepted() | CueApplied() | CueSuperseded() | RequestRefused():
                self._streams.cue(effect)
            case Parked() | Restored() | Stalled():
                self._streams.placement(effect, now_s)
            case Overdue():
                self._streams.waits(effect)
            case Recovered():
                self._streams.recovered(effect, now_s)
            case Closed():
                self._streams.ended(effect)
            case Give():
                self._fleet.copied(effect.worker, "given")
            case LaneMoved():
                self._fleet.lane_moves += 1
            case Renewed(kind=kind):
                self._fleet.renewals[kind] += 1
            case _:
                pass
