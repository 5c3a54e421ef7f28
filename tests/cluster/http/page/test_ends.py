"""What crosses the end of a stream on the page's WebSocket; `python -m tests.cluster.http.page.ends` is longer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from urllib.parse import urlsplit

import pytest
import websockets

from cluster.http.page import connections
from tests.cluster.http.page.cell import PROMPT
from tests.cluster.http.page.ends import LARGE_BYTES, STEERING, large_page, run_all


async def test_what_crosses_the_end_is_no_error_and_no_segment_is_lost() -> None:
    for kind, ended in (await run_all(2 * len(STEERING))).items():
        assert all(one.is_right for one in ended), (kind, [one for one in ended if not one.is_right])


async def read_late(url: str, stall_s: float) -> list[str | bytes]:
    """A stream of 5 segments as a browser gets it that reads nothing for a while after the end, and still talks."""
    place, received = urlsplit(url), list[str | bytes]()
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    narrow.connect((place.hostname, place.port))
    origin, address = websockets.Origin(url.rstrip("/")), f"ws://{place.netloc}/api/stream"
    async with websockets.connect(address, sock=narrow, origin=origin, max_size=None, max_queue=1) as browser:
        await browser.send(json.dumps({"type": "open", "prompt": PROMPT, "duration_s": 3, "window": 8}))
        await asyncio.sleep(stall_s)
        await browser.send(json.dumps({"type": "ack", "segment": 0}))
        await asyncio.sleep(0.1)
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                received.append(await browser.recv())
        browser.transport.abort()
    return received


async def test_what_a_browser_has_not_read_by_the_end_is_kept_for_it_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with large_page() as url:
        assert connections.CLOSE_TIMEOUT_S == 60
        received = await read_late(url, stall_s=1.5)
        assert [len(message) for message in received if isinstance(message, bytes)][1:] == [LARGE_BYTES] * 5
        assert json.loads(str(received[-1]))["type"] == "closed"
        monkeypatch.setattr(connections, "CLOSE_TIMEOUT_S", 0.5)
        received = await read_late(url, stall_s=1.5)
        assert sum(len(message) for message in received) < LARGE_BYTES * 5, "so it is this that decides"
