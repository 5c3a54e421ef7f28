"""Replicas of several workers: the oracle's latents over any ranges of layers, and what the loss of a worker does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch

from benchmarks.tiny_model import write_tiny_model
from cluster.chains import Chains
from cluster.config import parse_config
from cluster.engine import Engine
from cluster.launch import LaunchPlan, Launcher, launcher_for, plan_for, split
from cluster.outbox import ClientMessage
from cluster.ray_launcher import RayLauncher
from cluster.subprocesses import SubprocessLauncher
from longtake.core.admission import Limits
from longtake.core.effects import Closed, Dispatch
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.events import CueRequest, Ending, Event, OpDone, OpFailed, WorkerJoined, WorkerLost
from longtake.core.recipe import Level
from longtake.core.scheduler import Scheduler
from longtake.core.work import CueId, DecodeWork, Role, WorkerId
from tests.cluster.world import Hashes, expected_hashes, stream
from tests.workers.model_dir import write_model
from workers import layer_split
from workers.models import weights
from workers.spec import WorkerSpec

PROMPT = "a red ball resting in the fog"
OTHER = "a blue box swaying at night"
BLOCKS = 5
SESSIONS = 6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Level, Path]:
    """A random model of four layers at every level."""
    folders = {level: tmp_path_factory.mktemp(level.value) for level in Level}
    for level, folder in folders.items():
        write_tiny_model(folder, level)
    return folders


@cache
def oracle(model: Path, prompt: str, seed: int, cues: tuple[tuple[int, str], ...] = ()) -> list[str]:
    return expected_hashes(model, {0: prompt, **dict(cues)}, seed, BLOCKS)


def specs(model: Path, *, length: int, replicas: int = 1, decode: int = 1, max_batch: int = 4) -> tuple[WorkerSpec, ...]:
    recipe = weights.load_info(model).recipe
    pages = SESSIONS * recipe.page_count * recipe.lane_count
    denoisers = [
        WorkerSpec(
            worker=WorkerId(f"denoise-{n}"), role=Role.DENOISE, capacity=pages, model=model, max_batch=max_batch
        )
        for n in range(replicas)
    ]
    decoders = [
        WorkerSpec(worker=WorkerId(f"decode-{n}"), role=Role.DECODE, capacity=SESSIONS, model=model)
        for n in range(decode)
    ]
    return (*(part for spec in denoisers for part in split(spec, length)), *decoders)


class Log(Hashes):
    """Hashes, and all events."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.events: list[Event] = []

    def fold(self, event: Event, effects: list[object]) -> None:  # type: ignore[override]
        super().fold(event, effects)  # type: ignore[arg-type]
        self.events.append(event)

    async def until(self, kind: type[Event], worker: str, count: int) -> Event:
        """The `count`th event of this kind about a worker."""
        async with asyncio.timeout(60):
            while True:
                found = [event for event in self.events if isinstance(event, kind) and event.worker == worker]  # type: ignore[union-attr]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.02)


class Cell:
    """An engine with its workers started by a launcher."""

    def __init__(self, workers: tuple[WorkerSpec, ...], kind: Literal["ray", "subprocess", "in-process"]) -> None:
        self.model = workers[0].model
        self.info = weights.load_info(self.model)
        self.log = Log(self.info.recipe.step_count)
        self.engine = Engine(Scheduler(self.info.recipe, self.info.geometry, Limits()), self.log)
        self.launcher: Launcher = launcher_for(LaunchPlan(kind=kind, workers=workers), self.engine)

    async def __aenter__(self) -> Cell:
        self._running = asyncio.create_task(self.engine.run())
        await self.launcher.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                async with asyncio.timeout(60):
                    await self.engine.drain()
        finally:
            await self.launcher.stop()
            self._running.cancel()

    @property
    def pictures(self) -> int:
        return self.info.geometry.first_picture(BLOCKS)

    async def stream(self, name: str, prompt: str = PROMPT, **changes: object) -> list[ClientMessage]:
        return await stream(self.engine, name, prompt, **({"picture_limit": self.pictures} | changes))  # type: ignore[arg-type]

    async def pids(self) -> dict[WorkerId, int]:
        if isinstance(self.launcher, RayLauncher):
            return await self.launcher.pids()
        assert isinstance(self.launcher, SubprocessLauncher)
        return self.launcher.pids

    async def serve_a_mix(self, tag: str = "") -> None:
        """Streams in company, with equal and other prompts and a cue: always the oracle's latents."""
        cue = CueRequest(cue=CueId("c"), prompt=OTHER, block=2)
        await asyncio.gather(
            self.stream(f"a{tag}"),
            self.stream(f"b{tag}", OTHER, seed=8),
            self.stream(f"c{tag}", cues=(cue,), seed=9),
            self.stream(f"d{tag}", seed=2**64 - 1),
        )
        assert self.log.of(f"a{tag}") == oracle(self.model, PROMPT, 7)
        assert self.log.of(f"b{tag}") == oracle(self.model, OTHER, 8)
        assert self.log.of(f"c{tag}") == oracle(self.model, PROMPT, 9, ((2, OTHER),))
        assert self.log.of(f"d{tag}") == oracle(self.model, PROMPT, 2**64 - 1)


def closed(told: list[ClientMessage]) -> Closed:
    assert isinstance(told[-1], Closed)
    return told[-1]


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("length", [2, 4])
async def test_every_block_is_the_oracles_over_any_ranges_of_layers(
    models: dict[Level, Path], level: Level, length: int
) -> None:
    async with Cell(specs(models[level], length=length), "in-process") as cell:
        await cell.serve_a_mix()
        assert max(cell.log.batches) > 1, "batches pass through a chain as well"
        (view,) = [view for view in cell.engine.scheduler.workers() if view.role is Role.DENOISE]
        assert (view.worker, view.chain_length) == ("denoise-0", length)
        assert view.op_s > 0
        cell.engine.scheduler.check()
