"""What Kubernetes asks of a server: whether it lives, and whether it takes streams; a drain tells the two apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.config import parse_config
from cluster.serve import Ready, Stop, serve_until
from longtake.client import Client, StreamOptions
from longtake.client.events import ClosedEvent, SegmentEvent
from tests.workers.model_dir import model_info
from workers.models.weights import save_info

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def answers(ready: Ready) -> tuple[int, int, int]:
    """Of /healthz, /readyz and the gRPC health service."""
    url = ready.metrics.removesuffix("/metrics")
    async with httpx.AsyncClient() as http, grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}") as channel:
        alive, serving = await http.get(f"{url}/healthz"), await http.get(f"{url}/readyz")
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return alive.status_code, serving.status_code, health.status


async def test_a_server_that_drains_lives_and_takes_nothing(tmp_path: Path) -> None:
    save_info(tmp_path, model_info())
    config = parse_config({
        "model": {"path": str(tmp_path), "device": "simulated:2ms"},
        "cluster": {"launch": "in-process"},
        "listen": {"port": 0},
        "metrics": {"address": "127.0.0.1:0"},
    })  # fmt: skip
    said = asyncio.Queue[Ready]()
    serving = asyncio.create_task(serve_until(config, Stop(), say=said.put_nowait))
    async with asyncio.timeout(60):
        ready = await said.get()
        while await answers(ready) != (200, 200, SERVING):  # asked a few times a second
            await asyncio.sleep(0.02)
        async with (
            Client(f"127.0.0.1:{ready.port}") as client,
            client.stream("a red ball", StreamOptions(seed=7, codec="raw")) as stream,
        ):
            async for event in stream:
                if isinstance(event, SegmentEvent) and event.index == 1:
                    await client.drain(60.0)
                    while (await answers(ready))[1:] != (503, NOT_SERVING):
                        await asyncio.sleep(0.02)
                    assert await answers(ready) == (200, 503, NOT_SERVING)
                    await stream.close()
                if isinstance(event, ClosedEvent):
                    assert event.ending == "client"
        await serving
