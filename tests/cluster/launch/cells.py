"""An engine with workers of the test model that a launcher starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.cell.engine import Engine
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan
from cluster.launch.ray import RayLauncher
from cluster.launch.subprocesses import SubprocessLauncher
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, WorkerId
from tests.cluster.cell.world import Hashes
from tests.workers.model_dir import model_info
from workers.start.spec import WorkerSpec

INFO = model_info()


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
