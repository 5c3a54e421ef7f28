"""Limits on what a browser's WebSocket may cost: uvicorn's protocol with a bound on each thing that can grow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

MAX_MESSAGE_BYTES = 64 * 1024
"""The largest message of a browser: a prompt, escaped, with a token."""
MAX_FRAGMENTS = 64
"""Parts of one message; without a limit empty ones could be sent for ever."""

CLOSE_TIMEOUT_S = 60.0
"""How long a browser may take to read what it was sent last; what it has not read by then is lost."""


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
