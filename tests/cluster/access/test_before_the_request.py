"""Who calls is asked before a byte of the request is taken: a stranger is answered who never sends one."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2

from benchmarks.http2 import END_HEADERS, HEADERS, RawClient, frame, request
from cluster.access.callers import HEALTH_CHECK, RIGHTS
from cluster.access.guard import MAX_CHECK_BYTES
from tests.cluster.access.doors import House, guarded_cell
from tests.hostile.answers import refused


@pytest.mark.parametrize("method", sorted(RIGHTS))
async def test_a_stranger_is_turned_away_before_the_request_comes(house: House, method: str) -> None:
    def ask(address: str) -> None:
        with RawClient(address) as client:
            client.send(frame(HEADERS, request(method), flags=END_HEADERS, stream=1))
            refused(client, grpc.StatusCode.UNAUTHENTICATED)

    async with guarded_cell(house) as guarded:
        await asyncio.wait_for(asyncio.to_thread(ask, guarded.cell.target), 20)
        assert guarded.refusals() == {"no_credentials": 1}


async def test_a_health_check_is_small_and_a_request_must_come(house: House) -> None:
    async with guarded_cell(house) as guarded, grpc.aio.insecure_channel(guarded.cell.target) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH_CHECK)
        assert health_pb2.HealthCheckResponse.FromString(await check(b"")).status
        large = health_pb2.HealthCheckRequest(service="x" * MAX_CHECK_BYTES).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(large)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        none: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(HEALTH_CHECK)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await none(iter(()))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
