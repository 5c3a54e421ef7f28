"""Launchers with real processes: the same results, killed workers come back, and no process stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from safetensors.torch import load_file, save_file

from cluster.cell.engine import Engine
from cluster.config import ClusterSection, parse_config
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan, plan_for
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, Unavailable
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Continuity, WorkerId
from tests.cluster.cell.world import expected_hashes, segments, stream, until_sent
from tests.cluster.launch.cells import INFO, LONG, LONG_BLOCKS, PROMPT, STRUCK_AT, Cell, cell, closed, specs
from tests.workers.model_dir import write_model
from workers.models import weights

OTHER = "a blue box swaying at night"
BLOCKS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def orphans(model: Path) -> list[int]:
    """Workers whose engine was killed: their patience runs out beside the tests until the last one looks at them."""
    script = f"""
import asyncio
from pathlib import Path
from cluster.config import ClusterSection
from cluster.launch.plan import LaunchPlan
from tests.cluster.launch.cells import Cell, specs

async def main() -> None:
    made = Cell(LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=specs(Path({str(model)!r}), denoise=1)))
    running = asyncio.create_task(made.engine.run())
    await made.launcher.start()
    print(*(await made.pids()).values(), flush=True)
    await running

asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as engine:
        assert engine.stdout is not None
        pids = [int(pid) for pid in engine.stdout.readline().split()]
        engine.kill()
    return pids


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def descendants() -> set[int]:
    """Process ids of all living processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


async def serve_alone_and_in_company(made: Cell) -> None:
    """Two streams at once, then the first alone again: always the oracle's latents."""
    await asyncio.gather(stream(made.engine, "a", PROMPT), stream(made.engine, "b", OTHER, seed=8))
    await stream(made.engine, "alone", PROMPT)
    expected = expected_hashes(made.model, {0: PROMPT}, 7, BLOCKS)
    assert made.hashes.of("a") == made.hashes.of("alone") == expected
    assert made.hashes.of("b") == expected_hashes(made.model, {0: OTHER}, 8, BLOCKS)


async def lose_a_decoder(made: Cell) -> None:
    """Kill -9 of one of two decode workers while each has a stream: nobody sees it in what the streams are sent."""
    whole = segments(await stream(made.engine, "whole", PROMPT, picture_limit=LONG))
    streams = {name: asyncio.create_task(stream(made.engine, name, PROMPT, picture_limit=LONG)) for name in "xy"}
    await until_sent(made.engine, STRUCK_AT, sessions=2)
    killed = (await made.pids())[WorkerId("decode-0")]
    os.kill(killed, signal.SIGKILL)
    for name, task in streams.items():
        told = await task
        assert closed(told).ending is Ending.COMPLETED
        assert segments(told) == whole
        assert made.hashes.of(name) == expected_hashes(made.model, {0: PROMPT}, 7, LONG_BLOCKS)
    assert made.hashes.recoveries("x") + made.hashes.recoveries("y") == [Continuity.EXACT], "one was there"
    await made.until_joined("decode-0")
    assert (await made.pids())[WorkerId("decode-0")] != killed
    made.engine.scheduler.check()
    assert all(worker.free == worker.ability.capacity for worker in made.engine.scheduler.workers())
    assert made.engine.journal.sessions == ()


async def lose_a_denoiser(made: Cell) -> None:
    """Kill -9 of a denoise worker amid a stream: its latents are the oracle's all the same; the worker comes back."""
    task = asyncio.create_task(stream(made.engine, "struck", PROMPT, picture_limit=LONG))
    await until_sent(made.engine, STRUCK_AT)
    os.kill((await made.pids())[WorkerId("denoise-1")], signal.SIGKILL)
    assert closed(await task).ending is Ending.COMPLETED
    assert made.hashes.of("struck") == expected_hashes(made.model, {0: PROMPT}, 7, LONG_BLOCKS)
    assert made.hashes.recoveries("struck") == [Continuity.EXACT]
    await made.until_joined("denoise-1")
    await stream(made.engine, "after", PROMPT)
    assert made.hashes.of("after") == expected_hashes(made.model, {0: PROMPT}, 7, BLOCKS)
    made.engine.scheduler.check()
    assert all(worker.free == worker.ability.capacity for worker in made.engine.scheduler.workers())


@pytest.mark.slow
async def test_subprocesses_give_the_oracles_latents_come_back_when_killed_and_end(model: Path) -> None:
    async with cell(
        LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=specs(model, denoise=2, decode=2))
    ) as made:
        await serve_alone_and_in_company(made)
        await lose_a_decoder(made)
        await lose_a_denoiser(made)
        pids = await made.pids()
        assert len(set(pids.values())) == 4
    assert not any(is_alive(pid) for pid in pids.values())


async def test_a_wrong_model_directory_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_model(tmp_path)
    held = load_file(tmp_path / weights.DIT_FILE)
    del held["head.head.bias"]
    save_file(held, tmp_path / weights.DIT_FILE)
    with pytest.raises(InvalidField, match=r"head.head.bias: None is not allowed; .* it is missing"):
        Cell(LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=specs(tmp_path, denoise=1)))


async def test_workers_that_cannot_start_are_reported(model: Path) -> None:
    plan = LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=specs(model, denoise=1))
    made = Cell(plan)
    (model / weights.INFO_FILE).rename(model / "hidden")
    try:
        with pytest.raises(Unavailable, match="ended while starting"):
            await made.launcher.start()
    finally:
        (model / "hidden").rename(model / weights.INFO_FILE)
    assert await made.pids() == {}


def test_the_plan_of_a_configuration_names_every_worker(model: Path) -> None:
    config = parse_config(
        {
            "model": {"path": str(model)},
            "cluster": {"launch": "subprocess", "denoise_workers": 3, "decode_workers": 2, "sessions_per_worker": 4},
        }
    )
    plan = plan_for(config, INFO)
    assert [spec.worker for spec in plan.workers] == ["denoise-0", "denoise-1", "denoise-2", "decode-0", "decode-1"]
    assert [spec.capacity for spec in plan.workers] == [4 * 3 * 5] * 3 + [4, 4]
    assert {spec.model for spec in plan.workers} == {model}
    assert plan.token not in repr(plan)
    assert plan_for(config, INFO).token != plan.token


@pytest.mark.parametrize("kind", ["subprocess", pytest.param("ray", marks=pytest.mark.ray)])
async def test_a_start_that_is_cancelled_leaves_no_process(model: Path, kind: Literal["subprocess", "ray"]) -> None:
    before = descendants()
    made = Cell(LaunchPlan(cluster=ClusterSection(launch=kind), workers=specs(model, denoise=1)))
    starting = asyncio.create_task(made.launcher.start())
    async with asyncio.timeout(30):
        while len(descendants() - before) < 2:
            await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await made.launcher.stop()
    assert not [pid for pid in descendants() - before if is_alive(pid)]
    assert ray_folders() == []
    logging.getLogger("ray").setLevel(logging.NOTSET)


def ray_folders() -> list[Path]:
    """What a Ray that this process started has left; its name ends in who did."""
    return list((Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray").glob(f"session_*_{os.getpid()}"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
async def test_ray_actors_give_the_oracles_latents_come_back_when_killed_and_end(model: Path) -> None:
    async with cell(LaunchPlan(cluster=ClusterSection(launch="ray"), workers=specs(model, denoise=2))) as made:
        await serve_alone_and_in_company(made)
        await lose_a_denoiser(made)  # an actor is an actor: of decoders it is shown with processes
        pids = await made.pids()
        assert len(set(pids.values())) == 3
        assert len(ray_folders()) == 1
    assert ray_folders() == [], "nothing of it is left"
    async with asyncio.timeout(10):
        while any(is_alive(pid) for pid in pids.values()):
            await asyncio.sleep(0.1)
    logging.getLogger("ray").setLevel(logging.NOTSET)


async def test_a_ray_that_is_not_there_is_named_at_once(model: Path) -> None:
    engine = Engine(Scheduler(INFO.recipe, INFO.geometry, Limits()))
    plan = LaunchPlan(cluster=ClusterSection(ray_address="127.0.0.1:1"), workers=specs(model, denoise=1))
    with pytest.raises(Unavailable, match=r"no Ray answers at 127\.0\.0\.1:1"):
        await launcher_for(plan, engine).start()


async def test_a_worker_whose_engine_vanishes_ends_by_itself(orphans: list[int]) -> None:
    """The engine's process is killed; its workers are nobody's children then."""
    assert len(orphans) == 2
    async with asyncio.timeout(40):
        while any(is_alive(pid) for pid in orphans):
            await asyncio.sleep(0.2)
