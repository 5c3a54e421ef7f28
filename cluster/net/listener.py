"""HTTP listeners: uvicorn on the loop of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: they are for `longtake serve`, which stops this listener in its turn."""
        yield


class HttpListener:
    """An application on a socket that listens; it answers from `begin` to `end`."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        self._server = _Server(config)
        self._socket = listening
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def begin(self) -> None:
        """Answer, from now on."""
        self._serving = asyncio.create_task(self._server.serve([self._socket]))

    async def end(self) -> None:
        """Answer what was asked, then close every connection and the port."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._socket.close()
