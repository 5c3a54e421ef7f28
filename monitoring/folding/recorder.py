"""The one source of log lines: a line for each event in the life of a session or a worker, none per block."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from longtake.core.effects import Closed, CueAccepted, CueSuperseded, Effect, Recovered, Refused, RequestRefused
from longtake.core.events import Drain, Event, FrameRefused, OpFailed, Pause, Play, WorkerJoined, WorkerLost
from longtake.core.openings import Opened
from longtake.core.sparing import Sparing, with_left_out
from longtake.core.work import Loss, Role, WorkerId

REFUSED_PER_S = 20
"""So many lines a second tell of refusals, which anybody may ask for; the others are only counted."""

_log = logging.getLogger("longtake")


class Recorder(Protocol):
    """Something that is called once for each event, after its effects were performed."""

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Take note; must neither wait nor raise."""
        ...


class Silent:
    """Records nothing."""

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Take no note."""


class AllRecorders:
    """Several recorders, in order."""

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Have each take note."""
        for recorder in self._recorders:
            recorder.fold(event, effects)


class LogLines:
    """Writes the lives of sessions and workers to the log `longtake`."""

    def __init__(self) -> None:
        self._classes: dict[WorkerId, tuple[Role, str]] = {}
        """Role and numerics of the workers that are joined."""
        self._refusals = Sparing(REFUSED_PER_S, 1.0)

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """One line for each thing that happened to a session or a worker."""
        if isinstance(event, FrameRefused):  # a client may send any number of them
            return
        match event:
            case WorkerJoined():
                _log.info(
                    "worker %s joined: %s%s, capacity %d, batch limit %d",
                    event.worker,
                    event.role.value,
                    f", a chain of {event.ability.chain_length}" if event.ability.chain_length > 1 else "",
                    event.ability.capacity,
                    event.ability.batch_limit,
                )
                self._classes[event.worker] = (event.role, event.ability.numerics)
                self._warn_of_classes(event.role)
            case WorkerLost(cause=Loss.ENDED):
                _log.info("worker %s ended", event.worker)
                self._classes.pop(event.worker, None)
            case WorkerLost():
                _log.warning("worker %s lost: %s", event.worker, event.reason)
                self._classes.pop(event.worker, None)
            case OpFailed():
                for session in event.sessions:
                    _log.warning("session %s: an op failed on %s: %s", session, event.worker, event.reason)
            case Pause() | Play():
                _log.info("session %s: %s", event.session, type(event).__name__.lower())
            case Drain():
                _log.info("draining: open sessions end %s", f"within {event.grace_s:.0f} s" if event.grace_s else "now")
            case _:
                pass
        for effect in effects:
            if isinstance(effect, Refused | RequestRefused):
                self._refusal_line(effect, event.now_s)
            else:
                _effect_line(effect)

    def _refusal_line(self, effect: Refused | RequestRefused, now_s: float) -> None:
        left_out = self._refusals.left_out(now_s)
        if left_out is not None:
            what = "refused" if isinstance(effect, Refused) else "request refused"
            _log.info("session %s: %s: %s", effect.session, what, with_left_out(effect.problem.message, left_out))

    def _warn_of_classes(self, role: Role) -> None:
        """Say it if the workers of a role do not all give the same bits."""
        classes: dict[str, list[str]] = {}
        for worker, (its, numerics) in self._classes.items():
            if its is role:
                classes.setdefault(numerics, []).append(worker)
        if len(classes) > 1:
            told = "; ".join(f"{numerics[:12] or 'unknown'}: {', '.join(of)}" for numerics, of in classes.items())
            _log.warning("%s workers do not all give the same bits, they are of %d classes of numerics: %s",
                         role.value, len(classes), told)  # fmt: skip


def _effect_line(effect: Effect) -> None:
    match effect:
        case Opened():
            _log.info("session %s: opened, seed %d", effect.session, effect.seed)
        case CueAccepted():
            _log.info("session %s: cue %s accepted at block %d", effect.session, effect.cue, effect.block)
        case CueSuperseded():
            _log.info("session %s: cue %s superseded by %s", effect.session, effect.cue, effect.by)
        case Recovered():
            _log.info(
                "session %s: whole again after %.1f s, %s from block %d on",
                effect.session,
                effect.seconds,
                effect.continuity.value,
                effect.from_block,
            )
        case Closed():
            why = f" ({effect.reason})" if effect.reason else ""
            _log.info(
                "session %s: closed, %s%s, %d segments", effect.session, effect.ending.value, why, effect.segments
            )
        case _:
            pass
