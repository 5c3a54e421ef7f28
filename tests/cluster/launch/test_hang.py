"""A worker whose device never ends a forward is given up though it beats, and its process ends itself."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cluster.cell.engine import Engine
from cluster.launch.link_server import LinkServer, LinkService
from longtake.core.errors import Unavailable
from longtake.core.fleet import hangs
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Loss, Role, WorkerId
from tests.cluster.cell.world import stream, until_attached
from tests.cluster.launch.dialling import Log
from tests.workers.model_dir import model_info
from workers.link import dial
from workers.link.dial import WorkerLink
from workers.models.weights import save_info
from workers.simulated.device import DevicePace, SimulatedDevice
from workers.simulated.workers import SimulatedModel

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


async def test_a_hung_worker_is_given_up_and_its_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_info(tmp_path, INFO)
    monkeypatch.setattr(hangs, "LEAST_S", 0.6)
    monkeypatch.setattr(dial, "END_S", 0.5)
    pages = INFO.recipe.page_count * INFO.recipe.lane_count
    models = [simulated(tmp_path, f"denoise-{number}", Role.DENOISE, pages) for number in range(2)]
    models.append(simulated(tmp_path, "decode-0", Role.DECODE, 1))
    hung = models[1].pace = Device(lasts=100)
    log = Log()
    engine = Engine(Scheduler(INFO.recipe, INFO.geometry, Limits()), log)
    running = asyncio.create_task(engine.run())
    server = LinkServer(LinkService(engine, token="secret", model_digest=models[0].introduction.model_digest))
    await server.start()
    serving: list[asyncio.Task[object]] = []
    for loaded in models:
        serving.append(asyncio.create_task(WorkerLink(loaded, server.address, "secret").serve()))
    try:
        await until_attached(engine, *(loaded.introduction.worker for loaded in models))
        serving.append(asyncio.create_task(stream(engine, "s", picture_limit=None)))
        lost = await log.lost()
        assert (lost.worker, lost.cause) == ("denoise-1", Loss.HANG)
        assert "has taken more than" in lost.reason
        with pytest.raises(Unavailable, match="denoise-1 is broken: its compute thread hangs"):
            await serving[1]
        assert [view.worker for view in engine.scheduler.workers()] == ["decode-0", "denoise-0"]
    finally:
        hung.freed.set()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.stop()
        running.cancel()
        for thread in threading.enumerate():
            if thread.name.endswith(" worker"):
                await asyncio.to_thread(thread.join)
