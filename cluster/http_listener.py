"""An HTTP listener beside the engine: uvicorn on the engine's own loop, with its own signal handling left out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from longtake.core.errors import InvalidField

GRACE_S = 1
"""How long requests may take to end when the listener stops."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: signals are for `longtake serve`, which stops this listener in its turn."""
        yield


class HttpListener:
    """An application that is served until it is stopped."""

    def __init__(self, server: _Server, listening: socket.socket) -> None:
        self._server = server
        self._socket = listening
        self.host, self.port = listening.getsockname()[:2]
        self._serving = asyncio.create_task(server.serve([listening]))

    @classmethod
    async def start(cls, app: ASGIApp, *, address: str, field: str) -> Self:
        """Serve `app` at HOST:PORT (port 0: any free one); InvalidField about `field` if that is not possible."""
        host, _, port = address.rpartition(":")
        try:
            listening = _listen(host.strip("[]"), int(port))
        except (OSError, ValueError):
            allowed = "HOST:PORT, an address of this machine and a port that is free"
            raise InvalidField(field, address, allowed) from None
        config = uvicorn.Config(
            app, lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=GRACE_S, ws="none"
        )
        return cls(_Server(config), listening)

    async def stop(self) -> None:
        """Answer what was asked, then close the port."""
        self._server.should_exit = True
        await self._serving
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; OSError or ValueError if it cannot."""
    if not host:
        raise ValueError("an address without a host would be open to every machine")
    if not 0 <= port <= 65535:  # of a larger one the system would take the lower bits
        raise ValueError(f"{port} is no port")
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(64)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
