"""The link: every message survives it, strangers are turned away, and a worker that misbehaves is given up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import grpc.aio
import pytest
import torch

from cluster.cell.engine import Engine
from cluster.launch.link_server import LinkServer, LinkService
from longtake.core.effects import (
    Discard,
    Effect,
    EncodeText,
    Forget,
    Give,
    Load,
    PrepareStream,
    Stow,
    Take,
)
from longtake.core.errors import InvalidField, Unavailable
from longtake.core.events import Event, OpFailed, Tick, WorkerJoined, WorkerLost
from longtake.core.limits import Limits
from longtake.core.recipe.graph import Kind
from longtake.core.scheduler import Scheduler
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    ImageId,
    LatentRef,
    PageId,
    Role,
    SegmentSettings,
    Sequence,
    SessionId,
    SlotId,
    WorkerId,
)
from longtake.link.v1 import link_pb2 as pb
from longtake.link.v1 import link_pb2_grpc
from tests.cluster.cell.world import until_attached
from tests.workers.model_dir import model_info
from workers.link.convert import (
    down_from_proto,
    down_to_proto,
    hello_from_proto,
    hello_to_proto,
    up_from_proto,
    up_to_proto,
)
from workers.link.convert_images import MAX_REASON
from workers.link.dial import WorkerLink
from workers.messages import (
    Decode,
    Done,
    Down,
    Encoded,
    Failed,
    Forward,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Introduction,
    JoinChain,
    Output,
    Part,
    Prepared,
    Seat,
    Shutdown,
    Task,
    Up,
)

WORKER = WorkerId("denoise-0")
SESSION = SessionId("s")
TEXT = ConditioningRef(session=SESSION, version=3)
LATENT = LatentRef(session=SESSION, block=2**33, step=1, sha256="ab")
OUTPUT = Output(sha256="ab", latents=b"latents")
SETTINGS = SegmentSettings(codec="h264", quality=23)
INTRODUCTION = Introduction(
    worker=WORKER,
    role=Role.DENOISE,
    capacity=45,
    batch_limit=3,
    mixes_kinds=True,
    model_digest="model",
    forward_s=0.091,
)


def forward(kind: Kind, source: FromNoise | FromLane | FromLatent, next_sigma: float | None) -> ForwardWork:
    return ForwardWork(
        session=SESSION,
        lane=2,
        kind=kind,
        step=2,
        block=2**33,
        timestep=833.3333129882812,
        sigma=0.8333333134651184,
        next_sigma=next_sigma,
        seed=2**64 - 1,
        positions=(0, 2**40),
        reads=(PageId(0), PageId(7)),
        writes=(PageId(7),),
        conditioning=TEXT,
        input=source,
    )


DECODE = DecodeWork(
    session=SESSION,
    block=4,
    slot=SlotId(0),
    latents=LATENT,
    first_picture=45,
    picture_count=12,
    settings=SETTINGS,
)


@pytest.mark.parametrize(
    "message",
    [
        Task(sequence=Sequence(1), order=(Forward(work=forward(Kind.COMMIT, FromLane(), None)),)),
        Task(
            sequence=Sequence(2),
            order=(
                Forward(work=forward(Kind.DENOISE, FromNoise(), 0.0), conditioning=b"text"),
                Forward(work=forward(Kind.DENOISE, FromLatent(LATENT), 0.5), latents=b"latents"),
            ),
        ),
        Task(sequence=Sequence(2**40), order=Decode(work=DECODE, latents=b"latents")),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(0), settings=SETTINGS),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(3), settings=SETTINGS, image=ImageId(0)),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(3), settings=SETTINGS, origin=SlotId(0)),
        Stow(worker=WORKER, session=SESSION, image=ImageId(2**40), source=(PageId(7), PageId(0))),
        Stow(worker=WORKER, session=SESSION, image=ImageId(0), source=SlotId(0)),
        Load(worker=WORKER, session=SESSION, image=ImageId(0), target=(PageId(0), PageId(7))),
        Give(worker=WORKER, session=SESSION, image=ImageId(1), to=WorkerId("denoise-1")),
        Take(worker=WORKER, session=SESSION, image=ImageId(1), origin=WorkerId("denoise-1")),
        Discard(worker=WORKER, image=ImageId(5)),
        EncodeText(worker=WORKER, conditioning=TEXT, prompt="ein roter Ball, 赤い玉"),
        Forget(worker=WORKER, session=SESSION, version=0),
        Forget(worker=WORKER, session=SESSION, version=None),
        JoinChain(2**40),
        Shutdown(),
    ],
)
def test_what_the_engine_says_survives_the_link(message: Down) -> None:
    sent = pb.AttachResponse.FromString(down_to_proto(message).SerializeToString())
    assert down_from_proto(sent, WORKER) == message


@pytest.mark.parametrize(
    "message",
    [
        Done(sequence=Sequence(0), seconds=0.25),
        Done(sequence=Sequence(2), outputs=(OUTPUT, Output(sha256="cd", latents=b"others"))),
        Done(sequence=Sequence(1), segment=b"segment"),
        Failed(sessions=(SESSION, SessionId("t")), sequence=Sequence(0), reason="no memory"),
        Failed(
            sessions=(SESSION,), sequence=Sequence(0), reason="nan", outputs=(OUTPUT, Output(sha256="", latents=b""))
        ),
        Failed(sessions=(SESSION,), sequence=None, reason="no such codec"),
        Encoded(conditioning=TEXT, tensor=b"text", notice="ignored words: zork"),
        Prepared(session=SESSION, header=b"ftyp", media_type="video/mp4"),
        ImageStowed(image=ImageId(2**40)),
        ImageLoaded(image=ImageId(0)),
        ImageGone(image=ImageId(7), reason="nobody came"),
        Heartbeat(),
        Heartbeat(host_bytes=1, resident_bytes=2**40, copied_out_bytes=3, copied_in_bytes=4),
    ],
)
def test_what_a_worker_says_survives_the_link(message: Up) -> None:
    sent = pb.AttachRequest.FromString(up_to_proto(message).SerializeToString())
    assert up_from_proto(sent) == message


def test_an_introduction_survives_the_link() -> None:
    assert hello_from_proto(hello_to_proto(INTRODUCTION, "token").hello) == INTRODUCTION
    part = Part(seat=Seat(replica=WorkerId("denoise-0"), rank=1, length=3), layers=range(8, 19))
    member = replace(INTRODUCTION, part=part)
    assert hello_from_proto(hello_to_proto(member, "token").hello) == member


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (pb.Part(length=2, layers=1), "hello.part.replica: ''"),
        (pb.Part(replica="r", length=1, layers=1), "hello.part.length: 1 is not allowed; allowed: 2 or more"),
        (pb.Part(replica="r", length=2, rank=2, layers=1), "hello.part.rank: 2 is not allowed; allowed: 0 to 1"),
        (pb.Part(replica="r", length=2), "hello.part.layers: 0"),
    ],
)
def test_a_part_that_no_chain_has_is_refused(part: pb.Part, message: str) -> None:
    hello = hello_to_proto(INTRODUCTION, "token").hello
    hello.part.CopyFrom(part)
    with pytest.raises(InvalidField, match=message):
        hello_from_proto(hello)


def test_a_long_reason_is_cut() -> None:
    failed = up_from_proto(up_to_proto(Failed(sessions=(SESSION,), sequence=None, reason="x" * 99_999)))
    assert isinstance(failed, Failed)
    assert len(failed.reason) == MAX_REASON


def test_a_long_reason_for_the_loss_of_an_image_is_cut() -> None:
    gone = up_from_proto(up_to_proto(ImageGone(image=ImageId(0), reason="x" * 99_999)))
    assert isinstance(gone, ImageGone)
    assert len(gone.reason) == MAX_REASON


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.AttachResponse(stow=pb.Stow(session="s")), "stow.source: None"),
        (pb.AttachResponse(stow=pb.Stow(session="s", pages=pb.Pages())), r"stow.pages: \[\]"),
        (pb.AttachResponse(stow=pb.Stow(slot=0)), "stow.session"),
        (pb.AttachResponse(load=pb.Load(session="s")), r"load.target: \[\]"),
        (pb.AttachResponse(load=pb.Load(target=[0])), "load.session"),
        (pb.AttachResponse(give=pb.Give(session="s")), "give.to"),
        (pb.AttachResponse(give=pb.Give(to="denoise-1")), "give.session"),
        (pb.AttachResponse(take=pb.Take(session="s")), "take.origin"),
        (pb.AttachResponse(take=pb.Take(origin="denoise-1")), "take.session"),
    ],
)
def test_orders_about_images_that_cannot_be_meant_are_refused(message: pb.AttachResponse, field: str) -> None:
    with pytest.raises(InvalidField, match=field):
        down_from_proto(message, WORKER)


def test_messages_that_say_nothing_are_refused() -> None:
    for convert in (
        lambda: up_from_proto(pb.AttachRequest()),
        lambda: up_from_proto(pb.AttachRequest(op_done=pb.OpDone(seconds=float("nan")))),
        lambda: up_from_proto(pb.AttachRequest(op_done=pb.OpDone(seconds=-1.0))),
        lambda: up_from_proto(hello_to_proto(INTRODUCTION, "token")),
        lambda: down_from_proto(pb.AttachResponse(), WORKER),
        lambda: down_from_proto(pb.AttachResponse(dispatch=pb.Dispatch()), WORKER),
        lambda: down_from_proto(pb.AttachResponse(dispatch=pb.Dispatch(forward=pb.ForwardBatch())), WORKER),
        lambda: down_from_proto(
            pb.AttachResponse(dispatch=pb.Dispatch(forward=pb.ForwardBatch(items=[pb.ForwardItem()]))), WORKER
        ),
        lambda: hello_from_proto(pb.Hello(worker="w", role=pb.ROLE_DENOISE, capacity=1)),
        lambda: hello_from_proto(pb.Hello(worker="w", role=pb.ROLE_DENOISE, batch_limit=1)),
        lambda: hello_from_proto(pb.Hello(worker="w", capacity=1, batch_limit=1)),
        lambda: hello_from_proto(pb.Hello(role=pb.ROLE_DECODE, capacity=1, batch_limit=1)),
    ):
        with pytest.raises(InvalidField):
            convert()


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

    def dial(self) -> Call:
        call: Call = self._stub.Attach()
        return call

    async def attach(self) -> Call:
        """A call that is past its Welcome."""
        call = self.dial()
        await call.write(hello_to_proto(INTRODUCTION, "secret"))
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


async def test_a_port_that_is_taken_is_named() -> None:
    async with bench() as taken:
        port = int(taken.address.rpartition(":")[2])
        with pytest.raises(InvalidField, match=rf"^link\.port: '127\.0\.0\.1:{port}' is not allowed"):
            LinkServer(LinkService(taken.engine, token="secret", model_digest="model"), port=port)


@pytest.mark.parametrize(
    ("first", "code", "detail"),
    [
        (hello_to_proto(INTRODUCTION, "guess"), grpc.StatusCode.UNAUTHENTICATED, "hello.token"),
        (hello_to_proto(INTRODUCTION, ""), grpc.StatusCode.UNAUTHENTICATED, "hello.token"),
        (pb.AttachRequest(heartbeat=pb.Heartbeat()), grpc.StatusCode.INVALID_ARGUMENT, "must be hello"),
        (
            pb.AttachRequest(hello=pb.Hello(worker="w", token="secret", role=pb.ROLE_DECODE)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "hello.capacity: 0 is not allowed",
        ),
        (
            hello_to_proto(Introduction(worker=WORKER, role=Role.DENOISE, capacity=1, model_digest="other"), "secret"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "hello.model_digest is other, the engine serves model",
        ),
    ],
)
async def test_strangers_are_turned_away(first: pb.AttachRequest, code: grpc.StatusCode, detail: str) -> None:
    async with bench() as made:
        call = made.dial()
        await call.write(first)
        assert (await status(call))[0] is code
        assert detail in str(await call.details())
        assert made.engine.scheduler.workers() == ()


async def test_a_report_out_of_order_ends_the_link() -> None:
    async with bench() as made:
        call = await made.attach()
        await call.write(up_to_proto(Done(sequence=Sequence(1))))
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
        big = EncodeText(worker=WORKER, conditioning=TEXT, prompt="x" * 500_000)
        for _ in range(1200):
            made.engine.broadcast(big)
        assert "does not read" in (await made.log.lost()).reason


class Slow:
    """A worker whose every op takes longer than the engine bears silence."""

    role = Role.DENOISE
    device = torch.device("cpu")

    def page(self, page: PageId) -> torch.Tensor:
        raise IndexError("no pages")

    def perform(self, message: object) -> Iterator[Up]:
        time.sleep(1.5)
        yield Failed(sessions=(SESSION,), sequence=None, reason="slow but sound")


class Deaf:
    """The engine's way to a worker that is not there."""

    def send(self, message: Down) -> None:
        pass

    def end(self, reason: str) -> None:
        pass


class Loaded:
    """Stands for loaded weights; counts how many workers were made over them."""

    introduction = INTRODUCTION
    meeting_point = ""

    def __init__(self) -> None:
        self.made = 0

    def fresh(self) -> Slow:
        self.made += 1
        return Slow()


async def test_a_long_op_does_not_silence_a_worker_and_shutdown_waits_for_it() -> None:
    async with bench(silence_s=0.9) as made:
        serving = asyncio.create_task(WorkerLink(Loaded(), made.address, "secret").serve())
        await until_attached(made.engine, WORKER)
        made.engine.broadcast(Forget(worker=WORKER, session=SESSION, version=None))
        made.engine.broadcast(Shutdown())
        async with asyncio.timeout(10):
            await serving
        assert (await made.log.lost()).reason == "it closed its link"
        kinds = [type(event) for event in made.log.events if not isinstance(event, Tick)]
        assert kinds == [WorkerJoined, OpFailed, WorkerLost]


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
        with pytest.raises(Unavailable, match=r"refuses this worker: hello.token is not this launch's"):
            await WorkerLink(Loaded(), made.address, "guess").serve()


class BrokenCall:
    """A link that breaks after Welcome, where a write is the first to notice."""

    def __init__(self) -> None:
        self.said: list[pb.AttachRequest] = []
        self.heard: deque[pb.AttachResponse] = deque([pb.AttachResponse(welcome=pb.Welcome())])

    async def write(self, message: pb.AttachRequest) -> None:
        if self.said:
            raise asyncio.InvalidStateError("RPC already finished.")
        self.said.append(message)

    async def read(self) -> pb.AttachResponse:
        return self.heard.popleft() if self.heard else await asyncio.get_running_loop().create_future()


async def test_a_write_that_finds_the_link_broken_does_not_end_the_worker() -> None:
    async with asyncio.timeout(10):
        attached = WorkerLink(Loaded(), "nowhere:1", "secret")._attached(BrokenCall())  # type: ignore[arg-type]
        assert await attached is False, "it dials again"
