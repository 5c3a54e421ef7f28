"""What clients ask of a guarded cell, and how it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from longtake.client import Client, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent, StreamEvent
from longtake.v1 import longtake_pb2 as pb

UNKNOWN = "no-such-session"
Ask = Callable[[Client, str], Awaitable[object]]


async def first(answers: AsyncIterator[object]) -> object:
    return await anext(answers)


async def fork(client: Client, session: str) -> object:
    async with client.stream("mine now", StreamOptions(fork=session, pictures=1000)) as stream:
        return stream.opened


async def open_one(client: Client, session: str) -> object:
    async with client.stream("red", StreamOptions(pictures=9)) as stream:
        return [event async for event in stream][-1]


async def export(client: Client, session: str) -> object:
    return [part async for part in client.export_session(session)]


async def nothing() -> AsyncIterator[bytes]:
    yield b""


BY_SESSION: dict[str, Ask] = {
    "Watch": lambda client, session: first(client.watch(session)),
    "GetSession": lambda client, session: client.get_session(session),
    "CloseSession": lambda client, session: client.close_session(session),
    "WatchOps": lambda client, session: first(client.watch_ops(session)),
    "Stream": fork,
    "Export": export,
}
"""Methods that name a session, as a client calls them."""
OTHERS: dict[str, Ask] = {
    "GetModel": lambda client, _: client.get_model(),
    "ListSessions": lambda client, _: client.list_sessions(),
    "GetStatus": lambda client, _: client.get_status(),
    "HandOver": lambda client, session: client.hand_over(session),
    "Import": lambda client, _: client.import_session(nothing()),
    "Drain": lambda client, _: client.drain(60),
}
ANSWERS = {"Import": grpc.StatusCode.INVALID_ARGUMENT}
"""What a caller who may call a method is told who asks it for nothing; NOT_FOUND, if anything, of all others."""
METHODS = {method.name for method in pb.DESCRIPTOR.services_by_name["LongtakeService"].methods}


async def refusal(asking: Awaitable[object]) -> ClientError:
    with pytest.raises(ClientError) as refused:
        await asyncio.wait_for(asking, 10)
    return refused.value


async def upto_segments(stream: Stream, count: int) -> list[StreamEvent]:
    """Events up to so many segments."""
    events: list[StreamEvent] = []
    async for event in stream:
        events.append(event)
        if sum(isinstance(event, SegmentEvent) for event in events) == count:
            break
    return events


async def ends(stream: Stream) -> ClientError:
    """With what error a stream ends that has no end of its own."""
    return await refusal(upto_segments(stream, 1_000_000))


async def open_with(client: Client, prompt: str) -> object:
    async with client.stream(prompt, StreamOptions(pictures=9)) as stream:
        return stream.opened
