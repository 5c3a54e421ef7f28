"""Lanes and decoder slots moved and parked between blocks, through engine and link: the stream does not notice."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from benchmarks.simulated_streams import expected_latents, expected_pictures
from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.config import ClusterSection
from cluster.launch.launchers import launcher_for
from cluster.launch.link_server import LinkServer, LinkService
from cluster.launch.plan import LaunchPlan
from longtake.core.dispatch import orders
from longtake.core.effects import (
    Dispatch,
    Effect,
    Emit,
    EncodeText,
    Give,
    LoadImage,
    PrepareStream,
    Stow,
    Take,
    Worked,
)
from longtake.core.events import (
    Event,
    ImageFailed,
    Loaded,
    OpDone,
    Open,
    OpFailed,
    Stowed,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Flow, Pace
from longtake.core.limits import Limits
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.place import Place
from longtake.core.sessions.session import Session
from longtake.core.work import (
    Ability,
    ConditioningRef,
    DispatchNumber,
    ImageId,
    PageId,
    Role,
    SegmentSettings,
    SessionId,
    SlotId,
    Ticket,
    Work,
    WorkerId,
)
from tests.cluster.cell.world import PortsKept, expected_hashes
from tests.workers.model_dir import model_info, write_model
from workers.link.dial import WorkerLink
from workers.messages import Shutdown
from workers.models.api import Compute
from workers.start.loading import load_worker, model_digest
from workers.start.spec import WorkerSpec

PROMPT = "a red ball resting in the fog"
SEED = 7
BLOCKS = 5
SESSION = SessionId("s")
RAW = SegmentSettings(codec="raw", quality=0)
INFO = model_info()
DENOISE = (WorkerId("denoise-0"), WorkerId("denoise-1"))
DECODE = (WorkerId("decode-0"), WorkerId("decode-1"))
PAGES = 40
SLOTS = 3
WHOLE = Worker(WorkerJoined(now_s=0.0, worker=DENOISE[0], role=Role.DENOISE, ability=Ability(capacity=PAGES)))
"""Any worker that holds a whole model."""

Kind_ = TypeVar("Kind_", bound=Event)


class Hand(Scheduler):
    """Decides nothing: what the test orders is done, what happens is kept for it."""

    def __init__(self) -> None:
        super().__init__(INFO.recipe, INFO.geometry, Limits())
        self.orders: list[Effect] = []
        self.emit: Emit | None = None
        """What the next segment leaves as."""
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.done: tuple[Ticket, ...] = ()
        """What the op counts for that is reported next."""

    def handle(self, event: Event) -> list[Effect]:
        if not isinstance(event, Tick):
            self.events.put_nowait(event)
        orders, self.orders = self.orders, []
        if isinstance(event, OpDone):
            orders.insert(0, worked(event.worker, self.done))
        if isinstance(event, OpDone) and event.segment_bytes:
            assert self.emit is not None
            orders.append(self.emit)
        return orders


def worked(worker: WorkerId, tickets: tuple[Ticket, ...]) -> Worked:
    return Worked(worker=worker, ops=tickets, counted=tickets, batch=len(tickets), dispatched_s=0.0, seconds=0.0)


class Stage:
    """Two denoise workers, two decode workers, and one stream that wanders between them."""

    def __init__(self, engine: Engine, hand: Hand) -> None:
        self.engine = engine
        self._hand = hand
        self._outbox = Outbox()
        engine.attach(SESSION, self._outbox)
        self._sequences: Counter[WorkerId] = Counter()
        self._images = count()
        self._level = INFO.recipe.level
        tables = tuple(self._table(lane, 0) for lane in range(INFO.recipe.lane_count))
        place = Place(lanes=(DENOISE[0],) * len(tables), tables=tables, decoder=DECODE[0], slot=SlotId(0))
        request = Open(
            now_s=0.0, session=SESSION, prompt=PROMPT, seed=SEED, pace=Pace.FAST, window=4, picture_limit=None,
            settings=RAW,
        )  # fmt: skip
        self.session = Session(
            request=request, graph=Graph(INFO.recipe), geometry=INFO.geometry, place=place,
            flow=Flow(window=4, pace=Pace.FAST),
        )  # fmt: skip

    @staticmethod
    def _table(lane: int, move: int) -> PageTable:
        """Scattered pages, others than before the move."""
        size = INFO.recipe.page_count
        first = lane * size + (move % 2) * INFO.recipe.lane_count * size
        pages = [PageId(number) for number in range(first, first + size)]
        return PageTable(INFO.recipe.window, tuple(pages[move % size :][::-1] + pages[: move % size]))

    def order(self, *effects: Effect) -> None:
        """Have effects performed, in this order."""
        self._hand.orders += effects
        self.engine.submit(Tick(now_s=self.engine.now_s()))

    async def hear(self, kind: type[Kind_]) -> Kind_:
        """The next event of a kind; nothing may go wrong meanwhile."""
        while True:
            async with asyncio.timeout(60):
                event = await self._hand.events.get()
            if isinstance(event, kind):
                return event
            assert not isinstance(event, WorkerLost | OpFailed | ImageFailed), event

    async def begin(self) -> None:
        for _ in (*DENOISE, *DECODE):
            await self.hear(WorkerJoined)
        text = ConditioningRef(session=SESSION, version=0)
        self.order(EncodeText(worker=DECODE[0], conditioning=text, prompt=PROMPT))
        await self.hear(TextEncoded)
        self.order(PrepareStream(worker=DECODE[0], session=SESSION, slot=SlotId(0), settings=RAW))
        await self.hear(StreamPrepared)

    async def dispatch(self, worker: WorkerId, work: Work) -> OpDone:
        sequence = DispatchNumber(self._sequences[worker])
        self._sequences[worker] += 1
        self.order(Dispatch(worker=worker, sequence=sequence, work=work, attach_conditioning=(True,)))
        return await self.hear(OpDone)

    async def forward(self, kind: Kind, step: int, block: int) -> None:
        op = Op(kind, step, block)
        work = orders.forward_work(op, self.session, WHOLE)
        self._hand.done = (Ticket(SESSION, op),)
        await self.dispatch(self.session.place.lanes[step], (work,))

    async def block(self, number: int) -> tuple[str, bytes]:
        """Hash of the finished latents, and the segment."""
        for step in range(INFO.recipe.step_count):
            await self.forward(Kind.DENOISE, step, number)
            await self.forward(Kind.COMMIT, step, number)
        decode = orders.decode_work(Op(Kind.DECODE, 0, number), self.session)
        emit = Emit(session=SESSION, block=number, first_picture=0, picture_count=1, prompt_version=0, steps=4)
        self._hand.emit, finished = emit, sha256(self.engine.journal.latents(decode.latents)).hexdigest()
        await self.dispatch(self.session.place.decoder, decode)
        message = await self._outbox.get()
        assert isinstance(message, SegmentOut)
        return finished, message.data

    def image(self) -> ImageId:
        return ImageId(next(self._images))

    async def move_lane(self, lane: int, move: int, to: WorkerId) -> None:
        """By its four orders at once; the last one's answer counts."""
        place, image = self.session.place, self.image()
        origin, table = place.lanes[lane], self._table(lane, move)
        self.order(
            Stow(worker=origin, session=SESSION, image=image, source=place.tables[lane].pages),
            Give(worker=origin, session=SESSION, image=image, to=to),
            Take(worker=to, session=SESSION, image=image, origin=origin),
            LoadImage(worker=to, session=SESSION, image=image, target=table.pages),
        )
        assert (await self.hear(Loaded)).image == image
        self._place(lane, to, table)

    async def park_lane(self, lane: int, move: int, target: Callable[[tuple[PageId, ...]], tuple[PageId, ...]]) -> None:
        """Out of its pages and back into others of the same worker; `target` says where they are loaded."""
        place, image = self.session.place, self.image()
        worker, table = place.lanes[lane], self._table(lane, move)
        self.order(Stow(worker=worker, session=SESSION, image=image, source=place.tables[lane].pages))
        await self.hear(Stowed)
        self.order(LoadImage(worker=worker, session=SESSION, image=image, target=target(table.pages)))
        await self.hear(Loaded)
        self._place(lane, worker, table)

    def _place(self, lane: int, worker: WorkerId, table: PageTable) -> None:
        place = self.session.place
        lanes, tables = list(place.lanes), list(place.tables)
        lanes[lane], tables[lane] = worker, table
        self.session.place = replace(place, lanes=tuple(lanes), tables=tuple(tables))

    async def move_slot(self, move: int, to: WorkerId) -> None:
        place, image, slot = self.session.place, self.image(), SlotId(move % SLOTS)
        effects: list[Effect] = [Stow(worker=place.decoder, session=SESSION, image=image, source=place.slot)]
        if to != place.decoder:
            effects.append(Give(worker=place.decoder, session=SESSION, image=image, to=to))
            effects.append(Take(worker=to, session=SESSION, image=image, origin=place.decoder))
        self.order(*effects, PrepareStream(worker=to, session=SESSION, slot=slot, settings=RAW, image=image))
        await self.hear(StreamPrepared)
        self.session.place = replace(place, decoder=to, slot=slot)


def straight(pages: tuple[PageId, ...]) -> tuple[PageId, ...]:
    return pages


@asynccontextmanager
async def stage(
    model: Path, kind: Literal["in-process", "subprocess"] = "in-process", device: str = "cpu"
) -> AsyncIterator[Stage]:
    hand = Hand()
    engine = Engine(hand)
    sizes = [(Role.DENOISE, name, PAGES) for name in DENOISE] + [(Role.DECODE, name, SLOTS) for name in DECODE]
    workers = tuple(
        WorkerSpec(worker=name, role=role, capacity=capacity, model=model, compute=Compute(device=device))
        for role, name, capacity in sizes
    )
    launcher = launcher_for(LaunchPlan(cluster=ClusterSection(launch=kind), workers=workers), engine)
    made = Stage(engine, hand)
    running = asyncio.create_task(engine.run())
    await launcher.start()
    try:
        await made.begin()
        yield made
    finally:
        await launcher.stop()
        running.cancel()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, Level.OUTPUT)
    return folder


async def stays(model: Path, device: str = "cpu") -> list[tuple[str, bytes]]:
    """The stream when nothing moves."""
    async with stage(model, device=device) as made:
        return [await made.block(number) for number in range(BLOCKS)]


@pytest.fixture(scope="module")
def stayed(model: Path) -> list[tuple[str, bytes]]:
    """What `stays` shows, computed once."""
    return asyncio.run(stays(model))


async def wanders(model: Path, kind: Literal["in-process", "subprocess"], device: str) -> list[tuple[str, bytes]]:
    """The stream when everything moves after each block, the lanes in opposite directions at once."""
    shown = []
    seen: set[WorkerId] = set()
    async with stage(model, kind, device) as made:
        for number in range(BLOCKS):
            shown.append(await made.block(number))
            move = number + 1
            for lane in range(INFO.recipe.lane_count):
                if (lane + number) % 3 == 2:
                    await made.park_lane(lane, move, straight)
                else:
                    await made.move_lane(lane, move, DENOISE[(lane + move) % 2])
            await made.move_slot(move, DECODE[move // 2 % 2])
            seen |= {*made.session.place.lanes, made.session.place.decoder}
    assert seen == {*DENOISE, *DECODE}
    return shown


@pytest.mark.parametrize("kind", ["in-process", pytest.param("subprocess", marks=pytest.mark.slow)])
async def test_a_stream_whose_lanes_and_slot_wander_is_the_oracles(
    model: Path, stayed: list[tuple[str, bytes]], kind: Literal["in-process", "subprocess"]
) -> None:
    shown = await wanders(model, kind, "cpu")
    assert [sha for sha, _ in shown] == expected_hashes(model, {0: PROMPT}, SEED, BLOCKS)
    assert shown == stayed


@pytest.mark.parametrize("kind", ["in-process", "subprocess"])
async def test_simulated_workers_carry_images_as_the_others_do(
    model: Path, kind: Literal["in-process", "subprocess"]
) -> None:
    shown = await wanders(model, kind, "simulated:0ms")
    latents = islice(expected_latents(INFO, PROMPT, SEED), BLOCKS)
    assert [sha for sha, _ in shown] == [sha256(block).hexdigest() for block in latents]
    pictures = islice(expected_pictures(INFO, PROMPT, SEED), BLOCKS)
    assert [segment for _, segment in shown] == [block_FHWC.tobytes() for block_FHWC in pictures]


def exchanged(pages: tuple[PageId, ...]) -> tuple[PageId, ...]:
    """Two past pages in each other's place."""
    return (pages[0], pages[2], pages[1], *pages[3:])


def lost(pages: tuple[PageId, ...]) -> tuple[PageId, ...]:
    """One page is never filled."""
    return (pages[0], pages[0], *pages[2:])


@pytest.mark.parametrize(("wrong", "device"), [(exchanged, "cpu"), (exchanged, "simulated:0ms"), (lost, "cpu")])
async def test_a_page_that_is_exchanged_or_lost_shows_in_all_that_follows(
    model: Path, device: str, wrong: Callable[[tuple[PageId, ...]], tuple[PageId, ...]]
) -> None:
    right = [sha for sha, _ in await stays(model, device)]
    after = 3
    async with stage(model, device=device) as made:
        shown = [(await made.block(number))[0] for number in range(after)]
        await made.park_lane(0, 1, wrong)
        shown += [(await made.block(number))[0] for number in range(after, BLOCKS)]
    assert shown[:after] == right[:after]
    assert all(a != b for a, b in zip(shown[after:], right[after:], strict=True))


async def test_a_simulated_worker_refuses_to_read_a_lost_page(model: Path) -> None:
    async with stage(model, device="simulated:0ms") as made:
        for number in range(3):
            await made.block(number)
        await made.park_lane(0, 1, lost)
        with pytest.raises(AssertionError, match="is read before it was written"):
            await made.block(3)


async def test_a_link_that_breaks_leaves_no_image_and_no_thread_behind(model: Path) -> None:
    worker = DENOISE[0]
    spec = WorkerSpec(
        worker=worker, role=Role.DENOISE, capacity=PAGES, model=model, compute=Compute(device="simulated:0ms")
    )
    hand = Hand()
    engine = PortsKept(hand)
    made = Stage(engine, hand)
    server = LinkServer(LinkService(engine, token="secret", model_digest=model_digest(spec)))
    await server.start()
    before = set(threading.enumerate())
    running = asyncio.create_task(engine.run())
    serving = asyncio.create_task(WorkerLink(load_worker(spec), server.address, "secret").serve())
    try:
        await made.hear(WorkerJoined)
        order = Stow(worker=worker, session=SESSION, image=ImageId(1), source=(PageId(0),))
        made.order(order, replace(order, image=ImageId(2)))
        assert [(await made.hear(Stowed)).image for _ in range(2)] == [1, 2]
        made.order(LoadImage(worker=worker, session=SESSION, image=ImageId(1), target=(PageId(1),)))
        await made.hear(Loaded)
        engine.leave(worker, engine.ports[worker], "broken on purpose")
        await made.hear(WorkerLost)
        await made.hear(WorkerJoined)
        made.order(LoadImage(worker=worker, session=SESSION, image=ImageId(2), target=(PageId(1),)))
        assert "image 2 is not here" in (await made.hear(ImageFailed)).reason
        assert [thread.name for thread in set(threading.enumerate()) - before].count("images") == 1
        while not serving.done():  # on a starved machine it may just be dialling again, and is told then
            engine.broadcast(Shutdown())
            await asyncio.wait((serving,), timeout=0.5)
        await serving
        assert not {"images", "denoise worker"} & {thread.name for thread in set(threading.enumerate()) - before}
    finally:
        await server.stop()
        running.cancel()
