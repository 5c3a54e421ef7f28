"""The link: strangers are turned away, a worker that misbehaves is given up, one that is cut off dials again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from cluster.launch.link_server import MAX_HELLO_BYTES, LinkServer, LinkService
from longtake.core.effects import EncodeText, Forget
from longtake.core.errors import InvalidField, Unavailable
from longtake.core.events import OpFailed, Tick, WorkerJoined, WorkerLost
from longtake.core.work import ConditioningRef, DispatchNumber
from longtake.link.v1 import link_pb2 as pb
from longtake.link.v1 import link_pb2_grpc
from tests.cluster.cell.world import until_attached
from tests.cluster.launch.dialling import INTRODUCTION, SESSION, WORKER, Loaded, Slow, bench, status
from workers.link import dial
from workers.link.convert import down_to_proto, hello_to_proto, up_to_proto
from workers.link.dial import WorkerLink
from workers.messages import Done, Down, Failed, Heartbeat, Shutdown


async def test_a_port_that_is_taken_is_named() -> None:
    async with bench() as taken:
        port = int(taken.address.rpartition(":")[2])
        with pytest.raises(InvalidField, match=rf"^link\.port: '127\.0\.0\.1:{port}' is not allowed"):
            LinkServer(LinkService(taken.engine, token="secret", model_digest="model"), port=port)


@pytest.mark.parametrize(
    ("first", "code", "detail"),
    [
        (
            pb.AttachRequest(hello=pb.Hello(worker="w" * MAX_HELLO_BYTES)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "hello, of at most 65536 bytes",
        ),
        (pb.AttachRequest(heartbeat=pb.Heartbeat()), grpc.StatusCode.INVALID_ARGUMENT, "must be hello"),
        (
            pb.AttachRequest(hello=pb.Hello(worker="w", role=pb.ROLE_DECODE)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "hello.capacity: 0 is not allowed",
        ),
        (
            hello_to_proto(replace(INTRODUCTION, model_digest="other")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "hello.model_digest is other, the engine serves model",
        ),
    ],
)
async def test_a_wrong_hello_is_turned_away(first: pb.AttachRequest, code: grpc.StatusCode, detail: str) -> None:
    async with bench() as made:
        call = made.dial()
        await call.write(first)
        assert (await status(call))[0] is code
        assert detail in str(await call.details())
        assert made.engine.scheduler.workers() == ()


async def test_a_report_out_of_order_ends_the_link() -> None:
    async with bench() as made:
        call = await made.attach()
        await call.write(up_to_proto(Done(sequence=DispatchNumber(1))))
        assert await status(call) == (
            grpc.StatusCode.UNAVAILABLE,
            "the engine gave this link up: it reported dispatch 1, expected none",
        )
        assert (await made.log.lost()).reason == "it reported dispatch 1, expected none"


async def test_a_message_without_content_ends_the_link() -> None:
    async with bench() as made:
        call = await made.attach()
        await call.write(pb.AttachRequest())
        assert "message: None is not allowed" in (await status(call))[1]


async def test_a_silent_worker_is_lost_and_a_beating_one_is_not() -> None:
    async with bench(silence_s=0.6) as made:
        call = await made.attach()
        for _ in range(8):
            await asyncio.sleep(0.15)
            await call.write(up_to_proto(Heartbeat()))
        assert [view.worker for view in made.engine.scheduler.workers()] == [WORKER]
        assert (await made.log.lost()).reason == "it was silent for 0.6 s"
        assert made.engine.scheduler.workers() == ()


async def test_a_worker_that_hangs_up_is_lost_at_once() -> None:
    async with bench() as made:
        call = await made.attach()
        call.cancel()
        assert (await made.log.lost()).worker == WORKER


async def test_dialling_in_again_ends_the_older_link_first() -> None:
    async with bench() as made:
        older = await made.attach()
        newer = await made.attach()
        assert "it dialled in again" in (await status(older))[1]
        await newer.write(up_to_proto(Failed(sessions=(SESSION,), sequence=None, reason="heard")))
        async with asyncio.timeout(5):
            while not any(isinstance(event, OpFailed) for event in made.log.events):
                await asyncio.sleep(0.01)
        kinds = [type(event) for event in made.log.events if isinstance(event, WorkerJoined | WorkerLost)]
        assert kinds == [WorkerJoined, WorkerLost, WorkerJoined]


async def test_a_worker_that_does_not_read_is_given_up() -> None:
    async with bench() as made:
        await made.attach()
        big = EncodeText(worker=WORKER, conditioning=ConditioningRef(session=SESSION, version=3), prompt="x" * 500_000)
        for _ in range(1200):
            made.engine.broadcast(big)
        assert "does not read" in (await made.log.lost()).reason


class Deaf:
    """The engine's way to a worker that is not there."""

    def send(self, message: Down) -> None:
        pass

    def end(self, reason: str) -> None:
        pass


async def test_a_long_op_does_not_silence_a_worker_and_shutdown_waits_for_it() -> None:
    async with bench(silence_s=2.0) as made:
        serving = asyncio.create_task(WorkerLink(Loaded(), made.address, "secret").serve())
        await until_attached(made.engine, WORKER)
        made.engine.broadcast(Forget(worker=WORKER, session=SESSION, version=None))
        made.engine.broadcast(Shutdown())
        async with asyncio.timeout(10):
            await serving
        assert (await made.log.lost()).reason == "it closed its link"
        kinds = [type(event) for event in made.log.events if not isinstance(event, Tick)]
        assert kinds == [WorkerJoined, OpFailed, WorkerLost]


class SlowlyMade(Loaded):
    """Weights over which a worker is made in more time than the engine bears silence."""

    def fresh(self) -> Slow:
        time.sleep(2.5)
        return super().fresh()


async def test_a_worker_is_made_before_it_says_hello_and_once_for_each_attachment() -> None:
    async with bench(silence_s=2.0) as made:
        loaded = SlowlyMade()
        serving = asyncio.create_task(WorkerLink(loaded, made.address, "secret").serve())
        await until_attached(made.engine, WORKER)
        made.engine.broadcast(Shutdown())
        async with asyncio.timeout(10):
            await serving
        assert (await made.log.lost()).reason == "it closed its link"
        assert loaded.made == 1


async def test_a_worker_dials_again_without_its_history() -> None:
    async with bench() as made:
        loaded = Loaded()
        serving = asyncio.create_task(WorkerLink(loaded, made.address, "secret").serve())
        await until_attached(made.engine, WORKER)
        made.engine.join(INTRODUCTION, Deaf())  # which ends the worker's link
        async with asyncio.timeout(10):
            while [type(event) for event in made.log.events].count(WorkerJoined) < 3:
                await asyncio.sleep(0.01)
        assert loaded.made == 2
        made.engine.broadcast(Shutdown())
        await serving


async def test_a_worker_that_is_refused_says_why() -> None:
    async with bench() as made:
        with pytest.raises(Unavailable, match=r"refuses this worker: the secret in the call's metadata is not"):
            await WorkerLink(Loaded(), made.address, "guess").serve()


class HandMadeCall:
    """A link as a worker sees it: it hears what the test gave it, then nothing more."""

    def __init__(self, heard: list[Down], *, breaks: bool) -> None:
        """With `breaks` the link breaks after Welcome, where a write is the first to notice."""
        self.said: list[pb.AttachRequest] = []
        self._heard = deque([pb.AttachResponse(welcome=pb.Welcome()), *map(down_to_proto, heard)])
        self._breaks = breaks

    async def write(self, message: pb.AttachRequest) -> None:
        if self.said and self._breaks:
            raise asyncio.InvalidStateError("RPC already finished.")
        self.said.append(message)

    async def read(self) -> pb.AttachResponse:
        return self._heard.popleft() if self._heard else await asyncio.get_running_loop().create_future()

    async def done_writing(self) -> None:
        pass


async def test_a_write_that_finds_the_link_broken_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = HandMadeCall([], breaks=True), HandMadeCall([Shutdown()], breaks=False)
    calls = iter((broken, whole))
    monkeypatch.setattr(
        link_pb2_grpc, "LinkServiceStub", lambda channel: SimpleNamespace(Attach=lambda metadata: next(calls))
    )
    monkeypatch.setattr(dial, "REDIAL_S", 0.01)
    loaded = Loaded()
    async with asyncio.timeout(10):
        await WorkerLink(loaded, "nowhere:1", "secret").serve()
    assert [len(broken.said), whole.said[:1]] == [1, broken.said], "it dials again, and says Hello as before"
    assert loaded.made == 2
