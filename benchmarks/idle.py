"""What a session costs that generates nothing: memory of the server's process for thousands of them.

python -m benchmarks.idle --sessions 10000 --json

`queued` sessions wait for room, which a single stream takes; `parked` ones were paused before their first block and
have given up their place. Both go through gRPC on the loopback, from this process, over several connections; `engine`
are parked ones in an engine without gRPC, in this process. Workers are simulated. At the end some of the parked
streams are woken and must go on: they are idle, not dead.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import click
import grpc
from tqdm import tqdm

from benchmarks.process_use import children_rss_bytes, own_rss_bytes
from benchmarks.simulated_streams import small_pictures
from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox
from cluster.launch.in_process import InProcessLauncher
from cluster.launch.plan import POCKET, model_path
from longtake.cli.local_server import local_server
from longtake.core.errors import Unavailable
from longtake.core.events import Open, Pause
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.life import State
from longtake.core.work import Role, SegmentSettings, SessionId, WorkerId
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from workers.models import weights
from workers.models.api import Compute
from workers.models.weights import ModelInfo
from workers.start.spec import WorkerSpec

DEVICE = "simulated:1ms"
PROMPT = "a red ball circling in the fog"
AT_ONCE = 200
"""Streams that are being opened at the same time."""
SETTLE_S = 2.0
BLOCKS = 3
"""What a woken stream has to send."""
WOKEN = 20
LIMIT_S = 600.0

Call = grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What so many idle sessions took."""

    bytes_per_session: int
    opened_per_s: float
    pages_held: int


class Crowd:
    """Streams of one client process, spread over connections of its own."""

    def __init__(self, address: str, connections: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)  # else all channels would share one connection
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
        self._stubs = [rpc.LongtakeServiceStub(channel) for channel in self._channels]
        self.calls: list[Call] = []

    async def open(self, number: int, *, paused: bool) -> Call:
        """A stream, until the server has said something: Opened if it is `paused`, else its place in the queue."""
        call = self._stubs[number % len(self._stubs)].Stream()
        request = pb.Open(prompt=PROMPT, seed=number, codec=pb.CODEC_RAW, window=1)
        await call.write(pb.StreamRequest(open=request))
        if paused:
            await call.write(pb.StreamRequest(pause=pb.Pause()))
        wanted = "opened" if paused else "notice"
        while (await _frame(call)).WhichOneof("frame") != wanted:
            pass
        self.calls.append(call)
        return call

    async def open_many(self, numbers: Sequence[int], *, paused: bool) -> None:
        """As many at a time as AT_ONCE."""
        gate = asyncio.Semaphore(AT_ONCE)
        bar: tqdm[Never] = tqdm(total=len(numbers), unit="stream", desc="parked" if paused else "queued")

        async def one(number: int) -> None:
            async with gate:
                await self.open(number, paused=paused)
            bar.update()

        try:
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(one(number))
        finally:
            bar.close()

    async def status(self) -> pb.GetStatusResponse:
        """Of the server."""
        return await self._stubs[0].GetStatus(pb.GetStatusRequest())

    async def states(self) -> list[int]:
        """The state of every session."""
        answer = await self._stubs[0].ListSessions(pb.ListSessionsRequest())
        return [session.state for session in answer.sessions]

    async def leave(self) -> None:
        """Break all calls."""
        for call in self.calls:
            call.cancel()
        for channel in self._channels:
            await channel.close()


async def _frame(call: Call) -> pb.StreamResponse:
    frame = await call.read()
    if not isinstance(frame, pb.StreamResponse):
        raise Unavailable(f"a stream ended: {await call.code()} {await call.details()}")
    return frame


async def wake(call: Call, blocks: int) -> None:
    """Let a paused stream go on until it has sent so many blocks in order; Unavailable if it does not."""
    await call.write(pb.StreamRequest(play=pb.Play()))
    due = 0
    while due < blocks:
        frame = await _frame(call)
        if frame.WhichOneof("frame") == "segment" and frame.segment.part == 0:
            if frame.segment.index != due:
                raise Unavailable(f"a woken stream sent segment {frame.segment.index} instead of {due}")
            await call.write(pb.StreamRequest(ack=pb.Ack(segment=due)))
            due += 1


async def _held(crowd: Crowd) -> int:
    workers = (await crowd.status()).workers
    return sum(worker.capacity - worker.free for worker in workers if worker.role == pb.WORKER_ROLE_DENOISE)


async def through_grpc(address: str, sessions: int, connections: int, *, paused: bool) -> Cost:
    """Open the sessions, wait until all are idle, look at the server's memory; with `paused`, wake some of them."""
    first = Crowd(address, connections)  # connections, and whatever the first call makes, are no session's cost
    if not paused:
        await first.open(0, paused=True)
        await wake(first.calls[0], 1)
    crowd = Crowd(address, connections)
    await crowd.open_many(range(connections), paused=paused)
    await asyncio.sleep(SETTLE_S)
    before_bytes, held = children_rss_bytes(), await _held(crowd)
    began_s = time.monotonic()
    numbers = range(connections, connections + sessions)
    await crowd.open_many(numbers, paused=paused)
    took_s = time.monotonic() - began_s
    wanted = pb.SESSION_STATE_PARKED if paused else pb.SESSION_STATE_QUEUED
    async with asyncio.timeout(LIMIT_S):
        while (await crowd.states()).count(wanted) < sessions + connections:
            await asyncio.sleep(0.2)
    await asyncio.sleep(SETTLE_S)
    used_bytes = children_rss_bytes() - before_bytes
    pages = await _held(crowd) - (0 if paused else held)
    if paused:
        for call in crowd.calls[-WOKEN:]:
            async with asyncio.timeout(LIMIT_S):
                await wake(call, BLOCKS)
    await crowd.leave()
    await first.leave()
    return Cost(bytes_per_session=used_bytes // sessions, opened_per_s=round(sessions / took_s, 1), pages_held=pages)


def server_config(folder: Path, model: Path, sessions: int, *, places: int, park_after_s: float) -> Path:
    """A server with room for `places` sessions at a time and for all to be idle."""
    path = folder / f"places-{places}.toml"
    path.write_text(
        f'[model]\npath = "{model}"\ndevice = "{DEVICE}"\n'
        f'[cluster]\nlaunch = "subprocess"\ndenoise_workers = 1\nsessions_per_worker = {places}\n'
        f"[limits]\nmax_sessions = {2 * sessions}\nmax_queued = {2 * sessions}\n"
        f"max_parked = {2 * sessions}\npark_after_s = {park_after_s}\n"
    )
    return path


def measure_server(config: Path, sessions: int, connections: int, *, paused: bool) -> Cost:
    """In a server of its own, whose log lies beside its `config`."""
    with (
        config.with_suffix(".log").open("w") as log,
        local_server(lambda line: click.echo(line, err=True), config, log) as address,
    ):
        return asyncio.run(through_grpc(address, sessions, connections, paused=paused))


async def in_engine(model: Path, info: ModelInfo, sessions: int) -> Cost:
    """Parked sessions in an engine of this process, each with its outbox, without gRPC."""
    limits = Limits(max_sessions=2 * sessions, max_queued=2 * sessions, park_after_s=0.0)
    engine = Engine(Scheduler(info.recipe, info.geometry, limits))
    pages = AT_ONCE * info.recipe.page_count * info.recipe.lane_count
    specs = [
        WorkerSpec(
            worker=WorkerId(role.value), role=role, capacity=capacity, model=model, compute=Compute(device=DEVICE)
        )
        for role, capacity in ((Role.DENOISE, pages), (Role.DECODE, AT_ONCE))
    ]
    launcher = InProcessLauncher(specs, engine)
    running = asyncio.create_task(engine.run())
    await launcher.start()
    try:
        await _parked(engine, range(100))
        gc.collect()
        before_bytes, began_s = own_rss_bytes(), time.monotonic()
        outboxes = await _parked(engine, range(100, 100 + sessions))
        took_s = time.monotonic() - began_s
        gc.collect()
        used_bytes = own_rss_bytes() - before_bytes
        held = sum(worker.ability.capacity - worker.free for worker in engine.scheduler.workers())
        assert len(outboxes) == sessions
    finally:
        await launcher.stop()
        running.cancel()
    return Cost(bytes_per_session=used_bytes // sessions, opened_per_s=round(sessions / took_s, 1), pages_held=held)


async def _parked(engine: Engine, numbers: Sequence[int]) -> list[Outbox]:
    """Sessions that were paused before their first block; returns when all are parked."""
    outboxes = []
    settings = SegmentSettings(codec="raw", quality=0)
    for number in numbers:
        session, outbox = SessionId(f"idle-session-{number}"), Outbox()
        outboxes.append(outbox)
        engine.attach(session, outbox)
        now_s = engine.now_s()
        engine.submit(
            Open(now_s=now_s, session=session, prompt=PROMPT, seed=number, pace=Pace.FAST, window=1,
                 picture_limit=None, settings=settings)
        )  # fmt: skip
        engine.submit(Pause(now_s=now_s, session=session))
    async with asyncio.timeout(LIMIT_S):
        while sum(view.state is State.PARKED for view in engine.scheduler.sessions()) <= numbers[-1]:
            await asyncio.sleep(0.2)
    return outboxes


@click.command()
@click.option("--sessions", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--connections", default=100, show_default=True, type=click.IntRange(1), help="Over which they come.")
@click.option("--json", "as_json", is_flag=True)
def main(sessions: int, connections: int, as_json: bool) -> None:
    """Measure what idle sessions cost the server: queued, parked, and without gRPC."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        info = small_pictures(weights.load_info(model_path(POCKET)))
        weights.save_info(folder, info)
        costs = {"engine": asyncio.run(in_engine(folder, info, sessions))}
        for kind, places, park_after_s in (("queued", 1, 3600.0), ("parked", AT_ONCE, 0.0)):
            config = server_config(folder, folder, sessions + connections, places=places, park_after_s=park_after_s)
            try:
                costs[kind] = measure_server(config, sessions, connections, paused=kind == "parked")
            except BaseException:
                click.echo(config.with_suffix(".log").read_text()[-2000:], err=True)
                raise
    result: dict[str, object] = {"sessions": sessions, "connections": connections, "simulated": True}
    for kind, cost in costs.items():
        result[f"{kind}_kb_per_session"] = round(cost.bytes_per_session / 1000, 1)
        result[f"{kind}_pages_held"] = cost.pages_held
        result[f"{kind}_opened_per_s"] = cost.opened_per_s
    if as_json:
        click.echo(json.dumps(result))
    else:
        for key, value in result.items():
            click.echo(f"{key:26s} {value}")


if __name__ == "__main__":
    main()
