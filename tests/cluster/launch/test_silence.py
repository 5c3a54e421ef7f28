"""Silence counts only while the engine was there to hear: its own pauses cost it no worker."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from longtake.core.errors import Unavailable
from longtake.link.v1 import link_pb2_grpc
from tests.cluster.launch.dialling import INTRODUCTION, Call, Loaded
from workers.link import dial
from workers.link.convert import hello_to_proto, up_to_proto
from workers.link.dial import WorkerLink
from workers.link_trust import shown
from workers.messages import Heartbeat
from workers.patience import within

SILENCE_S = 1.0
PAUSE_S = 2.0
"""As long beside SILENCE_S as a pause of 10 s beside the 5 s of a real server."""


class Stallable:
    """See tests.cluster.launch.stallable."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address

    async def ask(self, line: str) -> int:
        """How many workers it has lost when it has done what the line says."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        return int(await self.process.stdout.readline())


@asynccontextmanager
async def stallable() -> AsyncIterator[Stallable]:
    command = (sys.executable, "-m", "tests.cluster.launch.stallable", str(SILENCE_S))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Stallable(process, (await process.stdout.readline()).decode().strip())
        process.stdin.close()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def beat(call: Call, seconds: float) -> None:
    """Say that the worker lives, for so long."""
    for _ in range(8):
        await asyncio.sleep(seconds / 8)
        await call.write(up_to_proto(Heartbeat()))


@pytest.mark.slow
async def test_an_engine_that_stood_still_keeps_its_workers_and_still_hears_when_one_falls_silent() -> None:
    """The worker stands still with it, as in a container that is paused or a machine that is moved."""
    async with stallable() as engine, grpc.aio.insecure_channel(engine.address) as channel:
        call: Call = link_pb2_grpc.LinkServiceStub(channel).Attach(metadata=shown("secret"))
        await call.write(hello_to_proto(INTRODUCTION))
        assert await call.read() is not grpc.aio.EOF
        await engine.ask(f"block {PAUSE_S}")
        await beat(call, SILENCE_S)
        assert await engine.ask("losses") == 0, "its loop was blocked"
        engine.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)
        engine.process.send_signal(signal.SIGCONT)
        await beat(call, SILENCE_S)
        assert await engine.ask("losses") == 0, "its process was stopped"
        async with asyncio.timeout(20):
            while await engine.ask("losses") == 0:
                await asyncio.sleep(0.05)
        assert await engine.ask("losses") == 1


async def test_a_pause_of_the_worker_does_not_use_up_its_patience(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dial, "PATIENCE_S", 1.5)
    monkeypatch.setattr(dial, "REDIAL_S", 0.1)
    caplog.set_level(logging.INFO, "longtake.worker")
    serving = asyncio.create_task(WorkerLink(Loaded(), "127.0.0.1:1", "secret").serve())
    await asyncio.sleep(0.3)
    before = len(caplog.records)
    time.sleep(dial.PATIENCE_S + 0.2)
    with pytest.raises(Unavailable, match="no engine at"):
        await serving
    assert len(caplog.records) - before >= 3, "it has dialled again and again since"


async def test_a_limit_that_counts_turns_ends_what_takes_longer_and_nothing_else() -> None:
    with pytest.raises(TimeoutError):
        async with within(0.3):
            await asyncio.sleep(60)
    async with within(0.6):
        await asyncio.sleep(0.0)
    await asyncio.sleep(0.7)  # past the end of that limit, which is gone
