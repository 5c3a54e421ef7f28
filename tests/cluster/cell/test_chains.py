"""Replicas of several workers: the oracle's latents over any ranges of layers, and what the loss of a worker does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch

from benchmarks.tiny_model import write_tiny_model
from cluster.cell.engine import Engine
from cluster.cell.outbox import ClientMessage
from cluster.config import ClusterSection, parse_config
from cluster.launch import in_process
from cluster.launch.launchers import Launcher, launcher_for
from cluster.launch.plan import POCKET, LaunchPlan, model_path, plan_for, split
from cluster.launch.ray import RayLauncher
from cluster.launch.subprocesses import SubprocessLauncher
from longtake.core.effects import Closed, Dispatch, Effect
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField
from longtake.core.events import CueRequest, Event, OpFailed, WorkerJoined, WorkerLost
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.scheduler import Scheduler
from longtake.core.work import Continuity, CueId, DecodeWork, Role, WorkerId
from tests.cluster.cell.world import Hashes, drain, expected_hashes, segments, stream, until_sent
from tests.core.support.recipes import APART
from tests.identity.workers import OnePageSwapped, Ready
from tests.samples import covering
from workers.link.dial import Weights
from workers.models import weights
from workers.models.wan.dit import WanModel
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

PROMPT = "a red ball resting in the fog"
OTHER = "a blue box swaying at night"
BLOCKS = 5
SESSIONS = 6
LONG_BLOCKS = 32
STRUCK_AT = 16
"""A worker is lost after so many blocks: more than what it holds remembers."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Level, Path]:
    """A random model of four layers at every level."""
    folders: dict[Level, Path] = {level: tmp_path_factory.mktemp(level.value) for level in APART}
    for level, folder in folders.items():
        write_tiny_model(folder, level)
    return folders


@cache
def oracle(
    model: Path, prompt: str, seed: int, cues: tuple[tuple[int, str], ...] = (), blocks: int = BLOCKS
) -> list[str]:
    return expected_hashes(model, {0: prompt, **dict(cues)}, seed, blocks)


def specs(model: Path, *, length: int, replicas: int = 1, decode: int = 1) -> tuple[WorkerSpec, ...]:
    recipe = weights.load_info(model).recipe
    pages = SESSIONS * recipe.page_count * recipe.lane_count
    denoisers = [
        WorkerSpec(worker=WorkerId(f"denoise-{n}"), role=Role.DENOISE, capacity=pages, model=model, max_batch=4)
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

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        super().fold(event, effects)
        self.events.append(event)

    def losses(self, worker: str) -> list[str]:
        """Why a worker was lost, each time."""
        return [event.reason for event in self.events if isinstance(event, WorkerLost) and event.worker == worker]

    async def until_back(self, worker: str) -> None:
        """Wait until a worker has joined for the second time."""
        async with asyncio.timeout(60):
            while sum(isinstance(event, WorkerJoined) and event.worker == worker for event in self.events) < 2:
                await asyncio.sleep(0.02)


class Cell:
    """An engine with its workers started by a launcher."""

    def __init__(self, workers: tuple[WorkerSpec, ...], kind: Literal["ray", "subprocess", "in-process"]) -> None:
        self.model = workers[0].model
        self.info = weights.load_info(self.model)
        self.log = Log(self.info.recipe.step_count)
        self.engine = Engine(Scheduler(self.info.recipe, self.info.geometry, Limits()), self.log)
        self.log.listen(self.engine)
        self.launcher: Launcher = launcher_for(
            LaunchPlan(cluster=ClusterSection(launch=kind), workers=workers), self.engine
        )

    async def __aenter__(self) -> Cell:
        self._running = asyncio.create_task(self.engine.run())
        await self.launcher.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                async with asyncio.timeout(60):
                    await drain(self.engine)
        finally:
            await self.launcher.stop()
            self._running.cancel()

    @property
    def pictures(self) -> int:
        return self.info.geometry.first_picture(BLOCKS)

    @property
    def long_pictures(self) -> int:
        return self.info.geometry.first_picture(LONG_BLOCKS)

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


@pytest.mark.parametrize(("level", "length"), covering(APART, [4, 2], together=1))
async def test_every_block_is_the_oracles_over_any_ranges_of_layers(
    models: dict[Level, Path], level: Level, length: int
) -> None:
    async with Cell(specs(models[level], length=length), "in-process") as cell:
        await cell.serve_a_mix()
        assert max(cell.log.batches) > 1, "batches pass through a chain as well"
        (view,) = [view for view in cell.engine.scheduler.workers() if view.role is Role.DENOISE]
        assert (view.worker, view.ability.chain_length) == ("denoise-0", length)
        assert view.op_s > 0
        cell.engine.scheduler.check()


async def undisturbed(cell: Cell) -> list[bytes]:
    """The segments of a long stream that nothing befalls."""
    return segments(await cell.stream("whole", picture_limit=cell.long_pictures))


async def amid_a_stream(
    cell: Cell, name: str, whole: list[bytes], victim: str, strike: signal.Signals, *why: str
) -> None:
    """Have a worker lost amid a stream, for one of these reasons: latents and pictures are as if it had not been."""
    running = asyncio.create_task(cell.stream(name, picture_limit=cell.long_pictures))
    await until_sent(cell.engine, STRUCK_AT)
    os.kill((await cell.pids())[WorkerId(victim)], strike)
    replica = victim.partition(".")[0]
    async with asyncio.timeout(60):
        while not (lost := cell.log.losses(replica)):
            await asyncio.sleep(0.02)
    assert any(each in lost[-1] for each in why)
    if strike is signal.SIGSTOP:
        os.kill((await cell.pids())[WorkerId(victim)], signal.SIGCONT)
    told = await running
    assert closed(told).ending is Ending.COMPLETED
    assert segments(told) == whole
    assert cell.log.of(name) == oracle(cell.model, PROMPT, 7, blocks=LONG_BLOCKS)
    assert cell.log.recoveries(name) == [Continuity.EXACT]
    await cell.log.until_back(replica)
    cell.engine.scheduler.check()
    assert all(view.free == view.ability.capacity for view in cell.engine.scheduler.workers())


async def lose_one_of_a_chain(cell: Cell, whole: list[bytes], victim: str) -> None:
    """Kill -9 of one worker amid a stream, which goes on; the other workers stay, and the chain serves again."""
    before = await cell.pids()
    await amid_a_stream(cell, "struck", whole, victim, signal.SIGKILL, f"{victim}: it closed its link")
    await cell.serve_a_mix("-again")
    after = await cell.pids()
    assert {name for name in before if before[name] != after[name]} == {victim}


async def hang_one_of_a_chain(cell: Cell, whole: list[bytes], victim: str) -> None:
    """A worker that stops amid a stream is given up, those that wait for it too; all go on in the same processes."""
    before = await cell.pids()
    await amid_a_stream(cell, "hung", whole, victim, signal.SIGSTOP, f"{victim}: it was silent", "it hangs: dispatch")
    await cell.serve_a_mix("-after")
    assert await cell.pids() == before


@pytest.mark.slow
async def test_steps_and_layers_and_replicas_combine_and_chains_come_together_again(
    models: dict[Level, Path],
) -> None:
    """Real processes: two replicas of two workers, the lanes of each session spread over both."""
    async with Cell(specs(models[Level.OUTPUT], length=2, replicas=2), "subprocess") as cell:
        await cell.serve_a_mix()
        where: dict[str, set[str]] = {}
        for effect in cell.log.effects:
            if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork):
                for work in effect.work:
                    where.setdefault(work.session, set()).add(effect.worker)
        assert set(where) == set("abcd")
        assert all(workers == {"denoise-0", "denoise-1"} for workers in where.values())
        assert set(await cell.pids()) == {
            *(f"denoise-{replica}.{rank}of2" for replica in (0, 1) for rank in (1, 2)), "decode-0",
        }  # fmt: skip
        whole = await undisturbed(cell)
        await lose_one_of_a_chain(cell, whole, "denoise-0.1of2")
        await hang_one_of_a_chain(cell, whole, "denoise-1.2of2")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
async def test_a_chain_on_ray_has_a_placement_group_of_its_own_and_comes_together_again(
    models: dict[Level, Path],
) -> None:
    async with Cell(specs(models[Level.OUTPUT], length=2), "ray") as cell:
        assert isinstance(cell.launcher, RayLauncher)
        from ray.util import placement_group_table  # no sooner: what Ray reads when it is imported was set meanwhile

        groups = placement_group_table().values()
        assert sorted(len(group["bundles"]) for group in groups) == [1, 2], "one is the chain's"
        await cell.serve_a_mix()
        await lose_one_of_a_chain(cell, await undisturbed(cell), "denoise-0.2of2")
    logging.getLogger("ray").setLevel(logging.NOTSET)


async def test_an_op_that_fails_ends_its_session_and_the_chain_goes_on(models: dict[Level, Path]) -> None:
    """Features of a text too long for the model: all workers of the chain refuse them alike."""
    async with Cell(specs(models[Level.OUTPUT], length=2), "in-process") as cell:
        put = cell.engine.journal.put_conditioning
        width = 4 * cell.info.dit.text_dim

        def spoil(ref: object, data: bytes) -> None:
            spoiled = ref.session == "bad"  # type: ignore[attr-defined]
            put(ref, bytes(width * (cell.info.dit.text_len + 1)) if spoiled else data)  # type: ignore[arg-type]

        cell.engine.journal.put_conditioning = spoil  # type: ignore[method-assign]
        told = await asyncio.gather(cell.stream("bad"), cell.serve_a_mix())
        assert closed(told[0]).ending is Ending.FAILED
        assert "text has 9 rows" in closed(told[0]).reason
        assert [event for event in cell.log.events if isinstance(event, WorkerLost)] == []
        assert next(event.worker for event in cell.log.events if isinstance(event, OpFailed)) == "denoise-0"


async def test_workers_of_a_chain_that_disagree_are_given_up_and_the_stream_goes_on_with_another_chain(
    models: dict[Level, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker's device fails, once; nobody waits for what will not come."""
    run, strikes = WanModel.run, deque[RuntimeError]()

    def run_or_fail(self: WanModel, *arguments: object) -> torch.Tensor:
        if self.layers.start > 0:
            with contextlib.suppress(IndexError):  # of two threads that come here at once one takes it
                raise strikes.pop()
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(WanModel, "run", run_or_fail)
    async with Cell(specs(models[Level.OUTPUT], length=2, replicas=2), "in-process") as cell:
        running = asyncio.create_task(cell.stream("struck", picture_limit=cell.long_pictures))
        await until_sent(cell.engine, STRUCK_AT)
        strikes.append(RuntimeError("no memory"))
        assert closed(await running).ending is Ending.COMPLETED
        assert cell.log.of("struck") == oracle(cell.model, PROMPT, 7, blocks=LONG_BLOCKS)
        (lost,) = [event for event in cell.log.events if isinstance(event, WorkerLost)]
        assert lost.reason == f"{lost.worker}.2of2: RuntimeError: no memory"
        assert [view.worker for view in cell.engine.scheduler.workers() if view.worker == lost.worker] == []


@pytest.mark.parametrize("rank", [0, 1])
async def test_the_check_fails_if_one_page_of_one_worker_holds_what_another_should(
    models: dict[Level, Path], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit-identity is checked by these tests: swap two pages of one worker, and it is gone."""

    def load(spec: WorkerSpec) -> Weights:
        loaded = load_worker(spec)
        if spec.seat is None or spec.seat.rank != rank:
            return loaded
        return Ready(loaded.introduction, lambda: OnePageSwapped(loaded.fresh()), loaded.meeting_point)

    monkeypatch.setattr(in_process, "load_worker", load)
    async with Cell(specs(models[Level.OUTPUT], length=2), "in-process") as cell:
        await cell.stream("a")
        assert cell.log.of("a") != oracle(cell.model, PROMPT, 7)
        assert cell.log.of("a")[0] == oracle(cell.model, PROMPT, 7)[0]


async def test_the_pocket_model_in_unequal_ranges() -> None:
    """Its five layers do not divide; tests/identity has it in two ranges as well."""
    async with Cell(specs(model_path(POCKET), length=4), "in-process") as cell:
        await asyncio.gather(cell.stream("a"), cell.stream("b", OTHER, seed=8))
        assert cell.log.of("a") == oracle(cell.model, PROMPT, 7)
        assert cell.log.of("b") == oracle(cell.model, OTHER, 8)


def test_a_configuration_names_every_worker_of_every_chain(models: dict[Level, Path]) -> None:
    model = models[Level.OUTPUT]
    cluster = {"layer_split": 2, "denoise_workers": 2, "launch": "subprocess", "sessions_per_worker": 3}
    config = parse_config({"model": {"path": str(model)}, "cluster": cluster})
    plan = plan_for(config, weights.load_info(model))
    assert [(spec.worker, spec.replica, spec.capacity) for spec in plan.workers] == [
        ("denoise-0.1of2", "denoise-0", 108),
        ("denoise-0.2of2", "denoise-0", 108),
        ("denoise-1.1of2", "denoise-1", 108),
        ("denoise-1.2of2", "denoise-1", 108),
        ("decode-0", "decode-0", 3),
    ]


def test_a_chain_longer_than_the_model_is_refused_before_anything_starts(models: dict[Level, Path]) -> None:
    with pytest.raises(InvalidField, match=r"cluster\.layer_split: 5 is not allowed; allowed: 1 to 4 workers"):
        Cell(specs(models[Level.OUTPUT], length=5), "subprocess")
