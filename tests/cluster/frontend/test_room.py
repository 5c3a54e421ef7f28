"""Who gets room for a stream and when it is taken back: full cells, queues, forks, lost workers, drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.frontend.server import SERVICE
from longtake.client import Client, Stream, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, NoticeEvent, SegmentEvent, StreamEvent
from longtake.core.limits import Limits
from longtake.core.sessions.life import State
from longtake.core.work import Role
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.frontend.reading import segments, upto
from tests.cluster.frontend.toy import GEOMETRY, segment, toy_cell

NO_ROOM = (
    "a worker was lost, and there is no room for what it held (no decode worker is up yet): "
    "the stream goes on as soon as there is"
)


@pytest.mark.parametrize("victim", ["d0", "d1", "v0"])
async def test_a_lost_worker_ends_no_stream_and_its_segments_are_those_without_the_loss(victim: str) -> None:
    """A denoise worker's lanes go to the other one at once; there is no other decode worker, so one is waited for."""
    options = StreamOptions(seed=2, codec="raw", pictures=GEOMETRY.first_picture(30))
    async with toy_cell(delay_s=0.002) as cell, Client(cell.target) as client:
        events: list[StreamEvent] = []
        async with client.stream("red", options) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, SegmentEvent) and event.index == 20:
                    next(worker for worker in cell.workers if worker.id == victim).die()
                if isinstance(event, NoticeEvent):
                    while [view.state for view in cell.engine.scheduler.sessions()] != [State.PARKED]:
                        await asyncio.sleep(0.001)
                    cell.join(victim, Role.DECODE)
        notices = [event.text for event in events if isinstance(event, NoticeEvent)]
        assert notices == ([NO_ROOM] if victim == "v0" else [])
        assert [(event.index, event.data) for event in segments(events)] == [
            (block, segment(block, 2, "red")) for block in range(30)
        ]
        closed = events[-1]
        assert isinstance(closed, ClosedEvent) and (closed.ending, closed.segments) == ("completed", 30)
        await cell.settled()
        assert all(worker.free == worker.ability.capacity for worker in cell.engine.scheduler.workers())


async def test_a_stream_that_is_being_ended_ends_as_lost_where_there_is_no_room_and_says_why() -> None:
    """The server drains, so nothing can be waited for."""
    async with toy_cell(delay_s=0.1) as cell, Client(cell.target) as client, client.stream("red") as stream:
        await upto(stream, SegmentEvent)
        cell.engine.begin_drain()
        while [view.state for view in cell.engine.scheduler.sessions()] != [State.FINISHING]:
            await asyncio.sleep(0.001)
        for worker in cell.workers[:2]:
            worker.die()
        closed = await upto(stream, ClosedEvent)
        assert isinstance(closed, ClosedEvent) and closed.ending == "lost"
        with pytest.raises(ClientError, match="worker d1 was lost: killed by the test") as caught:
            await anext(stream)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        await cell.settled()


async def test_drain_delivers_what_was_begun_refuses_new_streams_and_turns_unhealthy() -> None:
    async with (
        toy_cell(delay_s=0.001) as cell,
        Client(cell.target) as client,
        grpc.aio.insecure_channel(cell.target) as channel,
        client.stream("red", StreamOptions(seed=2, window=4)) as stream,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        while (await health.Check(request)).status != health_pb2.HealthCheckResponse.SERVING:
            await asyncio.sleep(0.02)
        await upto(stream, SegmentEvent)
        cell.engine.begin_drain()
        while (await health.Check(request)).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            await asyncio.sleep(0.02)
        events: list[StreamEvent] = []
        with pytest.raises(ClientError) as caught:
            async for event in stream:
                events.append(event)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        closed = events[-1]
        assert isinstance(closed, ClosedEvent) and closed.ending == "drained"
        indices = [s.index for s in segments(events)]
        assert indices == list(range(1, closed.segments))
        await cell.settled()
        assert cell.engine.is_drained
        with pytest.raises(ClientError) as caught:
            async with client.stream("too late"):
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert (await client.get_status()).draining


async def test_no_capacity_says_when_to_try_again_and_takes_nothing() -> None:
    async with toy_cell(limits=Limits(max_sessions=1, max_queued=0)) as cell, Client(cell.target) as client:
        async with client.stream("red"):
            with pytest.raises(ClientError) as caught:
                async with client.stream("blue"):
                    pass
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.retry_after_s is not None and caught.value.retry_after_s > 0
            assert len(await client.list_sessions()) == 1
        await cell.settled()


async def test_a_fast_stream_waits_for_room_is_told_its_place_and_then_begins() -> None:
    async with toy_cell(limits=Limits(max_sessions=1)) as cell, Client(cell.target) as client:
        told: list[StreamEvent] = []
        options = StreamOptions(pictures=GEOMETRY.first_picture(2), codec="raw", seed=1)

        async def second() -> list[StreamEvent]:
            async with client.stream("blue", options, waiting=told.append) as stream:
                return [event async for event in stream]

        async with client.stream("red"):
            waiting = asyncio.create_task(second())
            while not told:
                await asyncio.sleep(0.005)
            states = {session.prompt: session.state for session in await client.list_sessions()}
            assert states["blue"] == pb.SESSION_STATE_QUEUED
            status = await client.get_status()
            assert (status.sessions, status.sessions_queued, status.max_sessions) == (1, 1, 1)
            assert sum(total.sessions for total in status.totals) == 1, "who waits is not open"
            with pytest.raises(ClientError) as caught:
                async with client.stream("green", StreamOptions(pace="realtime")):
                    pass
            assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        events = await waiting
        assert told == [NoticeEvent(text="queued at place 1: the stream begins when there is room")]
        assert [event.index for event in events if isinstance(event, SegmentEvent)] == [0, 1]
        await cell.settled()


async def test_a_fork_begins_where_its_parent_is_with_its_own_prompt_and_seed() -> None:
    async with toy_cell() as cell, Client(cell.target) as client:
        async with client.stream("red", StreamOptions(seed=3, window=2, codec="raw", auto_ack=False)) as parent:
            shown = [event async for event in _until(parent, 2)]
            length = GEOMETRY.first_picture(5)
            options = StreamOptions(seed=4, codec="raw", pictures=length, fork=parent.opened.session_id)
            async with client.stream("blue", options) as child:
                events = [event async for event in child]
            assert [event.index for event in shown] == [0, 1]
            found = {event.index: event for event in events if isinstance(event, SegmentEvent)}
            assert {n: event.data for n, event in found.items()} == {n: segment(n, 4, "blue") for n in (2, 3, 4)}
            assert [event.first_picture for event in found.values()] == [GEOMETRY.first_picture(n) for n in found]
            assert isinstance(events[-1], ClosedEvent) and events[-1].segments == 3
            with pytest.raises(ClientError) as caught:
                async with client.stream("blue", StreamOptions(fork="nobody")):
                    pass
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
        await cell.settled()


async def test_a_stream_is_forked_at_a_block_of_its_past_and_what_is_not_kept_is_out_of_range() -> None:
    """A stream is rewound: its client forks it where it wants to go back to, and closes it."""
    async with toy_cell(limits=Limits(rewind_blocks=4)) as cell, Client(cell.target) as client:
        async with client.stream("red", StreamOptions(seed=3, window=2, codec="raw", auto_ack=False)) as parent:
            async for event in _until(parent, 40):
                await parent.ack(event.index)
            options = StreamOptions(
                seed=4, codec="raw", pictures=GEOMETRY.first_picture(41), fork=parent.opened.session_id
            )
            for block, code, named in (
                (3, grpc.StatusCode.OUT_OF_RANGE, "is the oldest at which the stream can still be forked, not 3"),
                (60, grpc.StatusCode.INVALID_ARGUMENT, "which the session begins next"),
            ):
                with pytest.raises(ClientError) as caught:
                    async with client.stream("blue", replace(options, fork_block=block)):
                        pass
                assert caught.value.code is code and named in caught.value.message
                assert [violation.field for violation in caught.value.violations] == ["open.fork.block"]
            async with client.stream("blue", replace(options, fork_block=38)) as again:
                await parent.close()
                events = [event async for event in again]
        found = {event.index: event for event in events if isinstance(event, SegmentEvent)}
        assert {n: event.data for n, event in found.items()} == {n: segment(n, 4, "blue") for n in (38, 39, 40)}
        assert isinstance(events[-1], ClosedEvent) and events[-1].segments == 3
        await cell.settled()


async def _until(stream: Stream, segments: int) -> AsyncIterator[SegmentEvent]:
    """The first segments of a stream."""
    async for event in stream:
        if isinstance(event, SegmentEvent):
            yield event
            segments -= 1
            if not segments:
                return


async def test_a_broken_call_leaves_the_queue() -> None:
    async with toy_cell(limits=Limits(max_sessions=1)) as cell, Client(cell.target) as client, client.stream("red"):
        told: list[StreamEvent] = []

        async def second() -> None:
            async with client.stream("blue", waiting=told.append):
                pass

        waiting = asyncio.create_task(second())
        while not told:
            await asyncio.sleep(0.005)
        waiting.cancel()
        while len(cell.engine.scheduler.sessions()) > 1:
            await asyncio.sleep(0.005)
        cell.engine.scheduler.check()


async def test_without_workers_a_stream_is_refused_as_unavailable() -> None:
    async with toy_cell(workers=False) as cell, Client(cell.target) as client:
        with pytest.raises(ClientError, match="no denoise worker") as caught:
            async with client.stream("red"):
                pass
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
