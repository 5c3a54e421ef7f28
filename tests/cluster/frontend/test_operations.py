"""What operators ask a running server, over real gRPC: ops of a session, its status, the way down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.config import parse_config
from cluster.frontend.offer import WireLimits
from cluster.frontend.server import SERVICE
from cluster.serve import Ready, Stop, serve_until
from longtake.client import Client, PaceName, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, NoticeEvent, SegmentEvent, StreamEvent
from longtake.core.limits import Limits
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions.life import State
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from tests.cluster.frontend.toy import GEOMETRY, RECIPE, offer, toy_cell
from tests.workers.model_dir import model_info
from workers.models.weights import save_info

PROMPT = "a red ball resting in the fog"
KINDS = {pb.OP_KIND_DENOISE: Kind.DENOISE, pb.OP_KIND_COMMIT: Kind.COMMIT, pb.OP_KIND_DECODE: Kind.DECODE}


async def test_every_op_of_a_watched_stream_comes_once_with_its_worker_and_its_times() -> None:
    options = StreamOptions(pictures=GEOMETRY.first_picture(8), window=1)
    async with (
        toy_cell(delay_s=0.002) as cell,
        Client(cell.target) as client,
        client.stream("a red ball", options) as stream,
    ):
        ops: list[pb.OpSpan] = []

        async def watch(session: str) -> None:
            async for span in client.watch_ops(session):
                ops.append(span)

        watching = asyncio.create_task(watch(stream.opened.session_id))
        while not cell.engine.timeline.observers(cell.engine.scheduler.sessions()[0].session):
            await asyncio.sleep(0.005)
        begun = cell.engine.scheduler.sessions()[0].blocks_begun
        got = [event async for event in stream if isinstance(event, SegmentEvent)]
        await asyncio.wait_for(watching, 10)
        uptime_s = (await client.get_status()).uptime_s
    assert len(got) == 8 and begun <= 2
    seen = [Op(KINDS[span.kind], span.step, span.block) for span in ops if span.block >= begun]
    last = 7
    expected = {
        Op(chain.kind, chain.step, block)
        for chain in Graph(RECIPE).chains
        for block in range(begun, 8)
        if chain.kind is not Kind.COMMIT or block < last
    }
    assert len(seen) == len(expected) and set(seen) == expected
    for span in ops:
        assert span.worker_id in (("v0",) if span.kind == pb.OP_KIND_DECODE else ("d0", "d1"))
        assert 0 < span.dispatched_at_s < span.done_at_s < uptime_s and span.batch == 1


async def test_an_unknown_session_and_one_observer_too_many_are_refused() -> None:
    async with (
        toy_cell(wire=WireLimits(max_watchers=1)) as cell,
        Client(cell.target) as client,
        client.stream("a red ball", StreamOptions(window=1)),
    ):
        with pytest.raises(ClientError, match="nobody") as unknown:
            await anext(client.watch_ops("nobody"))
        assert unknown.value.code.name == "NOT_FOUND"
        session = cell.engine.scheduler.sessions()[0].session
        watching = asyncio.create_task(anext(client.watch_ops(session)))
        while not cell.engine.timeline.observers(session):
            await asyncio.sleep(0.005)
        with pytest.raises(ClientError, match="1 observe the ops") as full:
            await anext(client.watch_ops(session))
        assert full.value.code.name == "RESOURCE_EXHAUSTED" and full.value.retry_after_s == 5.0
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        while cell.engine.timeline.observers(session):
            await asyncio.sleep(0.005)


async def test_the_slack_of_a_stream_that_stands_still_says_nothing_about_now() -> None:
    async with toy_cell(delay_s=0.001) as cell, Client(cell.target) as client:
        async with client.stream("red", StreamOptions(pace="realtime", window=2)) as stream:
            while (await upto_segment(stream)).index < 2:
                pass
            assert [total.HasField("least_slack_s") for total in (await client.get_status()).totals] == [True, False]
            await stream.pause()
            while [session.state for session in await client.list_sessions()] != [pb.SESSION_STATE_PAUSED]:
                await asyncio.sleep(0.01)
            assert [total.HasField("least_slack_s") for total in (await client.get_status()).totals] == [False, False]
        await cell.settled()


async def test_the_status_counts_just_what_clients_saw() -> None:
    pictures = GEOMETRY.first_picture(3)
    seen: dict[str, list[SegmentEvent]] = {"fast": [], "realtime": []}
    asked: list[tuple[PaceName, int]] = [("fast", pictures), ("fast", 5), ("realtime", pictures)]
    async with toy_cell(delay_s=0.001) as cell, Client(cell.target) as client:
        for pace, length in asked:
            async with client.stream("a red ball", StreamOptions(pace=pace, pictures=length)) as stream:
                seen[pace] += [event async for event in stream if isinstance(event, SegmentEvent)]
        with pytest.raises(ClientError, match="not open here"):
            async with client.stream("a red ball", StreamOptions(fork="nobody")):
                pass
        with pytest.raises(ClientError, match="pictures"):
            async with client.stream("a red ball", StreamOptions(pictures=1 << 50)):
                pass
        async with client.stream("a blue box", StreamOptions(pace="realtime", window=1)) as stream:
            first = await upto_segment(stream)
            status = await client.get_status()
            (mine,) = await client.list_sessions()
        await cell.settled()
    seen["realtime"].append(first)
    assert (status.cell, status.forwards_per_block, status.draining) == (offer().cell, 4, False)
    assert not status.HasField("drains_in_s") and status.sessions == 1
    totals = {total.pace: total for total in status.totals}
    for pace, number in (("fast", pb.PACE_FAST), ("realtime", pb.PACE_REALTIME)):
        total, segments = totals[number], seen[pace]
        assert (total.opened, total.blocks) == (2, len(segments))
        assert (total.pictures, total.bytes) == (
            sum(segment.picture_count for segment in segments), sum(len(segment.data) for segment in segments),
        )  # fmt: skip
        assert total.sessions == (pace == "realtime") and (pace == "realtime" or not total.late_blocks)
    assert mine.pictures_sent == first.picture_count and 0 < mine.age_s < status.uptime_s
    workers = {worker.worker_id: worker for worker in status.workers}
    blocks = sum(map(len, seen.values()))
    assert workers["v0"].ops == workers["v0"].passes == blocks
    forwards = workers["d0"].ops + workers["d1"].ops
    # Of each stream that is over all but the commits of its last block; of the one that runs at least its first block.
    assert 4 * blocks - 2 * 4 <= forwards <= 4 * (blocks + 2) - 2 * 3
    assert all(worker.chain_length == 1 and worker.passes <= worker.dispatched for worker in status.workers)


async def upto_segment(stream: AsyncIterator[StreamEvent]) -> SegmentEvent:
    async for event in stream:
        if isinstance(event, SegmentEvent):
            return event
    raise AssertionError("the stream ended without a segment")


async def test_a_drain_with_a_grace_tells_everybody_when_they_end_and_opens_nothing_more() -> None:
    async with (
        toy_cell(delay_s=0.001, limits=Limits(max_sessions=1)) as cell,
        Client(cell.target) as client,
        grpc.aio.insecure_channel(cell.target) as channel,
        client.stream("a red ball", StreamOptions(window=1)) as stream,
    ):
        queued = asyncio.create_task(events_of(client, "a blue box"))
        while cell.engine.scheduler.sessions()[-1].state is not State.QUEUED:
            await asyncio.sleep(0.005)
        assert await client.drain(3600) == 2
        with pytest.raises(ClientError, match="shutting down"):
            await queued
        with pytest.raises(ClientError, match="shutting down") as refused:
            await events_of(client, "a green ring")
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        health = health_pb2_grpc.HealthStub(channel)
        while (await health.Check(request)).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            await asyncio.sleep(0.02)
        status = await client.get_status()
        assert status.draining and status.sessions == 1 and 3500 < status.drains_in_s <= 3600
        events = [await anext(stream) for _ in range(12)]
        assert [event.text for event in events if isinstance(event, NoticeEvent)] == [
            "the server is shutting down: this stream ends in 3600 s"
        ]
        assert sum(isinstance(event, SegmentEvent) for event in events) == 10
        assert await client.drain(7200) == 1, "changes nothing"
        assert (await client.get_status()).drains_in_s <= 3600
        assert not cell.engine.is_drained
        assert await client.drain() == 1
        rest: list[StreamEvent] = []
        with pytest.raises(ClientError, match="shutting down"):
            rest.extend([event async for event in stream])
        async with asyncio.timeout(10):
            while not cell.engine.is_drained:
                await asyncio.sleep(0.005)
        assert (await client.get_status()).drains_in_s == 0.0


async def events_of(client: Client, prompt: str) -> list[StreamEvent]:
    async with client.stream(prompt) as stream:
        return [event async for event in stream]


@pytest.mark.parametrize(("seconds", "nanos"), [(-1, 0), (24 * 3600, 1), (0, -1), (1, 1_000_000_000)])
async def test_a_grace_that_is_none_is_refused_and_nothing_drains(seconds: int, nanos: int) -> None:
    async with toy_cell() as cell, grpc.aio.insecure_channel(cell.target) as channel:
        grace = duration_pb2.Duration(seconds=seconds, nanos=nanos)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rpc.LongtakeServiceStub(channel).Drain(pb.DrainRequest(grace=grace))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "grace" in (refused.value.details() or "") and "86400" in (refused.value.details() or "")
        assert not cell.engine.is_draining


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Client, asyncio.Task[None]]]:
    """A whole server in this process, which nobody but its clients ends."""
    save_info(folder, model_info())
    config = parse_config(
        {
            "model": {"path": str(folder), "device": "simulated:1ms"},
            "cluster": {"launch": "in-process"},
            "listen": {"port": 0},
        }
    )
    said = asyncio.Queue[Ready]()
    serving = asyncio.create_task(serve_until(config, Stop(), say=said.put_nowait))
    ready = await asyncio.wait_for(said.get(), 60)
    async with Client(f"127.0.0.1:{ready.port}") as client:
        yield client, serving
    await asyncio.wait_for(serving, 30)


@pytest.mark.parametrize("shortened", [False, True])
async def test_the_server_ends_when_the_grace_is_over_or_a_second_drain_ends_it(
    tmp_path: Path, shortened: bool
) -> None:
    events: list[StreamEvent] = []
    async with served(tmp_path) as (client, serving), client.stream(PROMPT, StreamOptions(window=2)) as stream:
        began_s = time.monotonic()
        await client.drain(3600 if shortened else 1)
        with pytest.raises(ClientError, match="shutting down"):
            async for event in stream:
                events.append(event)
                assert not serving.done()
                if isinstance(event, SegmentEvent) and event.index == 5 and shortened:
                    await client.drain()
        took_s = time.monotonic() - began_s
    closed = events[-1]
    assert isinstance(closed, ClosedEvent) and closed.ending == "drained"
    assert [event.index for event in events if isinstance(event, SegmentEvent)] == list(range(closed.segments))
    assert closed.segments > 5 if shortened else took_s >= 1


async def test_a_drained_server_ends_as_soon_as_no_stream_is_left(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, _), client.stream(PROMPT, StreamOptions(duration_s=3)) as stream:
        await client.drain(3600)
        closed = [event async for event in stream][-1]
    assert isinstance(closed, ClosedEvent) and closed.ending == "completed"
