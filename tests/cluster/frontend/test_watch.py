"""Observers of a stream over real gRPC: what they see, and what they cost."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from cluster.frontend.offer import WireLimits
from longtake.client import Client, CueAt, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    OpenedEvent,
    Reading,
    SkippedEvent,
)
from tests.cluster.frontend.reading import everything, segments
from tests.cluster.frontend.toy import GEOMETRY, HEADER, segment, toy_cell

READ_RED = Reading(
    understood=("colour: red",), ignored=(), defaulted=("shape: ball", "motion: resting", "background: fog")
)


async def test_an_observer_sees_the_stream_and_its_end() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, Client(cell.target) as other:
        options = StreamOptions(seed=5, pictures=GEOMETRY.first_picture(5), window=1)
        async with client.stream("red", options) as stream:
            watching = other.watch(stream.opened.session_id, from_segment=0)
            opened = await anext(watching)
            assert isinstance(opened, OpenedEvent) and opened.header == HEADER and opened.seed == 5
            await everything(stream)
        events = [event async for event in watching]
        assert isinstance(events[-1], ClosedEvent) and events[-1].ending == "completed"
        seen = segments(events)
        assert seen[-1].data == segment(4, 5, "red")
        skipped = [
            n
            for event in events
            if isinstance(event, SkippedEvent)
            for n in range(event.first, event.first + event.count)
        ]
        assert sorted([s.index for s in seen] + skipped) == list(range(5))


async def test_a_slow_observer_skips_to_the_newest_and_does_not_hold_the_client_back() -> None:
    async with toy_cell(segment_bytes=200_000) as cell, Client(cell.target) as client, Client(cell.target) as other:
        blocks = 60
        async with client.stream("red", StreamOptions(pictures=GEOMETRY.first_picture(blocks))) as stream:
            watching = other.watch(stream.opened.session_id, from_segment=0)
            await anext(watching)  # opened; then the observer sleeps while the stream runs to its end
            assert len(segments(await everything(stream))) == blocks
        events = [event async for event in watching]
        indices = [s.index for s in segments(events)]
        assert indices == sorted(indices) and indices[-1] == blocks - 1
        assert len(indices) < blocks / 2
        assert len(indices) + sum(e.count for e in events if isinstance(e, SkippedEvent)) == blocks


async def test_observers_of_a_session_are_limited_and_leave_room_when_they_go() -> None:
    async with (
        toy_cell(wire=WireLimits(max_watchers=1)) as cell,
        Client(cell.target) as client,
        client.stream("red", StreamOptions(window=1)) as stream,
    ):
        name = stream.opened.session_id
        first = client.watch(name)
        await anext(first)
        with pytest.raises(ClientError) as caught:
            await anext(client.watch(name))
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.aclose()
        while True:
            try:
                assert isinstance(await anext(client.watch(name)), OpenedEvent)
                break
            except ClientError:
                await asyncio.sleep(0.01)
        with pytest.raises(ClientError) as caught:
            await anext(client.watch("nobody"))
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_while_streams_of_the_server_before_are_taken_over_who_looks_for_one_is_told_to_try_again() -> None:
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", StreamOptions(window=1)) as own:
        for is_adopting, code in ((True, grpc.StatusCode.UNAVAILABLE), (False, grpc.StatusCode.NOT_FOUND)):
            cell.engine.keeping.is_adopting = is_adopting
            with pytest.raises(ClientError) as caught:
                await anext(client.watch("not-here-yet"))
            assert caught.value.code is code
            assert isinstance(await anext(client.watch(own.opened.session_id)), OpenedEvent), "what is here is found"


async def test_everybody_is_told_what_is_shown_now_and_what_was_understood_of_it() -> None:
    options = StreamOptions(window=4, auto_ack=False, cues=(CueAt(prompt="a blue ball zyzzyva", block=2),))
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        first = stream.opened
        assert first is not None
        assert (first.prompt, first.reading) == ("red", READ_RED)
        told = [await anext(stream) for _ in range(6)]
        (accepted,) = [event for event in told if isinstance(event, CueAcceptedEvent)]
        (applied,) = [event for event in told if isinstance(event, CueAppliedEvent)]
        reading = Reading(
            understood=("colour: blue", "shape: ball"),
            ignored=("zyzzyva",),
            defaulted=("motion: resting", "background: fog"),
        )
        for event in (accepted, applied):
            assert (event.prompt, event.reading, event.block) == ("a blue ball zyzzyva", reading, 2)
        (session,) = await client.list_sessions()
        assert (session.prompt, session.current_prompt) == ("red", "a blue ball zyzzyva")
        assert session.current_prompt_block == 2
        watching = client.watch(session.session_id)
        opened = await anext(watching)
        assert isinstance(opened, OpenedEvent) and (opened.prompt, opened.reading) == ("a blue ball zyzzyva", reading)
        await watching.aclose()
