"""What operators ask a running server, over real gRPC: ops of a session, its status, the way down."""

from __future__ import annotations

import asyncio

import pytest

from cluster.offer import WireLimits
from longtake.client import Client, StreamOptions
from longtake.client_errors import ClientError
from longtake.client_events import SegmentEvent
from longtake.core.schedule import Kind, Op, chains
from protos.longtake.v1 import longtake_pb2 as pb
from tests.cluster.toy import GEOMETRY, RECIPE, toy_cell

KINDS = {pb.OP_KIND_DENOISE: Kind.DENOISE, pb.OP_KIND_COMMIT: Kind.COMMIT, pb.OP_KIND_DECODE: Kind.DECODE}


async def test_every_op_of_a_watched_stream_comes_once_with_its_worker_and_its_times() -> None:
    options = StreamOptions(pictures=GEOMETRY.first_picture(8), window=1)
    async with (
        toy_cell(delay_s=0.002) as cell,
        Client(cell.target) as client,
        client.stream("a red ball", options) as stream,
    ):
        assert stream.opened is not None
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
        Op(kind, step, block)
        for kind, step in chains(RECIPE)
        for block in range(begun, 8)
        if kind is not Kind.COMMIT or block < last
    }
    assert len(seen) == len(expected) and set(seen) == expected
    for span in ops:
        assert span.worker_id in (("v0",) if span.kind == pb.OP_KIND_DECODE else ("d0", "d1"))
        assert 0 < span.dispatched_at_s < span.done_at_s < uptime_s and span.batch == 1


async def test_an_unknown_session_and_one_observer_too_many_are_refused() -> None:
    async with (
        toy_cell(wire=WireLimits(max_watchers=1)) as cell,
        Client(cell.target) as client,
        client.stream("a red ball", StreamOptions(window=1)) as stream,
    ):
        assert stream.opened is not None
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
