"""Simulated workers through the real engine, link and launchers: every picture is the one computed by hand."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.pipeline import (
    LEAST_BLOCKS,
    Setup,
    blocks_per_s,
    compare,
    measure,
    running_engine,
    specs_for,
    speedup_bound,
    steady_rate,
)
from benchmarks.simulated_streams import expected_pictures, small_pictures
from cluster.cell.engine import Engine
from cluster.config import ClusterSection, parse_config
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan, plan_for
from cluster.launch.subprocesses import SubprocessLauncher
from cluster.serve import Ready, Stop, serve_until
from longtake.client import Client
from longtake.core.effects import Closed
from longtake.core.endings import Ending
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.table import NamedRecipe
from longtake.core.scheduler import Scheduler
from tests.cluster.cell.world import segments, stream, until_attached
from tests.core.support.recipes import APART
from tests.workers.model_dir import model_info
from workers.models.weights import ModelInfo, save_info

PROMPTS = ("a red ball resting in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
BLOCKS = 7


def setup(folder: Path, info: ModelInfo, **changes: object) -> Setup:
    save_info(folder, info)
    values: dict[str, object] = {
        "workers": 2, "streams": 3, "blocks": BLOCKS, "device": "simulated:1ms", "launch": "in-process",
        "model": folder,
    }  # fmt: skip
    return Setup(**(values | changes))  # type: ignore[arg-type]


def plan(made: Setup, info: ModelInfo) -> LaunchPlan:
    return LaunchPlan(cluster=ClusterSection(launch=made.launch), workers=specs_for(made, info.recipe))


async def pictures(engine: Engine, number: int, info: ModelInfo) -> list[bytes]:
    """Raw segments of one stream."""
    length = info.geometry.first_picture(BLOCKS)
    told = await stream(engine, f"s{number}", PROMPTS[number], seed=number, picture_limit=length, window=4)
    assert isinstance(told[-1], Closed)
    assert told[-1].ending is Ending.COMPLETED
    return segments(told)


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_every_picture_is_the_one_computed_by_hand(tmp_path: Path, level: Level, workers: int) -> None:
    info = model_info(level)
    made = setup(tmp_path, info, workers=workers)
    async with running_engine(plan(made, info), info, Limits()) as engine:
        shown = await asyncio.gather(*(pictures(engine, number, info) for number in range(3)))
    for number in range(3):
        expected = islice(expected_pictures(info, PROMPTS[number], number), BLOCKS)
        assert shown[number] == [block_FHWC.tobytes() for block_FHWC in expected]


async def test_workers_share_a_process_that_comes_back_when_it_is_killed(tmp_path: Path) -> None:
    info = small_pictures(model_info())
    made = setup(tmp_path, info, launch="subprocess", workers=4)
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()))
    launcher = launcher_for(plan(made, info), engine)
    assert isinstance(launcher, SubprocessLauncher)
    running = asyncio.create_task(engine.run())
    await launcher.start()
    try:
        first = await pictures(engine, 0, info)
        assert first == [block.tobytes() for block in islice(expected_pictures(info, PROMPTS[0], 0), BLOCKS)]
        pids = launcher.pids
        assert len(pids) == 5
        assert len(set(pids.values())) == 1
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        async with asyncio.timeout(60):
            while len(engine.scheduler.workers()) == 5 or len(launcher.pids) < 5:
                await asyncio.sleep(0.02)
            await until_attached(engine, *pids)
        assert launcher.pids.keys() == pids.keys()
        assert set(launcher.pids.values()).isdisjoint(pids.values())
        assert await pictures(engine, 0, info) == first
        engine.scheduler.check()
    finally:
        await launcher.stop()
        running.cancel()
    assert not launcher.pids


def test_workers_that_compute_and_workers_that_sleep_do_not_mix(tmp_path: Path) -> None:
    info = model_info()
    made = setup(tmp_path, info)
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()))
    real = specs_for(setup(tmp_path, info, device="cpu"), info.recipe)
    mixed = LaunchPlan(
        cluster=ClusterSection(launch="in-process"), workers=(*specs_for(made, info.recipe)[:1], *real[1:])
    )
    with pytest.raises(Contradiction, match="simulated"):
        launcher_for(mixed, engine)


def test_names_say_that_workers_are_simulated() -> None:
    config = parse_config({"model": {"device": "simulated:60ms"}})
    assert all(spec.worker.startswith("simulated-") for spec in plan_for(config, model_info()).workers)
    assert plan_for(parse_config({}), model_info()).workers[0].worker == "denoise-0"


@pytest.mark.parametrize("device", ["simulated:", "simulated:60ms,factor=0", "gpu"])
def test_a_configured_device_that_cannot_be_is_refused(device: str) -> None:
    with pytest.raises(InvalidField, match="simulated") as caught:
        parse_config({"model": {"device": device}})
    assert caught.value.field == "model.device"


async def test_clients_are_told_that_nothing_is_computed(tmp_path: Path) -> None:
    save_info(tmp_path, model_info())
    config = parse_config(
        {
            "model": {"path": str(tmp_path), "device": "simulated:1ms"},
            "cluster": {"launch": "in-process"},
            "listen": {"port": 0},
        }
    )
    stop, said = Stop(), asyncio.Queue[Ready]()
    serving = asyncio.create_task(serve_until(config, stop, say=said.put_nowait))
    ready = await asyncio.wait_for(said.get(), 60)
    async with Client(f"127.0.0.1:{ready.port}") as client:
        assert "simulated:1ms" in (await client.get_model()).name
        status = await client.get_status()
    assert all(worker.worker_id.startswith("simulated-") for worker in status.workers)
    assert "simulated:1ms" in str(ready)
    stop()
    await serving


# --- the benchmark ----------------------------------------------------------------------------------------------------


def test_bounds_are_those_of_the_recurrence() -> None:
    recipe = model_info().recipe  # three steps: six forwards
    assert speedup_bound(recipe, workers=1, streams=1) == 1
    assert speedup_bound(recipe, workers=3, streams=1) == 3
    assert speedup_bound(recipe, workers=8, streams=1) == 3
    assert speedup_bound(recipe, workers=8, streams=4) == 8
    assert speedup_bound(recipe, workers=3, streams=1, layer_groups=2) == 4


def test_the_steady_rate_leaves_fill_and_end_out() -> None:
    one, other = [0.0, 5.0, 6.0, 7.0, 8.0], [1.0, 5.5, 6.5, 7.5, 8.5]
    assert steady_rate([one], 2, 0) == pytest.approx(1.0)
    assert steady_rate([one, other], 2, 0) == pytest.approx(5 / 2.5)
    assert steady_rate([one, other], 2, 1) == pytest.approx(3 / 1.5)


async def test_three_workers_make_one_stream_faster_than_one_ever_could(tmp_path: Path) -> None:
    info = small_pictures(model_info())
    made = setup(tmp_path, info, workers=3, streams=1, blocks=LEAST_BLOCKS, device="simulated:20ms")
    (row,) = await measure([made], info)
    assert row.simulated
    assert row.bound == 3
    assert 1 < row.speedup <= 3.05  # how near it comes to 3 depends on who else wants the CPU
    assert row.efficiency == pytest.approx(row.speedup / 3, abs=1e-3)


def test_other_recipes_are_bounded_by_their_lanes() -> None:
    """CLEAN has one lane; at INPUT a forward may follow the last one of its step at once, half apart in two groups."""
    clean, given = model_info(Level.CLEAN).recipe, model_info(Level.INPUT).recipe
    assert [speedup_bound(clean, workers=workers, streams=1) for workers in (1, 4)] == [1, 1]
    assert speedup_bound(clean, workers=4, streams=2) == 2
    assert speedup_bound(given, workers=8, streams=1) == 3
    assert speedup_bound(given, workers=3, streams=1, layer_groups=2) == 6


async def test_recipes_take_turns_on_one_cell_and_are_told_against_the_own_one(tmp_path: Path) -> None:
    info = small_pictures(model_info())  # three steps at level OUTPUT: six forwards
    named = [NamedRecipe(name=level.value, recipe=model_info(level).recipe) for level in (Level.CLEAN, Level.INPUT)]
    made = setup(tmp_path, info, workers=2, streams=2, blocks=LEAST_BLOCKS, device="simulated:10ms")
    rows = await compare([made], info, named, rounds=1)
    assert [(row.recipe, row.forwards_per_block) for row in rows] == [("own", 6), ("clean", 4), ("input", 3)]
    assert [row.expected for row in rows] == [1, 1.5, 2]
    for row in rows:  # how near they come depends on who else wants the CPU
        assert row.ratio == pytest.approx(row.expected, rel=0.25), row
        assert row.off == pytest.approx(row.ratio / row.expected - 1, abs=1e-3)


async def test_a_straggler_shows(tmp_path: Path) -> None:
    info = small_pictures(model_info())
    made = setup(tmp_path, info, workers=1, streams=1, blocks=LEAST_BLOCKS, device="simulated:10ms", straggler=2.0)
    assert [spec.compute.device for spec in specs_for(made, info.recipe)] == [
        "simulated:10ms,factor=2",
        "simulated:10ms",
    ]
    rate, _ = await blocks_per_s(made, info)
    assert rate < 1 / (6 * 0.02) * 1.02
