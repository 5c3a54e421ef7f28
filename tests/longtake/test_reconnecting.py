"""A stream outlives its calls: whatever is cut, its client's file is that of an undisturbed stream, byte for byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from cluster.cell import backlog
from longtake.client import (
    Client,
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    ReconnectingEvent,
    ResumedEvent,
    SegmentEvent,
    StreamEvent,
    StreamOptions,
)
from longtake.client.errors import ClientError
from longtake.client.sync import SyncClient
from longtake.core.events import Attach
from longtake.core.limits import Limits
from tests.cluster.frontend.reading import everything, segments, upto
from tests.cluster.frontend.toy import GEOMETRY, HEADER, Door, ToyCell, segment, toy_cell, toy_cell_in_thread
from tests.longtake.cutting import Cutter, check_file, cut_stream, cutter

SEGMENT_BYTES = 3000


@asynccontextmanager
async def cell_behind(
    *, delay_s: float = 0.001, segment_bytes: int = 0, limits: Limits | None = None
) -> AsyncIterator[tuple[ToyCell, Cutter, Client]]:
    """A toy cell, a proxy before it, and a client behind that."""
    async with (
        toy_cell(delay_s=delay_s, segment_bytes=segment_bytes, limits=limits) as cell,
        cutter(cell.target) as proxy,
        Client(f"127.0.0.1:{proxy.port}") as client,
    ):
        yield cell, proxy, client


def is_held(event: Attach) -> bool:
    """Whether the engine still had the segment that comes next."""
    return event.held_from is None or event.held_from <= (0 if event.cursor is None else event.cursor + 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("held", [True, False])
async def test_a_stream_that_is_cut_at_random_bytes_gives_the_same_file(
    monkeypatch: pytest.MonkeyPatch, seed: int, held: bool
) -> None:
    cuts, blocks = 12, 120
    if not held:  # what was lost with a call is decoded again
        monkeypatch.setattr(backlog, "MOST_BYTES", 0)
    options = StreamOptions(seed=7, window=4, auto_ack=seed % 2 == 0)
    async with cell_behind(segment_bytes=SEGMENT_BYTES) as (cell, proxy, _):
        draw, typical_bytes = random.Random(seed), 4 * SEGMENT_BYTES
        watched = await cut_stream(proxy, draw, options, blocks=blocks, cuts=cuts, typical_bytes=typical_bytes)
        await cell.settled()
    assert proxy.cuts >= cuts
    gone = [event for event in cell.events if isinstance(event, Attach) and not is_held(event)]
    assert bool(gone) is not held
    check_file(watched, blocks=blocks, seed=7, segment_bytes=SEGMENT_BYTES)


async def test_an_outage_is_told_attempt_by_attempt_and_nothing_is_missing_afterwards() -> None:
    options = StreamOptions(seed=1, window=2, pictures=GEOMETRY.first_picture(10))
    async with cell_behind() as (cell, proxy, client), client.stream("red", options) as stream:
        await upto(stream, SegmentEvent)
        proxy.open = False
        proxy.cut()
        events: list[StreamEvent] = []
        async for event in stream:
            events.append(event)
            if isinstance(event, ReconnectingEvent) and event.attempt == 3:
                await cell.left()
                proxy.open = True
        told = [event for event in events if isinstance(event, ReconnectingEvent | ResumedEvent)]
        assert [event.attempt for event in told[:-1] if isinstance(event, ReconnectingEvent)] == list(
            range(1, len(told))
        )
        assert all(event.reason for event in told if isinstance(event, ReconnectingEvent))
        assert isinstance(told[-1], ResumedEvent) and told[-1].continuity == "exact"
        assert [one.index for one in segments(events)] == list(range(1, 10))
        assert isinstance(events[-1], ClosedEvent)


async def test_what_is_asked_for_during_an_outage_is_done_after_it() -> None:
    async with cell_behind() as (_, proxy, client), client.stream("red", StreamOptions(window=2)) as stream:
        await upto(stream, SegmentEvent)
        proxy.open = False
        proxy.cut()
        await upto(stream, ReconnectingEvent)
        await stream.cue("blue")
        await stream.pause()
        await stream.cue("green")
        await stream.ack(0)
        proxy.open = True
        await upto(stream, ResumedEvent)
        accepted = [await upto(stream, CueAcceptedEvent) for _ in range(2)]
        assert [event.cue_id for event in accepted if isinstance(event, CueAcceptedEvent)] == ["cue-1", "cue-2"]
        while (await client.list_sessions())[0].state != 3:
            await asyncio.sleep(0.01)
        await stream.play()
        await upto(stream, CueAppliedEvent)


async def test_a_closed_stream_that_is_out_of_reach_ends_at_once_and_one_in_reach_is_told() -> None:
    async with cell_behind() as (cell, proxy, client):
        for reachable in (True, False):
            async with client.stream("red", StreamOptions(window=2)) as stream:
                await upto(stream, SegmentEvent)
                proxy.open = False
                proxy.cut()
                await upto(stream, ReconnectingEvent)
                proxy.open = reachable
                began_s = asyncio.get_running_loop().time()
                await stream.close()
                closed = (await everything(stream))[-1]
                assert isinstance(closed, ClosedEvent) and closed.ending == "client"
                assert asyncio.get_running_loop().time() - began_s < 30, "it does not try for as long as it may"
                assert ("could not be told" in closed.reason) is not reachable
            if reachable:
                await cell.settled()
        assert cell.attached == [False]


async def test_a_stream_that_may_not_reconnect_and_one_that_tried_for_long_enough_fail() -> None:
    async with cell_behind() as (_, proxy, client):
        for options, attempts in ((StreamOptions(reconnect_s=0), 0), (StreamOptions(reconnect_s=0.3), 2)):
            proxy.open = True
            async with client.stream("red", options) as stream:
                await upto(stream, SegmentEvent)
                proxy.open = False
                proxy.cut()
                events: list[StreamEvent] = []
                with pytest.raises(ClientError) as caught:
                    events.extend([event async for event in stream])
                assert caught.value.code is grpc.StatusCode.UNAVAILABLE
                with pytest.raises(ClientError) as late:
                    await stream.cue("blue")
                assert late.value is caught.value
            assert attempts == 0 or caught.value.message


async def test_a_server_that_says_no_is_not_asked_again() -> None:
    door = Door()
    async with toy_cell(door=door) as cell, cutter(cell.target) as proxy, Client(f"127.0.0.1:{proxy.port}") as client:
        async with client.stream("red", StreamOptions(window=2)) as stream:
            await upto(stream, SegmentEvent)
            door.tenancy.owners.forget(cell.engine.scheduler.sessions()[0].session)  # as if the server were a new one
            proxy.cut()
            events: list[StreamEvent] = []
            with pytest.raises(ClientError) as caught:
                events.extend([event async for event in stream])
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_the_token_that_goes_on_after_an_outage_is_told_and_the_one_before_is_not_needed() -> None:
    async with cell_behind() as (_, proxy, client):
        async with client.stream("red", StreamOptions(seed=2, window=2)) as stream:
            await upto(stream, SegmentEvent)
            proxy.cut()
            resumed = await upto(stream, ResumedEvent)
            assert isinstance(resumed, ResumedEvent)
            assert resumed.resume_token not in (b"", stream.opened.resume_token) and "resume_token" not in repr(resumed)
            assert await stream.leave() == resumed.resume_token
        async with client.resume(resumed.resume_token, 0, StreamOptions(window=2)) as again:
            following = await upto(again, SegmentEvent)
            assert isinstance(following, SegmentEvent) and following.index == 1


async def test_steering_a_stream_whose_end_was_told_gives_its_status_and_before_that_nothing() -> None:
    async with cell_behind() as (cell, _, client):
        for ending, code in (("operator", grpc.StatusCode.ABORTED), ("completed", grpc.StatusCode.FAILED_PRECONDITION)):
            pictures = None if ending == "operator" else GEOMETRY.first_picture(3)
            async with client.stream("red", StreamOptions(window=4, pictures=pictures)) as stream:
                await upto(stream, SegmentEvent)
                if ending == "operator":
                    await client.close_session(stream.opened.session_id)
                await cell.settled()
                ways = (stream.pause, stream.play, lambda s=stream: s.cue("blue"))
                for ask in ways:
                    for _ in range(50):  # the first ones may still be taken
                        await ask()
                rest: list[StreamEvent] = []
                try:
                    rest.extend([event async for event in stream])
                except ClientError as error:
                    assert error.code is code and ending == "operator"
                else:
                    assert [one.index for one in segments(rest)] == [1, 2]
                for ask in ways:
                    with pytest.raises(ClientError) as refused:
                        await ask()
                    assert refused.value.code is code and (
                        ending == "operator" or "is complete" in refused.value.message
                    )


async def test_what_was_lost_with_the_call_at_the_very_end_is_told_afterwards() -> None:
    options = StreamOptions(seed=3, window=8, pictures=GEOMETRY.first_picture(4))
    async with cell_behind() as (cell, _, client):
        async with client.stream("red", options) as stream:
            await upto(stream, SegmentEvent)
            await cell.settled()  # the rest was sent, and closed
            token = await stream.leave()
        for cursor in (1, 0, 3, None):
            async with client.resume(token, cursor, StreamOptions(auto_ack=False)) as again:
                events = await everything(again)
                token = again.opened.resume_token
            first = 0 if cursor is None else cursor + 1
            assert [one.data for one in segments(events)] == [segment(n, 3, "red") for n in range(first, 4)]
            assert events[-1] == ClosedEvent(ending="completed", reason="", segments=4)
        for cursor, code in ((4, grpc.StatusCode.OUT_OF_RANGE), (1 << 40, grpc.StatusCode.OUT_OF_RANGE)):
            with pytest.raises(ClientError) as refused:
                await client.resume(token, cursor).__aenter__()
            assert refused.value.code is code


async def test_leaving_a_stream_ends_it() -> None:
    async with cell_behind() as (cell, proxy, client):
        async with client.stream("red", StreamOptions(window=2)) as stream:
            await upto(stream, SegmentEvent)
        await cell.settled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), client.stream("red", StreamOptions(window=1, auto_ack=False)) as stream:
                await everything(stream)
        await cell.settled()
        async with client.stream("red", StreamOptions(window=2)) as stream:
            await upto(stream, SegmentEvent)
            proxy.cut()
        await cell.settled()


async def test_a_wait_that_is_cancelled_cancels_the_waiting_only() -> None:
    options = StreamOptions(seed=1, window=1, auto_ack=False)
    async with cell_behind() as (_, _, client), client.stream("red", options) as stream:
        await upto(stream, SegmentEvent)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
        await stream.ack(0)
        event = await upto(stream, SegmentEvent)
        assert isinstance(event, SegmentEvent) and event.index == 1


async def test_another_call_takes_the_stream_over_and_the_older_one_is_told() -> None:
    async with cell_behind() as (cell, _, client), client.stream("red", StreamOptions(seed=3, window=2)) as older:
        await upto(older, SegmentEvent)
        async with Client(cell.target) as other, other.resume(older.opened.resume_token, 0) as stream:
            assert stream.opened.segment == 1
            assert stream.opened.session_id == older.opened.session_id and stream.opened.header == HEADER
            event = await upto(stream, SegmentEvent)
            assert isinstance(event, SegmentEvent) and event.data == segment(1, 3, "red")
            events: list[StreamEvent] = []
            with pytest.raises(ClientError, match="another call") as caught:
                events.extend([event async for event in older])
            assert caught.value.code is grpc.StatusCode.ABORTED
            for index in range(2, 9):
                event = await upto(stream, SegmentEvent)
                assert isinstance(event, SegmentEvent) and event.data == segment(index, 3, "red")


def test_the_synchronous_face_goes_on_too() -> None:
    with toy_cell_in_thread(delay_s=0.001) as cell, SyncClient(cell.target) as client:
        options = StreamOptions(seed=3, window=2, pictures=GEOMETRY.first_picture(6))
        with client.stream("red", options) as stream:
            next(stream)
            with client.resume(stream.opened.resume_token, None) as again:
                data = [event.data for event in again if isinstance(event, SegmentEvent)]
        assert data == [segment(n, 3, "red") for n in range(6)]
