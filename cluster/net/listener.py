"""HTTP listeners: uvicorn on the loop of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from longtake.core.sparing import Sparing, with_left_out

COMPLAINT_S = 60.0
"""How often the log says that there are no descriptors for a connection."""
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger("longtake.serve")


class ShortOfFiles:
    """The handler of a loop's errors: that a connection found no descriptor is a line now and then, and no trace."""

    def __init__(self) -> None:
        self._complaints = Sparing(1, COMPLAINT_S)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """See asyncio.loop.set_exception_handler."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _SHORT or "socket" not in context:
            loop.default_exception_handler(context)
            return
        left_out = self._complaints.left_out(loop.time())
        if left_out is not None:
            told = f"a connection was not taken: {error.strerror}; allow more files (ulimit -n), or find who holds them"
            _log.error("%s", with_left_out(told, left_out))


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
