"""What workers do for a session, op by op, for those who watch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.core.effects import Closed, Effect, Worked
from longtake.core.events import Event
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.references import told
from longtake.core.work import SessionId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSpan:
    """One op that is done. It ran within the last `seconds` before its report, behind what was dispatched earlier."""

    session: SessionId
    kind: Kind
    step: int
    """The denoising step; 0 for a decode op, and for the commit of level CLEAN."""
    block: int
    worker: WorkerId
    batch: int
    """How many ops shared its dispatch, this one included."""
    dispatched_s: float
    """When it was dispatched, on the engine's clock."""
    done_s: float
    """When its report came, on the engine's clock."""
    seconds: float
    """How long the dispatch took by the worker's clock (of a chain, by that of its slowest worker); 0 if not
    measured."""


class Observer:
    """The spans of one session on their way to a reader on the same event loop. The oldest are lost first."""

    def __init__(self, session: SessionId, limit: int, since_s: float) -> None:
        self.session = session
        self.since_s = since_s
        """Ops that were dispatched before this time are left out."""
        self._spans: deque[OpSpan] = deque(maxlen=limit)
        self._ended = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: OpSpan) -> None:
        """Append a span; never waits."""
        if span.dispatched_s >= self.since_s:
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


class Timeline:
    """A recorder that passes spans on to observers and keeps nothing else."""

    def __init__(self) -> None:
        self._observers: dict[SessionId, list[Observer]] = {}
        self._now_s = float("-inf")
        """The time of the newest event."""

    def observe(self, session: SessionId, *, limit: int = 1024) -> Observer:
        """Collect the ops of an open session that are dispatched from now on, the newest `limit` of them."""
        observer = Observer(session, limit, self._now_s)
        self._observers.setdefault(session, []).append(observer)
        return observer

    def leave(self, observer: Observer) -> None:
        """Stop an observation; harmless if the session has ended."""
        observers = self._observers.get(observer.session, [])
        if observer in observers:
            observers.remove(observer)
        if not observers:
            self._observers.pop(observer.session, None)

    def observers(self, session: SessionId) -> int:
        """How many observe the session."""
        return len(self._observers.get(session, ()))

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Tell those who observe; nothing as long as nobody observes anything."""
        self._now_s = event.now_s
        if not self._observers:
            return
        for effect in effects:
            match effect:
                case Worked():
                    self._worked(effect, event.now_s)
                case Closed():
                    for observer in self._observers.pop(effect.session, ()):
                        observer.end()
                case _:
                    pass

    def _worked(self, fact: Worked, now_s: float) -> None:
        for session, op, _ in fact.ops:
            if session not in self._observers:
                continue
            span = OpSpan(
                session=session,
                kind=op.kind,
                step=op.step,
                block=told(op.block),
                worker=fact.worker,
                batch=fact.batch,
                dispatched_s=fact.dispatched_s,
                done_s=now_s,
                seconds=fact.seconds,
            )
            for observer in self._observers[session]:
                observer.put(span)
