"""A server with a page, as `longtake serve --http` starts it, in this process; and a browser that speaks by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import websockets

from cluster.access.callers import hash_of
from cluster.config import parse_config
from cluster.serve import Ready, Stop, serve_until

PROMPT = "a red ball swaying at night"
Message = dict[str, object]
TOKENS = {
    "alice": ("lab", "client"),
    "victor": ("lab", "viewer"),
    "bob": ("press", "client"),
    "otto": ("ops", "operator"),
}
"""Tenant and role of everybody who has a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCell:
    """A running server."""

    ready: Ready
    stop: Stop
    serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        return self.ready.page.rstrip("/")

    @property
    def target(self) -> str:
        """The gRPC service."""
        return self.ready.address

    def browser(self, *, origin: str | None = None) -> websockets.connect:
        """A WebSocket to the stream endpoint, from the page itself unless another origin is given."""
        address = self.url.replace("http", "ws", 1) + "/api/stream"
        return websockets.connect(address, origin=websockets.Origin(origin or self.url), max_size=None)


@asynccontextmanager
async def page_cell(
    sections: Mapping[str, Mapping[str, object]] | None = None, *, address: str = "127.0.0.1:0"
) -> AsyncIterator[PageCell]:
    """The pocket model's geometry on simulated devices, gRPC and the page on free ports."""
    document: dict[str, Mapping[str, object]] = {
        "model": {"device": "simulated:2ms"},
        "cluster": {"launch": "in-process", "denoise_workers": 1},
        "listen": {"port": 0},
        "http": {"address": address},
    }
    stop = Stop()
    told: asyncio.Queue[Ready] = asyncio.Queue()
    serving = asyncio.create_task(serve_until(parse_config(document | dict(sections or {})), stop, say=told.put_nowait))
    begun = asyncio.create_task(told.get())
    await asyncio.wait((serving, begun), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        begun.cancel()
        serving.result()
    try:
        yield PageCell(ready=begun.result(), stop=stop, serving=serving)
    finally:
        stop()
        stop()
        await serving


class Browser:
    """What a page does with its WebSocket, acknowledgements excepted."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self.bytes: list[bytes] = []
        """Header and segments so far."""

    async def say(self, **frame: object) -> None:
        await self._socket.send(json.dumps(frame))

    async def hear(self) -> Message:
        """The next message but ops and signs of life; the bytes that belong to it are the last of `bytes` then."""
        while True:
            text = await self._socket.recv()
            assert isinstance(text, str)
            message: Message = json.loads(text)
            if message["type"] in ("opened", "segment"):
                data = await self._socket.recv()
                assert isinstance(data, bytes)
                self.bytes.append(data)
            if message["type"] not in ("ops", "alive"):
                return message

    async def upto(self, kind: str) -> Message:
        """The next message of a kind; every segment on the way is acknowledged."""
        while True:
            message = await self.hear()
            if message["type"] == kind:
                return message
            assert message["type"] not in ("error", "closed"), message
            if message["type"] == "segment":
                with contextlib.suppress(websockets.ConnectionClosedOK):  # the stream is over; more is to be read
                    await self.say(type="ack", segment=message["index"])

    async def ops(self) -> list[Message]:
        """The ops that are told next."""
        while True:
            text = await self._socket.recv()
            if isinstance(text, str) and json.loads(text)["type"] == "ops":
                found: list[Message] = json.loads(text)["ops"]
                return found


def tenants_file(folder: Path) -> Path:
    """Two tenants and an operator; everybody's token is the name, four times."""
    path = folder / "tenants.toml"
    lines = []
    for name, (tenant, role) in TOKENS.items():
        lines += [f"[[tenants.{tenant}.tokens]]", f'id = "{name}"', f'hash = "{hash_of(name * 4)}"', f'role = "{role}"']
    path.write_text("\n".join([*lines, "[tenants.press.quota]", "streams = 1", ""]))
    return path


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fails by the test's own timeout."""
    while not await condition():
        await asyncio.sleep(0.02)
