"""The tally: everything that is counted of a running cell, folded from its events and effects.

Theory of operation. Every event passes here once, with its effects, so each costs a handful of plain additions: no
locks, no label look-ups, nothing that grows with sessions or time. Metrics are made of it only when somebody asks
(`monitoring.exposition`), and so is the status that operators see. Time is the events' own, the engine's clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    LaneMoved,
    Parked,
    RequestRefused,
    Restored,
    Stalled,
)
from longtake.core.events import (
    Ack,
    Cue,
    Drain,
    Event,
    ImageFailed,
    Loaded,
    OpDone,
    Open,
    OpFailed,
    Stowed,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.schedule import Kind
from longtake.core.work import DecodeWork
from monitoring.session_tally import Streams
from monitoring.work_tally import Labour

_SAMPLED = 16
"""One of so many folds is timed."""
_INTERRUPTED_S = 0.0005
"""A fold that takes so long was not working all the time: it counts as none."""


class Tally:
    """A recorder that counts. Read what you need; only `fold` and `spent` change it."""

    def __init__(self) -> None:
        self.streams = Streams()
        self.labour = Labour()
        self.events: dict[type[Event], int] = dict.fromkeys(get_args(Event), 0)
        self.draining = False
        self.seconds = 0.0
        """CPU time spent on counting and on writing out."""
        self._folds = 0

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.recorder.Recorder."""
        self._folds += 1
        if self._folds % _SAMPLED:
            self._fold(event, effects)
            return
        began_s = time.perf_counter()  # the clock of CPU time takes as long as a fold
        self._fold(event, effects)
        took_s = time.perf_counter() - began_s
        if took_s < _INTERRUPTED_S:
            self.seconds += _SAMPLED * took_s

    def spent(self, seconds: float) -> None:
        """Metrics were written out, which took so much CPU time."""
        self.seconds += seconds

    def _fold(self, event: Event, effects: Sequence[Effect]) -> None:
        self.events[type(event)] += 1
        match event:
            case OpDone():
                self.labour.op_done(event)
            case Tick():
                pass
            case Ack():
                self.streams.acknowledged(event)
            case Open():
                self.streams.opening(event, effects)
            case _:
                self._rare(event)
        for effect in effects:
            self._effect(effect, event)

    def _rare(self, event: Event) -> None:
        match event:
            case Cue():
                self.streams.asked(event)
            case OpFailed():
                self.labour.op_failed(event)
            case WorkerJoined():
                self.labour.join(event)
            case WorkerLost():
                self.labour.lose(event)
            case Stowed():
                self.labour.copied(event.worker, "stowed")
            case Loaded():
                self.labour.copied(event.worker, "loaded")
            case ImageFailed():
                self.labour.copied(event.worker, "failed")
            case Drain():
                self.draining = True
            case _:
                pass

    def _effect(self, effect: Effect, event: Event) -> None:
        match effect:
            case Dispatch():
                self.labour.dispatched(effect)
                if not isinstance(effect.work, DecodeWork):
                    for item in effect.work:
                        if item.step == 0 and item.kind is Kind.DENOISE:
                            self.streams.begun(item.session, item.block, event.now_s)
            case Emit():
                size_bytes = event.segment_bytes if isinstance(event, OpDone) else 0
                self.streams.sent(effect, size_bytes, event.now_s)
            case EncodeText():
                self.streams.placed(effect.conditioning.session, event.now_s)
            case CueAccepted() | CueApplied() | CueSuperseded() | RequestRefused():
                self.streams.cue(effect)
            case Parked() | Restored() | Stalled():
                self.streams.placement(effect)
            case Closed():
                self.streams.ended(effect)
            case Give():
                self.labour.copied(effect.worker, "given")
            case LaneMoved():
                self.labour.lane_moves += 1
            case _:
                pass
