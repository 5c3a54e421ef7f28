"""Waiting beside a stream: for what becomes of a cue, for room, and no longer than one wants."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import weakref
from collections.abc import AsyncIterable

import grpc
import pytest

from longtake import Client, ClientError, CueAt, StreamOptions, SyncClient
from longtake.client.events import (
    ClosedEvent,
    CueAppliedEvent,
    RetryingEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.core.limits import Limits
from tests.cluster.frontend.toy import GEOMETRY, segment, toy_cell, toy_cell_in_thread

PICTURES = GEOMETRY.first_picture(12)


def numbers(events: list[StreamEvent]) -> list[int]:
    return [event.index for event in events if isinstance(event, SegmentEvent)]


async def test_a_cue_is_awaited_beside_whoever_reads_and_its_segment_comes_next() -> None:
    async with toy_cell(delay_s=0.002) as cell, Client(cell.target) as client:
        options = StreamOptions(seed=4, window=1, pictures=PICTURES)
        async with client.stream("red", options) as stream, asyncio.TaskGroup() as group:
            reading = group.create_task(collect(stream))
            cue = await stream.cue(CueAt(prompt="blue", block=7))
            accepted = await cue.accepted()
            assert (accepted.cue_id, accepted.block, cue.is_shown) == (cue.id, 7, False)
            applied = await cue.shown()
            assert (applied.block, cue.is_shown, repr(cue)) == (7, True, "<StreamCue 'cue-1': shown>")
            assert await cue.accepted() == accepted, "an answer is kept"
        events = reading.result()
    assert numbers(events) == list(range(12))
    assert events[events.index(applied) + 1] == next(
        event for event in events if isinstance(event, SegmentEvent) and event.data == segment(7, 4, "blue")
    )


async def collect(stream: AsyncIterable[StreamEvent]) -> list[StreamEvent]:
    return [event async for event in stream]


def over(events: list[StreamEvent]) -> bool:
    return bool(events) and isinstance(events[-1], ClosedEvent)


async def test_a_cue_that_is_not_shown_says_why() -> None:
    options = StreamOptions(window=2, pictures=PICTURES)
    async with toy_cell(delay_s=0.002) as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        late = await stream.cue(CueAt(prompt="blue", block=0, id="late"))
        with pytest.raises(ClientError, match="block") as refused:
            await late.accepted()
        assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(ClientError, match="block"):
            await late.shown()
        first = await stream.cue(CueAt(prompt="blue", block=9, id="first"))
        await first.accepted()
        second = await stream.cue(CueAt(prompt="green", block=9, id="second"))
        await second.accepted()
        with pytest.raises(ClientError, match="first gives way to second, which took block 9"):
            await first.shown()
        never = await stream.cue(CueAt(prompt="green", block=11, id="never"))
        await stream.close()
        reading = asyncio.create_task(collect(stream))
        with pytest.raises(ClientError, match="FAILED_PRECONDITION: the stream has ended"):
            await never.shown()
        assert isinstance((await reading)[-1], ClosedEvent)


async def test_who_should_read_is_told_instead_of_waiting_for_ever() -> None:
    options = StreamOptions(window=2, pictures=PICTURES)
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        cue = await stream.cue(CueAt(prompt="blue", block=8))
        await cue.accepted()
        with pytest.raises(RuntimeError, match="read it in another task"):
            await cue.shown()
        events = [await anext(stream) for _ in range(3)]
        with pytest.raises(RuntimeError, match="read it in another task"):
            await cue.shown()
        events += await collect(stream)
        assert (await cue.shown()).block == 8
    assert numbers(events) == list(range(12))


async def test_a_wait_that_is_cancelled_cancels_the_waiting_only() -> None:
    """Of reading, of asking, and of watching: nothing is lost, and nothing ends."""
    async with toy_cell(delay_s=0.01) as cell, Client(cell.target) as client:
        options = StreamOptions(window=1, pictures=PICTURES, reconnect_s=0)
        async with client.stream("red", options) as stream, client.watch(stream.opened.session_id) as watch:
            seen: list[StreamEvent] = []
            watched: list[StreamEvent] = []
            waits = 0
            while not (over(seen) and over(watched)):
                for source, to in ((watch, watched), (stream, seen)):
                    if over(to):
                        continue
                    try:
                        to.append(await asyncio.wait_for(anext(source), 0.002))
                    except TimeoutError:
                        waits += 1
                asking = asyncio.create_task(stream.play())
                for _ in range(waits % 5):
                    await asyncio.sleep(0)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError, ClientError):  # it may have ended
                    await asking
    assert waits > 10
    assert numbers(seen) == list(range(12))
    assert numbers(watched)[-1] == 11


async def test_there_is_patience_for_room() -> None:
    """A stream that is refused, with the word when to ask again, is asked for again for so long as one likes."""
    limits = Limits(max_sessions=1, max_queued=0)
    async with toy_cell(limits=limits) as cell, Client(cell.target) as client, client.stream("red") as first:
        with pytest.raises(ClientError) as refused:
            async with client.stream("blue"):
                pass
        assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        retry_s = refused.value.retry_after_s
        assert retry_s is not None and retry_s >= 1
        with pytest.raises(ClientError, match="RESOURCE_EXHAUSTED"):
            async with client.stream("blue", StreamOptions(room_s=retry_s / 2)):
                pass
        told: list[StreamEvent] = []

        def tell(event: StreamEvent) -> None:
            told.append(event)
            closing.append(asyncio.ensure_future(first.close()))

        closing: list[asyncio.Future[None]] = []
        options = StreamOptions(room_s=60, pictures=5)
        async with client.stream("blue", options, waiting=tell) as second:
            assert numbers(await collect(second)) == [0]
        (retrying,) = told
        assert isinstance(retrying, RetryingEvent) and retrying.after_s == retry_s
        assert "asking again in" in retrying.text


async def test_a_question_is_given_up_when_its_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        target = f"127.0.0.1:{mute.getsockname()[1]}"
        async with Client(target, timeout_s=0.2) as client:
            with pytest.raises(ClientError, match=r"no answer within 0\.2 s") as caught:
                await client.get_model()
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(ValueError, match="timeout_s: 0 is not allowed"):
        Client("127.0.0.1:1", timeout_s=0)


def test_the_synchronous_face_waits_for_cues_and_no_longer_than_it_is_told() -> None:
    with toy_cell_in_thread(delay_s=0.01) as cell, SyncClient(cell.target) as client:
        with client.stream("red", StreamOptions(window=1, pictures=PICTURES)) as stream:
            cue = stream.cue(CueAt(prompt="blue", block=6))
            assert cue.accepted(timeout_s=10).block == 6
            with pytest.raises(RuntimeError, match="read it in another task"):
                cue.shown()
            first = next(stream)
            seen = [first]
            reader = threading.Thread(target=lambda: seen.extend(stream))
            with pytest.raises(TimeoutError):
                while True:
                    seen.append(stream.next(timeout_s=0.001) or first)
            reader.start()
            assert isinstance(cue.shown(timeout_s=30), CueAppliedEvent)
            reader.join()
            assert numbers(seen) == list(range(12))
            assert stream.next() is None

            def from_within(_: StreamEvent) -> None:
                stream.pause()

        with (
            client.stream("red", StreamOptions(pictures=5)) as stream,
            pytest.raises(RuntimeError, match="do it in another thread"),
        ):
            stream.save("/dev/null", tell=from_within)


async def test_a_cue_that_nobody_asks_about_is_forgotten() -> None:
    options = StreamOptions(pictures=PICTURES)
    async with toy_cell() as cell, Client(cell.target) as client, client.stream("red", options) as stream:
        asked = [weakref.ref(await stream.cue(CueAt(prompt="blue", block=11, id=f"c{number}"))) for number in range(20)]
        gc.collect()
        assert [cue() for cue in asked] == [None] * 20
        assert numbers(await collect(stream)) == list(range(12))
