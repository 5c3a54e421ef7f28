"""Streams of a fixed length on the page's WebSocket, steered at their very end: each must end with `closed`, whole.

    python -m tests.cluster.http.page.ends --streams 300

prints one JSON object a kind of stream, and ends with status 1 if any stream ended otherwise or lacks a segment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import websockets

from cluster.config import ServerConfig
from cluster.http.page.server import settings
from cluster.net.listener import HttpListener
from longtake.net.addresses import Address
from tests.cluster.frontend.toy import GEOMETRY, toy_cell
from tests.cluster.http.page.cell import PROMPT, page_cell

ALLOWED = frozenset({"closed:completed", "closed:client"})
LARGE_BYTES = 200_000
STEERING: tuple[str, ...] = ("ack", "cue", "pause", "play", "close", "all")
NEAR_S = 0.03
"""What is asked for comes so long after the last segment at most, or before it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One stream."""

    steering: str
    """What is sent at the end, besides the acknowledgements."""
    duration_s: float
    seed: int
    read_s: float = 0.0
    """How long the reader takes for each message."""


@dataclass
class Ended:
    """How it went."""

    said: list[str] = field(default_factory=list)
    """`closed` with its ending, errors with their sentence; refused cues are answers, not errors."""
    segments: list[int] = field(default_factory=list)
    expected: int = -1
    """Segments that the stream has by its length."""
    closed: int = -1
    """Segments that it has by its last word."""

    @property
    def lost(self) -> int:
        """Segments that did not come, though they were sent."""
        due = self.expected if self.said == ["closed:completed"] else max(self.closed, 0)
        return due - len(self.segments) if self.segments == list(range(len(self.segments))) else due

    @property
    def is_right(self) -> bool:
        return len(self.said) == 1 and self.said[0] in ALLOWED and self.lost == 0


def blocks_of(pictures: int) -> int:
    """How many segments so many pictures take."""
    return next(n for n in range(1, pictures + 2) if GEOMETRY.first_picture(n) >= pictures)


async def run_one(url: str, wanted: Wanted) -> Ended:
    """Open a stream, read it to its end, and steer it there."""
    ended, draw, beside = Ended(), random.Random(wanted.seed), set[asyncio.Task[None]]()
    address = url.replace("http", "ws", 1) + "api/stream"
    origin = websockets.Origin(url.rstrip("/"))
    waiting = 1 if wanted.read_s else 16  # with 1 the client itself reads no further, and so does not see the end
    async with websockets.connect(
        address, origin=origin, max_size=None, proxy=None, max_queue=waiting, close_timeout=0.1
    ) as browser:
        frame = {"type": "open", "prompt": PROMPT, "seed": str(wanted.seed), "duration_s": wanted.duration_s}
        await browser.send(json.dumps(frame))
        with contextlib.suppress(websockets.ConnectionClosedOK):
            while True:
                text = await asyncio.wait_for(browser.recv(), 60)
                await asyncio.sleep(wanted.read_s)
                if isinstance(text, bytes):
                    continue
                told = json.loads(text)
                match told["type"]:
                    case "opened":
                        ended.expected = blocks_of(int(told["pictures"]))
                    case "segment":
                        ended.segments.append(told["index"])
                        if told["index"] >= ended.expected - 2:  # the last comes by itself, so some steering is early
                            delay_s = draw.choice((0.0, draw.uniform(0, NEAR_S)))
                            steering = _steer(
                                browser, wanted.steering, delay_s, is_last=told["index"] >= ended.expected - 1
                            )
                            beside.add(asyncio.create_task(steering))
                        await _say(browser, {"type": "ack", "segment": told["index"]})
                    case "closed":
                        ended.said.append(f"closed:{told['ending']}")
                        ended.closed = told["segments"]
                    case "error":
                        ended.said.append(f"error:{told['sentence']}")
        await asyncio.gather(*beside)
    return ended


async def _say(browser: websockets.ClientConnection, frame: dict[str, object]) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        await browser.send(json.dumps(frame))


async def _steer(browser: websockets.ClientConnection, steering: str, delay_s: float, *, is_last: bool) -> None:
    """What crosses the end. A pause before the last segment is taken back, for it would hold the stream."""
    await asyncio.sleep(delay_s)
    for kind in STEERING[1:-1] if steering == "all" else (steering,):
        match kind:
            case "ack":
                for _ in range(3):
                    await _say(browser, {"type": "ack", "segment": 0})
            case "cue":
                await _say(browser, {"type": "cue", "id": f"c{is_last}", "prompt": PROMPT})
            case "pause" | "play":
                await _say(browser, {"type": kind})
                await _say(browser, {"type": "play"})
            case "close" if is_last:
                await _say(browser, {"type": "close"})


@asynccontextmanager
async def large_page() -> AsyncIterator[str]:
    """A page before a cell with real calls whose segments have LARGE_BYTES."""
    async with toy_cell(segment_bytes=LARGE_BYTES, delay_s=0.002) as cell:
        listening = socket.create_server(("127.0.0.1", 0))
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        listener = HttpListener(settings(cell.target, address, ServerConfig()), listening)
        listener.begin()
        try:
            yield f"http://{address}/"
        finally:
            await listener.end()


async def run_many(url: str, wanted: Sequence[Wanted], *, at_once: int = 4) -> list[Ended]:
    """All of them, some at a time."""
    turn = asyncio.Semaphore(at_once)

    async def one(stream: Wanted) -> Ended:
        async with turn:
            return await run_one(url, stream)

    return await asyncio.gather(*(one(stream) for stream in wanted))


def wishes(count: int, *, read_s: float = 0.0) -> list[Wanted]:
    """Streams of 1 to 3 s, with each way to steer as often as the others."""
    draw = random.Random(count)
    return [
        Wanted(STEERING[n % len(STEERING)], round(draw.uniform(1.0, 3.0), 2), seed=n, read_s=read_s)
        for n in range(count)
    ]


async def run_all(streams: int) -> dict[str, list[Ended]]:
    """Small segments and large ones, of quick readers and of slow ones."""
    results: dict[str, list[Ended]] = {}
    async with page_cell() as cell:
        results["h264"] = await run_many(cell.url + "/", wishes(streams))
        results["h264, slow reader"] = await run_many(cell.url + "/", wishes(streams, read_s=0.02), at_once=8)
    async with large_page() as url:
        results["200 kB"] = await run_many(url, wishes(streams))
        results["200 kB, slow reader"] = await run_many(url, wishes(streams, read_s=0.02), at_once=8)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=300, help="of each kind")
    results = asyncio.run(run_all(parser.parse_args().streams))
    for kind, ended in results.items():
        said = Counter(" then ".join(one.said) or "nothing" for one in ended)
        wrong = sum(not one.is_right for one in ended)
        lost = sum(one.lost for one in ended)
        line = {"kind": kind, "streams": len(ended), "wrong": wrong, "segments_lost": lost, "said": dict(said)}
        sys.stdout.write(json.dumps(line) + "\n")
    sys.exit(any(not one.is_right for ended in results.values() for one in ended))


if __name__ == "__main__":
    main()
