"""A proxy as one before a page is: it takes a path off, tells the page a name of its own, and passes the rest on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

MOST_BYTES = 65536


@dataclass
class Proxy:
    """Listens on a free port; `target` may be set later than that."""

    prefix: str = "/longtake"
    host: str = "localhost"
    """What the page is told that it was called."""
    target: str = ""
    port: int = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: a request with its answer, or a WebSocket."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        host, port = self.target.rsplit(":", 1)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        except OSError:  # no page is there any more
            writer.close()
            return
        try:
            inner_writer.write(self._passed_on(head))
            ways = (_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.close()
            inner_writer.close()

    def _passed_on(self, head: bytes) -> bytes:
        first, *lines = head.decode().split("\r\n")[:-2]
        method, path, version = first.split(" ")
        inner = path.removeprefix(self.prefix)
        assert inner != path, f"{path} leads out of {self.prefix}"
        kept = [line for line in lines if line.split(":")[0].lower() not in ("host", "connection", "keep-alive")]
        upgrade = any(line.lower().startswith("upgrade:") for line in lines)
        own = [f"host: {self.host}", f"connection: {'upgrade' if upgrade else 'close'}"]
        return "\r\n".join([f"{method} {inner} {version}", *kept, *own, "", ""]).encode()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(MOST_BYTES):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return


@asynccontextmanager
async def proxy(made: Proxy) -> AsyncIterator[Proxy]:
    """Let it listen."""
    server = await asyncio.start_server(made.take, "127.0.0.1", made.port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
