"""A cue that a stream was asked for, and what has become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Protocol

import grpc

from longtake.client.errors import ClientError, Violation
from longtake.client.events import (
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    RequestRefusedEvent,
    StreamEvent,
)

WHO: ContextVar[object] = ContextVar("longtake_who", default=None)
"""Who asks, where it is not the current task: a thread that has its work done by an event loop."""
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}


def who() -> object:
    """Whoever asks."""
    return WHO.get() or asyncio.current_task()


class Listener(Protocol):
    """Takes in what a stream is told."""

    def more(self, *, past_segments: bool) -> Awaitable[None]:
        """Take in a little more; RuntimeError if what is awaited lies behind segments that nobody can take."""
        ...


class StreamCue:
    """A cue on its way: wait for its answer, or until it is shown, beside whoever reads the stream."""

    def __init__(self, id: str, stream: Listener) -> None:
        """`Stream.cue` makes cues."""
        self.id = id
        """Its name, by which events tell of it."""
        self._stream = stream
        self._accepted: CueAcceptedEvent | None = None
        self._applied: CueAppliedEvent | None = None
        self._end: ClientError | None = None
        """Why it will not be shown."""

    def __repr__(self) -> str:
        state = (
            "shown" if self._applied else "not shown" if self._end else "accepted" if self._accepted else "asked for"
        )
        return f"<StreamCue {self.id!r}: {state}>"

    @property
    def is_shown(self) -> bool:
        """Whether the segment that comes next, or one that came before, shows it."""
        return self._applied is not None

    async def accepted(self) -> CueAcceptedEvent:
        """Wait until the server has taken it; ClientError if it is refused, or the stream ends before.

        A wait that is cancelled cancels the waiting only.
        """
        while self._accepted is None:
            if self._end is not None:
                raise self._end
            await self._stream.more(past_segments=False)
        return self._accepted

    async def shown(self) -> CueAppliedEvent:
        """Wait until the first segment that shows it is the next to come.

        ClientError if it is refused, if another cue takes its block, or if the stream ends before. Somebody else has to
        read the stream meanwhile: RuntimeError if the window is full and whoever waits is who should read.
        """
        while self._applied is None:
            if self._end is not None:
                raise self._end
            await self._stream.more(past_segments=True)
        return self._applied

    def told(self, event: StreamEvent) -> None:
        """Take note of what the stream tells of this cue."""
        match event:
            case CueAcceptedEvent():
                self._accepted = event
            case CueAppliedEvent():
                self._applied = event
            case CueSupersededEvent():
                instead = f"{self.id} gives way to {event.by_cue_id}, which took block {event.block}"
                self._end = ClientError(grpc.StatusCode.ABORTED, instead)
            case RequestRefusedEvent():
                about = (Violation(field=event.field, description=event.message),) if event.field else ()
                code = _STATUSES.get(event.code, grpc.StatusCode.UNKNOWN)
                self._end = ClientError(code, event.message, violations=about)


def cue_of(event: StreamEvent) -> str:
    """The id of the cue that an event tells of; empty if it is about none."""
    match event:
        case CueAcceptedEvent() | CueAppliedEvent() | CueSupersededEvent() | RequestRefusedEvent():
            return event.cue_id
    return ""
