"""Processes that stand still, with a real server: its pauses cost no stream, and who waits for a frozen one is told.

What stands still is stopped by SIGSTOP, as a container is paused or a machine is moved.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.client import Client, StreamOptions
from longtake.client.events import ClosedEvent, ReconnectingEvent, SegmentEvent, StreamEvent
from tests.cluster.served import ROOT, Server
from tests.workers.model_dir import write_model

PROMPT = "a red ball swaying at night"
SEGMENTS = 24
STREAMS = 3
CLIENT_S = 20.0 + 10.0
"""Of longtake/client/route.py: the time between pings, and how long an answer may take."""
SERVER_S = 30.0 + 10.0
"""Of cluster/net/grpc_options.py."""
SLACK_S = 4.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture
def server(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path, model, request.param)
    try:
        yield running
    finally:
        for pid in running.group():
            os.kill(pid, signal.SIGCONT)
        running.end()


async def told(client: Client, begun: asyncio.Semaphore) -> list[StreamEvent]:
    """Everything that a realtime stream is told, from its first segment on."""
    found: list[StreamEvent] = []
    async with client.stream(PROMPT, StreamOptions(pace="realtime", pictures=5 + 8 * (SEGMENTS - 1))) as stream:
        async for event in stream:
            found.append(event)
            if isinstance(event, SegmentEvent) and event.index == 2:
                begun.release()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("server", ["subprocess"], indirect=True)
@pytest.mark.parametrize(("pause_s", "alone"), [(10.0, True), (10.0, False), (25.0, True), (25.0, False)])
async def test_a_server_that_stood_still_has_lost_no_stream_and_no_worker(
    server: Server, pause_s: float, alone: bool
) -> None:
    """Alone, or with its workers: neither takes the pause for the silence of the other."""
    async with Client(server.address) as client:
        begun = asyncio.Semaphore(0)
        streams = [asyncio.create_task(told(client, begun)) for _ in range(STREAMS)]
        for _ in streams:
            await begun.acquire()
        stopped = [server.process.pid] if alone else server.group()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(pause_s)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for events in await asyncio.gather(*streams):
            assert isinstance(events[-1], ClosedEvent) and events[-1].ending == "completed"
            assert [event.index for event in events if isinstance(event, SegmentEvent)] == [*range(SEGMENTS)]
            assert not [event for event in events if isinstance(event, ReconnectingEvent)]
    assert "was lost" not in server.text()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["in-process"], indirect=True)
async def test_a_client_at_a_frozen_server_is_told_as_soon_as_its_options_say(server: Server) -> None:
    async with Client(server.address) as client:
        begun = asyncio.Semaphore(0)
        async with client.stream(PROMPT, StreamOptions(pace="realtime")) as stream:
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    break
            begun.release()
            os.kill(server.process.pid, signal.SIGSTOP)
            began_s = time.monotonic()
            async for event in stream:
                if isinstance(event, ReconnectingEvent):
                    break
            assert time.monotonic() - began_s < CLIENT_S + SLACK_S
            os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["in-process"], indirect=True)
async def test_a_server_notices_a_frozen_client_as_soon_as_its_options_say(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longtake", "stream", PROMPT, "--pace", "realtime", "--server", server.address]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "a.mp4")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as frozen:
        try:
            async with Client(server.address) as client:
                while not any([session.segments_sent for session in await client.list_sessions()]):
                    await asyncio.sleep(0.1)
                frozen.send_signal(signal.SIGSTOP)
                began_s = time.monotonic()
                while (await client.list_sessions())[0].attached:
                    await asyncio.sleep(0.1)
                    assert time.monotonic() - began_s < SERVER_S + SLACK_S
        finally:
            frozen.kill()
