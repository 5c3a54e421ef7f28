"""Limits on what a browser's connection may cost: uvicorn's protocols with a bound on each thing that can grow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

MAX_CONNECTIONS = 256
REQUEST_TIMEOUT_S = 10.0
"""How long a connection may stay without a complete request."""
MAX_MESSAGE_BYTES = 64 * 1024
"""The largest message of a browser: a prompt, escaped, with a token."""
MAX_FRAGMENTS = 64
"""Parts of one message; without a limit empty ones could be sent for ever."""

CLOSE_TIMEOUT_S = 60.0
"""How long a browser may take to read what it was sent last; what it has not read by then is lost."""

BREAK_OFF = "break_off"
"""Key of the state of each request under which the connection can be ended without an end of the answer."""


class BoundedHttp(H11Protocol):
    """HTTP on a connection that is closed if there are too many, or if its request takes too long to come."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are enough."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        # For an answer that cannot be completed: what was written is still sent, and then the connection ends.
        self.app_state = self.app_state | {BREAK_OFF: transport.close}
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone: no request is awaited any more."""
        if self._overdue is not None:
            self._overdue.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Give the next request as much time as the first."""
        super().on_response_complete()
        self._expect_request()

    def _expect_request(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and self.transport.get_protocol() is self:  # else it has become a WebSocket
            self.transport.abort()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that no stream of empty fragments and no flood of pings can make grow."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, and let it end as slowly as its browser reads."""
        super().connection_made(transport)
        self.close_timeout = CLOSE_TIMEOUT_S

    def handle_cont(self, event: Frame) -> None:
        """Close the connection when a message comes in too many parts."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.transport.abort()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer does not even read what it was sent before."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the answer, thrown away
