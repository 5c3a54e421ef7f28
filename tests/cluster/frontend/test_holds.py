"""Why a session begins no further block is told to whoever asks for it, over real gRPC."""

from __future__ import annotations

import asyncio

import pytest

from cluster.frontend.responses import WIRE_HOLDS
from longtake.client import Client, StreamOptions
from longtake.client.events import SegmentEvent, StreamEvent
from longtake.core.limits import Limits
from longtake.core.sessions.holds import Hold
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.reading import upto
from tests.cluster.frontend.toy import toy_cell


def test_every_hold_has_a_number_of_the_same_name() -> None:
    assert {hold: pb.Hold.Name(number) for hold, number in WIRE_HOLDS.items()} == {
        hold: f"HOLD_{hold.name}" for hold in Hold
    }
    assert set(pb.Hold.values()) == {pb.HOLD_UNSPECIFIED, *WIRE_HOLDS.values()}


async def told(client: Client, prompt: str, holds: list[pb.Hold]) -> pb.Session:
    """The session with this prompt, once these are its holds."""
    async with asyncio.timeout(10):
        while True:
            found = {session.prompt: session for session in await client.list_sessions()}
            if prompt in found and list(found[prompt].holds) == holds:
                return await client.get_session(found[prompt].session_id)
            await asyncio.sleep(0.005)


async def test_a_stream_without_credit_waits_for_credit_and_one_paused_for_its_client() -> None:
    options = StreamOptions(window=1, auto_ack=False)
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        session = await told(client, "red", [pb.HOLD_CREDIT])
        assert (session.state, session.segments_sent, list(session.holds)) == (
            pb.SESSION_STATE_RUNNING, 1, [pb.HOLD_CREDIT],
        )  # fmt: skip
        await stream.pause()
        await told(client, "red", [pb.HOLD_PAUSE, pb.HOLD_CREDIT])
        await upto(stream, SegmentEvent)
        await stream.ack(0)
        assert (await told(client, "red", [pb.HOLD_PAUSE])).state == pb.SESSION_STATE_PAUSED
        await stream.play()
        assert (await told(client, "red", [pb.HOLD_CREDIT])).segments_sent == 2


@pytest.mark.parametrize("window", [1, 2])
async def test_a_stream_a_window_ahead_waits_for_its_playback_clock(window: int) -> None:
    options = StreamOptions(pace="realtime", window=window, auto_ack=False)
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        for segment in range(window + 1):
            await upto(stream, SegmentEvent)
            await stream.ack(segment)
        session = await told(client, "red", [pb.HOLD_PLAYBACK])
        assert (session.state, session.blocks_begun) == (pb.SESSION_STATE_RUNNING, session.segments_sent)


async def test_a_queued_stream_waits_for_a_place() -> None:
    async with toy_cell(limits=Limits(max_sessions=1)) as cell, Client(cell.target) as client:

        async def second() -> StreamEvent:
            async with client.stream("blue") as stream:
                return await upto(stream, SegmentEvent)

        async with client.stream("red", StreamOptions(window=1, auto_ack=False)):
            waiting = asyncio.create_task(second())
            assert (await told(client, "blue", [pb.HOLD_PLACE])).state == pb.SESSION_STATE_QUEUED
        assert isinstance(await waiting, SegmentEvent)
