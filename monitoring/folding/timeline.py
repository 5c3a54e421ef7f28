"""What workers do for a session, op by op, for those who watch: dispatches paired with their reports."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.core.effects import Closed, Dispatch, Effect
from longtake.core.events import Event, OpDone, OpFailed, WorkerJoined, WorkerLost
from longtake.core.recipe.graph import Kind
from longtake.core.work import DecodeWork, ForwardWork, SessionId, WorkerId
from longtake.core.work import Sequence as Number


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSpan:
    """One op that is done. It ran within the last `seconds` before its report, behind what was dispatched earlier."""

    session: SessionId
    kind: Kind
    step: int
    """0 for a decode op, and for the commit of level CLEAN."""
    block: int
    worker: WorkerId
    batch: int
    """Ops that shared its dispatch, itself included."""
    dispatched_s: float
    """On the engine's clock."""
    done_s: float
    """When its report came, on the engine's clock."""
    seconds: float
    """What the whole dispatch took by the worker's clock, of a chain of workers the slowest; 0: not measured."""


class Observer:
    """The spans of one session on their way to somebody; both ends on one event loop. The oldest are lost first."""

    def __init__(self, session: SessionId, limit: int) -> None:
        self.session = session
        self._spans: deque[OpSpan] = deque(maxlen=limit)
        self._ended = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: OpSpan) -> None:
        """Append a span; never waits."""
        self._spans.append(span)
        self._changed.set()

    def end(self) -> None:
        """The session has ended."""
        self._ended = True
        self._changed.set()

    async def get(self) -> tuple[OpSpan, ...]:
        """All spans that wait, oldest first, as soon as there is one; none once the session has ended."""
        while not self._spans and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        spans = tuple(self._spans)
        self._spans.clear()
        return spans


@dataclass(frozen=True, slots=True)
class _Sent:
    """A dispatch that holds ops of observed sessions and is not reported yet."""

    dispatched_s: float
    batch: int
    ops: tuple[ForwardWork | DecodeWork, ...]


class Timeline:
    """A recorder that keeps nothing but the dispatches in flight that hold ops of observed sessions."""

    def __init__(self) -> None:
        self._observers: dict[SessionId, list[Observer]] = {}
        self._sent: dict[tuple[WorkerId, Number], _Sent] = {}

    def observe(self, session: SessionId, *, limit: int = 1024) -> Observer:
        """Collect the ops of an open session that are dispatched from now on, the newest `limit` of them."""
        observer = Observer(session, limit)
        self._observers.setdefault(session, []).append(observer)
        return observer

    def leave(self, observer: Observer) -> None:
        """Stop; harmless if the session has ended."""
        observers = self._observers.get(observer.session, [])
        if observer in observers:
            observers.remove(observer)
        if not observers:
            self._observers.pop(observer.session, None)
        if not self._observers:
            self._sent.clear()

    @property
    def pending(self) -> int:
        """Dispatches whose report it waits for: at most those in flight."""
        return len(self._sent)

    def observers(self, session: SessionId) -> int:
        """How many observe the session."""
        return len(self._observers.get(session, ()))

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Pair reports with what was dispatched; nothing as long as nobody observes anything."""
        if not self._observers:
            return
        match event:
            case OpDone():
                self._reported(event, event.sequence, event.seconds, failed=())
            case OpFailed() if event.sequence is not None:
                self._reported(event, event.sequence, 0.0, failed=event.sessions)
            case WorkerJoined() | WorkerLost():  # its numbers begin anew
                self._sent = {key: sent for key, sent in self._sent.items() if key[0] != event.worker}
            case _:
                pass
        for effect in effects:
            match effect:
                case Dispatch():
                    self._dispatched(effect, event.now_s)
                case Closed():
                    for observer in self._observers.pop(effect.session, ()):
                        observer.end()
                case _:
                    pass

    def _dispatched(self, effect: Dispatch, now_s: float) -> None:
        works = (effect.work,) if isinstance(effect.work, DecodeWork) else effect.work
        observed = tuple(work for work in works if work.session in self._observers)
        if observed:
            self._sent[effect.worker, effect.sequence] = _Sent(now_s, len(works), observed)

    def _reported(
        self, event: OpDone | OpFailed, sequence: Number, seconds: float, *, failed: Sequence[SessionId]
    ) -> None:
        sent = self._sent.pop((event.worker, sequence), None)
        if sent is None:
            return
        for work in sent.ops:
            if work.session in failed:
                continue
            kind, step = (work.kind, work.step) if isinstance(work, ForwardWork) else (Kind.DECODE, 0)
            span = OpSpan(
                session=work.session,
                kind=kind,
                step=step,
                block=work.block,
                worker=event.worker,
                batch=sent.batch,
                dispatched_s=sent.dispatched_s,
                done_s=event.now_s,
                seconds=seconds,
            )
            for observer in self._observers.get(work.session, ()):
                observer.put(span)
