"""Cells whose latents are numbers, between which sessions are carried, and files of sessions to alter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from longtake.client import Client, CueAt, SegmentEvent, Stream, StreamEvent, StreamOptions
from longtake.client.errors import ClientError
from longtake.core.limits import Limits
from tests.cluster.frontend.toy import GEOMETRY, Door, ToyCell, toy_cell
from workers.simulated.lanes import SimulatedLanes

BLOCKS = 40
SEED = 5
OPTIONS = StreamOptions(seed=SEED, window=4, pictures=GEOMETRY.first_picture(BLOCKS))
CUES = (CueAt(prompt="blue", block=9, id="nine"), CueAt(prompt="green", block=29, id="later"))
Facts = dict[str, Any]


def counting_cell(
    *, limits: Limits | None = None, door: Door | None = None, delay_s: float = 0.001
) -> AbstractAsyncContextManager[ToyCell]:
    """A cell of which a segment depends on everything that was ever before it."""
    return toy_cell(lanes=SimulatedLanes, limits=limits, door=door, delay_s=delay_s)


async def stream_with(cues: tuple[CueAt, ...], options: StreamOptions = OPTIONS) -> dict[int, bytes]:
    """The segments of a stream that nothing disturbs."""
    options = replace(options, cues=cues)
    async with counting_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        return {event.index: event.data async for event in stream if isinstance(event, SegmentEvent)}


async def exported(client: Client, session: str, *, hand_over: bool = False) -> bytes:
    return b"".join([part async for part in client.export_session(session, hand_over=hand_over)])


async def file_after(segment: int) -> bytes:
    """What a stream with CUES is exported to after this segment."""
    options = replace(OPTIONS, cues=CUES)
    async with counting_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        async for event in stream:
            if isinstance(event, SegmentEvent) and event.index == segment:
                return await exported(client, stream.opened.session_id)
    raise AssertionError("the stream ended before")


async def until(stream: Stream, segment: int) -> list[StreamEvent]:
    """The events of a stream up to this segment."""
    events: list[StreamEvent] = []
    async for event in stream:
        events.append(event)
        if isinstance(event, SegmentEvent) and event.index == segment:
            return events
    raise AssertionError("the stream has ended before")


async def in_parts(data: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def resumed(client: Client, token: bytes, cursor: int | None) -> dict[int, bytes]:
    """What a client gets who goes on with a session to its end."""
    async with client.resume(token, cursor) as stream:
        return {event.index: event.data async for event in stream if isinstance(event, SegmentEvent)}


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a file, and what follows it."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def file_of(header: dict[str, Any], rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def with_facts(data: bytes, change: Callable[[Facts], object]) -> bytes:
    """The file with something else in its metadata."""
    header, rest = header_of(data)
    facts = json.loads(header["__metadata__"]["longtake"])
    change(facts)
    header["__metadata__"]["longtake"] = json.dumps(facts, separators=(",", ":"))
    return file_of(header, rest)


def with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with something else in its header."""
    header, rest = header_of(data)
    change(header)
    return file_of(header, rest)


@contextmanager
def refused(code: str, field: str = "") -> Iterator[None]:
    """What is done within is refused with this status, about this field."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value
    assert error.code.name == code, error
    assert field == "" or [violation.field for violation in error.violations] == [field], error.violations
