"""Calls that have a session: how fast their clients may speak, and what they have acknowledged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cluster.cell.outbox import Outbox
from cluster.cell.signal import Signal
from longtake.core.work import ConnectionNumber, SessionId

LAST_ACK_S = 1.0
"""The call of a complete stream waits so long for the last acknowledgement: after that nothing has to be kept of it."""


class Throttle:
    """Lets a client's frames pass at a bounded rate, with bursts of one second's worth."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._tokens = rate_per_s
        self._filled_at_s = asyncio.get_running_loop().time()

    async def take(self) -> None:
        """Wait until the next frame may pass; meanwhile the client's frames wait in its own connection."""
        now_s = asyncio.get_running_loop().time()
        self._tokens = min(self._rate_per_s, self._tokens + (now_s - self._filled_at_s) * self._rate_per_s)
        self._filled_at_s = now_s
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate_per_s)


class Receipts:
    """What was sent over a call and what its client has acknowledged, for whoever waits for the last of that."""

    def __init__(self) -> None:
        self.sent = -1
        """The last segment that was sent."""
        self._consumed = -1
        self._is_over = False
        """Whether the client wants something else, though there is nothing more."""
        self._changed = Signal()

    def came(self, segment: int) -> None:
        """The client has acknowledged a segment."""
        self._consumed = max(self._consumed, segment)
        self._changed.set()

    def other(self) -> None:
        """The client has sent another frame."""
        self._is_over = True
        self._changed.set()

    async def last(self, reader: asyncio.Task[None]) -> None:
        """Wait for the acknowledgement of the last segment; not for long, nor if `reader` will not read it."""
        self._is_over = False
        waiting = asyncio.ensure_future(self._all_consumed())
        try:
            await asyncio.wait((waiting, reader), timeout=LAST_ACK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def _all_consumed(self) -> None:
        while self._consumed < self.sent and not self._is_over:
            await self._changed.wait()


@dataclass(frozen=True, slots=True)
class Connection:
    """A call that has a session, or is to have it."""

    session: SessionId
    number: ConnectionNumber
    outbox: Outbox
    token: bytes
    """What resumes the session after this call."""
    receipts: Receipts = field(default_factory=Receipts)
