"""A worker that never ends what it was given is given up though it beats, whatever that was, and its process ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.cell.engine import Engine
from cluster.launch.link_server import LinkServer, LinkService
from longtake.core.effects import Closed
from longtake.core.endings import Ending
from longtake.core.errors import Unavailable
from longtake.core.events import Pause, Play
from longtake.core.fleet import hangs
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Loss, Role, SessionId, WorkerId
from tests.cluster.cell.world import stream, until_attached
from tests.cluster.launch.dialling import Log
from tests.workers.model_dir import model_info
from workers import runner
from workers.decode import worker as decode_worker
from workers.decode.worker import DecodeWorker
from workers.images.host_memory import HostMemory
from workers.link import dial
from workers.link.dial import WorkerLink
from workers.models.weights import save_info
from workers.simulated.device import DevicePace, SimulatedDevice
from workers.simulated.workers import SimulatedModel

S = SessionId("s")
INFO = model_info()


class Device(DevicePace):
    """A device that hangs from some op on, until the test is over."""

    def __init__(self, lasts: int) -> None:
        super().__init__()
        self.lasts = lasts
        self.freed = threading.Event()

    def wait(self, began_s: float, lasting_s: float) -> None:
        super().wait(began_s, lasting_s)
        if self.ops > self.lasts:
            self.freed.wait()


def simulated(model: Path, name: str, role: Role, capacity: int) -> SimulatedModel:
    device = SimulatedDevice(forward_s=0.005, decode_s=0.005)
    return SimulatedModel(worker=WorkerId(name), role=role, capacity=capacity, model=model, device=device)


@dataclass
class Hung:
    """Somewhere in a worker, where the first that comes stays until the test is over."""

    freed: threading.Event = field(default_factory=threading.Event)
    came: bool = False

    def put_into(self, patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        """Hang there."""
        plain: Callable[..., object] = getattr(owner, name)

        def hanging(*arguments: object) -> object:
            if not self.came:
                self.came = True
                self.freed.wait()
            return plain(*arguments)

        patch.setattr(owner, name, hanging)


@dataclass
class Cell:
    """An engine with simulated workers on real links."""

    engine: Engine
    log: Log
    serving: dict[WorkerId, asyncio.Task[None]]


@asynccontextmanager
async def cell(
    folder: Path,
    freed: threading.Event,
    *,
    decoders: int = 1,
    limits: Limits | None = None,
    hung: Device | None = None,
) -> AsyncIterator[Cell]:
    """Two denoise workers, of which the second may have a device that hangs."""
    save_info(folder, INFO)
    pages = INFO.recipe.page_count * INFO.recipe.lane_count
    models = [simulated(folder, f"denoise-{number}", Role.DENOISE, pages) for number in range(2)]
    models += [simulated(folder, f"decode-{number}", Role.DECODE, 1) for number in range(decoders)]
    models[1].pace = hung or models[1].pace
    log = Log()
    engine = Engine(Scheduler(INFO.recipe, INFO.geometry, limits or Limits()), log)
    running = asyncio.create_task(engine.run())
    server = LinkServer(LinkService(engine, token="secret", model_digest=models[0].introduction.model_digest))
    await server.start()
    serving: dict[WorkerId, asyncio.Task[None]] = {}
    for loaded in models:
        link = WorkerLink(loaded, server.address, "secret")
        serving[loaded.introduction.worker] = asyncio.create_task(link.serve())
    try:
        await until_attached(engine, *serving)
        yield Cell(engine, log, serving)
    finally:
        freed.set()
        for task in serving.values():
            task.cancel()
        await asyncio.gather(*serving.values(), return_exceptions=True)
        await server.stop()
        running.cancel()
        for thread in threading.enumerate():
            if thread.name.endswith(" worker"):
                await asyncio.to_thread(thread.join)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody is waited for as long as usual."""
    for limit in ("LEAST_S", "ERRAND_S", "COPY_S"):
        monkeypatch.setattr(hangs, limit, 0.6)
    monkeypatch.setattr(dial, "END_S", 0.5)
    monkeypatch.setattr(runner, "COPY_S", 0.3)
    return monkeypatch


async def test_a_hung_worker_is_given_up_and_its_process_ends(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    hung = Device(lasts=100)
    async with cell(tmp_path, hung.freed, hung=hung) as here:
        streaming = asyncio.create_task(stream(here.engine, "s", picture_limit=None))
        lost = await here.log.lost()
        assert (lost.worker, lost.cause) == ("denoise-1", Loss.HANG)
        assert "has taken more than" in lost.reason
        with pytest.raises(Unavailable, match="denoise-1 is broken: its compute thread hangs"):
            await here.serving[lost.worker]
        assert [view.worker for view in here.engine.scheduler.workers()] == ["decode-0", "denoise-0"]
        streaming.cancel()


@pytest.mark.parametrize(
    ("owner", "name", "what"),
    [(DecodeWorker, "_prepare", "the preparation of a stream"), (decode_worker, "encoded", "a prompt")],
)
async def test_a_decoder_that_hangs_before_the_first_op_is_given_up_and_the_stream_begins_elsewhere(
    owner: object, name: str, what: str, tmp_path: Path, quick: pytest.MonkeyPatch
) -> None:
    hung = Hung()
    hung.put_into(quick, owner, name)
    async with cell(tmp_path, hung.freed, decoders=2) as here:
        streaming = asyncio.create_task(stream(here.engine, "s"))
        lost = await here.log.lost()
        assert (lost.worker.partition("-")[0], lost.cause) == ("decode", Loss.HANG)
        assert lost.reason == f"it hangs: {what} has taken more than 0.6 s"
        with pytest.raises(Unavailable, match=f"{lost.worker} is broken: its compute thread hangs"):
            await here.serving[lost.worker]
        told = await streaming
        assert isinstance(told[-1], Closed) and told[-1].ending is Ending.COMPLETED


async def test_a_worker_that_never_copies_a_lane_is_given_up_and_the_stream_comes_back(
    tmp_path: Path, quick: pytest.MonkeyPatch
) -> None:
    hung = Hung()
    hung.put_into(quick, HostMemory, "down")
    async with cell(tmp_path, hung.freed, limits=Limits(park_after_s=0.0)) as here:
        streaming = asyncio.create_task(stream(here.engine, "s", pace=Pace.REALTIME, picture_limit=100))
        await until(lambda: here.engine.scheduler.inspect(S).emitted > 1, here.engine)
        here.engine.submit(Pause(now_s=here.engine.now_s(), session=S))
        lost = await here.log.lost()
        assert (lost.worker.partition("-")[0], lost.cause) == ("denoise", Loss.HANG)
        assert "a copy of a stream's state has taken more than" in lost.reason
        with pytest.raises(Unavailable, match=f"{lost.worker} is broken: its thread for images hangs"):
            await here.serving[lost.worker]
        here.engine.submit(Play(now_s=here.engine.now_s(), session=S))
        told = await streaming
        assert isinstance(told[-1], Closed) and told[-1].ending is Ending.COMPLETED


async def until(condition: Callable[[], bool], engine: Engine) -> None:
    async with asyncio.timeout(20):
        while engine.scheduler.session(S) is None or not condition():
            await asyncio.sleep(0.01)
