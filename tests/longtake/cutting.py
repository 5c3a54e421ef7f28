"""A TCP proxy that cuts connections at bytes that the test draws, and a client's file from behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from longtake.client import (
    Client,
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueAt,
    CueSupersededEvent,
    OpenedEvent,
    ReconnectingEvent,
    RequestRefusedEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
    StreamOptions,
)
from tests.cluster.frontend.toy import GEOMETRY, HEADER, segment

PIECE_BYTES = 16384
AHEAD = 40
"""A cue takes effect so many blocks after the one where it is asked for: none is too late."""


def asked_at(blocks: int) -> range:
    """The segments of a stream at which a cue is asked for."""
    return range(3, blocks - AHEAD, 7)


@dataclass
class Cutter:
    """Passes bytes on until it cuts: so many pass in both directions together, then both ends are reset."""

    target: str
    port: int = 0
    cuts: int = 0
    after_bytes: Callable[[], int | None] = lambda: None
    """How many bytes the next connection may carry; None: any number."""
    open: bool = True
    """Whether connections are taken at all."""
    _links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if not self.open:
            writer.transport.abort()
            return
        host, port = self.target.rsplit(":", 1)
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        link = (writer, inner_writer)
        self._links.add(link)
        left = [self.after_bytes()]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, inner_writer, link, left))
                group.create_task(self._pass_on(inner_reader, writer, link, left))
        except* OSError:
            pass
        finally:
            self._reset(link)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        left: list[int | None],
    ) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if left[0] is not None:
                piece, rest = piece[: left[0]], left[0] - len(piece)
                left[0] = max(rest, 0)
            writer.write(piece)
            await writer.drain()
            if left[0] == 0:
                self.cuts += 1
                self._reset(link)
                return
        self._reset(link)

    def _reset(self, link: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._links.discard(link)
        for end in link:
            end.transport.abort()

    def cut(self) -> None:
        """Cut every connection now."""
        for link in list(self._links):
            self.cuts += 1
            self._reset(link)


@asynccontextmanager
async def cutter(target: str) -> AsyncIterator[Cutter]:
    """A proxy before `target`, on a free port."""
    made = Cutter(target)
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        await server.wait_closed()


@dataclass
class Watched:
    """What a client wrote and was told."""

    file: bytes = b""
    events: list[StreamEvent] = field(default_factory=list)

    def take(self, event: StreamEvent) -> None:
        """Write a file as clients do, and keep what was told beside it."""
        match event:
            case OpenedEvent():
                self.file += event.header
            case SegmentEvent():
                self.file += event.data
            case ReconnectingEvent() | ResumedEvent():
                return
        self.events.append(event)

    @property
    def receipts(self) -> list[tuple[str, str, int]]:
        """The answers about cues, and the segments that were there by then."""
        found, segments = [], 0
        for event in self.events:
            segments += isinstance(event, SegmentEvent)
            if isinstance(event, CueAppliedEvent):
                assert event.block == segments, "the next segment is the first that shows it"
            if isinstance(event, CueAcceptedEvent | CueAppliedEvent):
                found.append((type(event).__name__, event.cue_id, event.block))
        return found


def drawn(draw: random.Random, typical_bytes: int) -> Callable[[], int]:
    """Bytes until a cut: from none at all to several segments, small numbers as often as large ones."""

    def after_bytes() -> int:
        return int(typical_bytes ** draw.uniform(0, 1.0)) if draw.random() < 0.5 else draw.randrange(typical_bytes)

    return after_bytes


async def cut_stream(
    proxy: Cutter, draw: random.Random, options: StreamOptions, *, blocks: int, cuts: int, typical_bytes: int
) -> Watched:
    """A stream through `proxy`, which cuts so many times once the stream is open; it is steered, too."""
    options = replace(options, pictures=GEOMETRY.first_picture(blocks))
    watched = Watched()
    async with Client(f"127.0.0.1:{proxy.port}") as client, client.stream("red", options) as stream:
        begin, after_bytes = proxy.cuts, drawn(draw, typical_bytes)
        proxy.after_bytes = lambda: after_bytes() if proxy.cuts < begin + cuts else None
        proxy.cut()
        async for event in stream:
            watched.take(event)
            if isinstance(event, SegmentEvent) and not options.auto_ack and event.index:
                await stream.ack(event.index - 1)  # the newest is not consumed yet, so the server may repeat it
            if isinstance(event, SegmentEvent) and event.index in asked_at(blocks):
                block = event.index + AHEAD
                await stream.cue(CueAt(prompt=f"cue {event.index}", block=block, id=f"c{event.index}"))
    return watched


def check_file(watched: Watched, *, blocks: int, seed: int, segment_bytes: int) -> None:
    """The file is that of an undisturbed stream with the cues that were accepted; each was answered and shown once."""
    shown = ["red"] * blocks
    for kind, cue, block in watched.receipts:
        if kind == "CueAppliedEvent":
            shown[block:] = [f"cue {cue[1:]}"] * (blocks - block)
    assert watched.file == HEADER + b"".join(segment(n, seed, shown[n], segment_bytes) for n in range(blocks))
    asked = [f"c{number}" for number in asked_at(blocks)]
    for kind in ("CueAcceptedEvent", "CueAppliedEvent"):
        assert [cue for answer, cue, _ in watched.receipts if answer == kind] == asked, "each once, in order"
    assert not any(isinstance(event, RequestRefusedEvent | CueSupersededEvent) for event in watched.events)
    assert watched.events[-1] == ClosedEvent(ending="completed", reason="", segments=blocks)
