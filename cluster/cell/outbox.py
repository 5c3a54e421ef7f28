"""Bounded queues from the engine to clients, who may read slower than it writes; offering never waits."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cluster.cell.signal import Signal
from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Emit,
    Notice,
    Recovered,
    Refused,
    RequestRefused,
)
from longtake.core.errors import Unavailable
from longtake.core.openings import Opened
from longtake.core.work import SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOut:
    """A segment on its way to a client."""

    emit: Emit
    data: bytes

    @property
    def session(self) -> SessionId:
        return self.emit.session


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Another call has the session now; the last that this one is told."""

    session: SessionId
    segments: int
    """How many segments the session has sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedAway:
    """The session goes on at another server; Closed follows."""

    session: SessionId
    address: str
    token: bytes
    """What its client shows there."""
    name: str = ""
    """What it is called there; empty if nobody said."""


ClientMessage = (
    Opened
    | Refused
    | SegmentOut
    | CueAccepted
    | CueApplied
    | CueSuperseded
    | RequestRefused
    | Recovered
    | Notice
    | Moved
    | MovedAway
    | Closed
)


class Overflow(Unavailable):
    """The reader fell so far behind that messages were lost; it must be given up."""


class Outbox:
    """The messages that a client has yet to be told; both ends are on one event loop, and one task reads.

    The client's credits bound the segments in it, `limit` bounds all messages together.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._messages: deque[ClientMessage] = deque()
        self._filled = Signal()
        self._overflowed = False

    def __len__(self) -> int:
        return len(self._messages)

    def offer(self, message: ClientMessage) -> bool:
        """Append a message; returns False, now and for ever, if there was no room: then the reader gets Overflow."""
        if not self._overflowed and len(self._messages) >= self._limit:
            self._overflowed = True
            self._messages.clear()
        if not self._overflowed:
            self._messages.append(message)
        self._filled.set()
        return not self._overflowed

    async def get(self) -> ClientMessage:
        """The oldest message, as soon as there is one; Overflow after one was lost."""
        while not self._messages:
            if self._overflowed:
                raise Overflow(f"the reader is more than {self._limit} messages behind")
            await self._filled.wait()
        return self._messages.popleft()


class WatcherOutbox(Outbox):
    """The outbox of an observer, who gives no credit: of the segments only the newest `segments` are kept."""

    def __init__(self, segments: int = 4, limit: int = 256) -> None:
        super().__init__(limit)
        self._segments = segments

    def offer(self, message: ClientMessage) -> bool:
        """Append a message as a client's outbox does, but let a segment push the oldest one out."""
        if isinstance(message, SegmentOut):
            waiting = [m for m in self._messages if isinstance(m, SegmentOut)]
            if len(waiting) >= self._segments:
                self._messages.remove(waiting[0])
        return super().offer(message)
