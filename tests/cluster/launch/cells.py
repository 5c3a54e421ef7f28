"""An engine with workers of the test model that a launcher starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.cell.engine import Engine
from cluster.cell.outbox import ClientMessage
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan
from cluster.launch.ray import RayLauncher
from cluster.launch.subprocesses import SubprocessLauncher
from longtake.core.effects import Closed
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, WorkerId
from tests.cluster.cell.world import Hashes, drain
from tests.workers.model_dir import model_info
from workers.start.spec import WorkerSpec

INFO = model_info()
PROMPT = "a red ball resting in the fog"
LONG_BLOCKS = 40
LONG = INFO.geometry.first_picture(LONG_BLOCKS)
STRUCK_AT = 25
"""A worker is lost after so many blocks: more than what it holds remembers, for lanes and decoder slots."""


def specs(model: Path, *, denoise: int, decode: int = 1, sessions: int = 3) -> tuple[WorkerSpec, ...]:
    pages = sessions * INFO.recipe.page_count * INFO.recipe.lane_count
    sizes = [(Role.DENOISE, number, pages) for number in range(denoise)]
    sizes += [(Role.DECODE, number, sessions) for number in range(decode)]
    return tuple(
        WorkerSpec(worker=WorkerId(f"{role.value}-{number}"), role=role, capacity=capacity, model=model)
        for role, number, capacity in sizes
    )


class Cell:
    """An engine with its workers started by a launcher."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.model = plan.workers[0].model
        self.hashes = Hashes(INFO.recipe.step_count)
        self.engine = Engine(Scheduler(INFO.recipe, INFO.geometry, Limits()), self.hashes)
        self.hashes.listen(self.engine)
        self.launcher = launcher_for(plan, self.engine)

    async def pids(self) -> dict[WorkerId, int]:
        match self.launcher:
            case RayLauncher():
                return await self.launcher.pids()
            case SubprocessLauncher():
                return self.launcher.pids
            case _:
                return {}

    async def until_joined(self, worker: str) -> None:
        """Wait for a worker to be back."""
        async with asyncio.timeout(60):
            while worker not in [view.worker for view in self.engine.scheduler.workers()]:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def cell(plan: LaunchPlan) -> AsyncIterator[Cell]:
    made = Cell(plan)
    running = asyncio.create_task(made.engine.run())
    await made.launcher.start()
    try:
        yield made
        await drain(made.engine)
    finally:
        await made.launcher.stop()
        running.cancel()


def closed(told: list[ClientMessage]) -> Closed:
    """How a session ended."""
    assert isinstance(told[-1], Closed)
    return told[-1]
