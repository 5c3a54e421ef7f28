"""A link server with an engine behind it, and a worker that is driven by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
import torch

from cluster.cell.engine import Engine
from cluster.launch.link_server import LinkServer, LinkService
from longtake.core.effects import Effect
from longtake.core.events import Event, WorkerLost
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, PageId, Role, SessionId, ShapeTime, WorkerId
from longtake.link.v1 import link_pb2 as pb
from longtake.link.v1 import link_pb2_grpc
from tests.cluster.cell.world import until_attached
from tests.workers.model_dir import model_info
from workers.link.convert import hello_to_proto
from workers.link_trust import shown
from workers.messages import Failed, Introduction, Up

WORKER = WorkerId("denoise-0")
SESSION = SessionId("s")
INTRODUCTION = Introduction(
    worker=WORKER,
    role=Role.DENOISE,
    ability=Ability(
        capacity=45,
        batch_limit=3,
        mixes_kinds=True,
        forward_s=0.091,
        tiny_s=0.005,
        shape_s=(ShapeTime(1, 9, 0.031), ShapeTime(6, 21, 0.2)),
        numerics="0123456789abcdef" * 4,
        replay_depth=30,
    ),
    model_digest="model",
)


class Log:
    """A recorder that keeps all events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def fold(self, event: Event, effects: Iterable[Effect]) -> None:
        self.events.append(event)

    async def lost(self) -> WorkerLost:
        """The first loss of a worker, as soon as there is one."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, WorkerLost):
                        return event
                await asyncio.sleep(0.01)


Call = grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]


class Bench:
    """An engine with a link server and a hand-driven worker's channel."""

    def __init__(self, engine: Engine, log: Log, channel: grpc.aio.Channel, address: str) -> None:
        self.engine = engine
        self.address = address
        self.log = log
        self._stub = link_pb2_grpc.LinkServiceStub(channel)

    def dial(self, secret: str = "secret") -> Call:
        call: Call = self._stub.Attach(metadata=shown(secret))
        return call

    async def attach(self) -> Call:
        """A call that is past its Welcome."""
        call = self.dial()
        await call.write(hello_to_proto(INTRODUCTION))
        welcome = await call.read()
        assert isinstance(welcome, pb.AttachResponse)
        assert welcome.WhichOneof("message") == "welcome"
        await until_attached(self.engine, WORKER)
        return call


@asynccontextmanager
async def bench(silence_s: float = 5.0) -> AsyncIterator[Bench]:
    info, log = model_info(), Log()
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()), log)
    running = asyncio.create_task(engine.run())
    server = LinkServer(LinkService(engine, token="secret", model_digest="model", silence_s=silence_s))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Bench(engine, log, channel, server.address)
    finally:
        await server.stop()
        running.cancel()


async def status(call: Call) -> tuple[grpc.StatusCode, str]:
    """How the engine ends a call."""
    async with asyncio.timeout(10):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                if await call.read() is grpc.aio.EOF:
                    break
            raise AssertionError("the engine ended the call without an error")
    return caught.value.code(), str(caught.value.details())


class Slow:
    """A worker whose every op takes longer than the engine bears silence."""

    role = Role.DENOISE
    device = torch.device("cpu")

    def page(self, page: PageId) -> torch.Tensor:
        raise IndexError("no pages")

    def perform(self, message: object) -> Iterator[Up]:
        time.sleep(2.5)
        yield Failed(sessions=(SESSION,), sequence=None, reason="slow but sound")


class Loaded:
    """Stands for loaded weights; counts how many workers were made over them."""

    introduction = INTRODUCTION
    meeting_point = ""

    def __init__(self) -> None:
        self.made = 0

    def fresh(self) -> Slow:
        self.made += 1
        return Slow()
