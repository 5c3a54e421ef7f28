"""How near streams over several workers come to the limit, through the real engine, link and scheduler.

python -m benchmarks.pipeline --workers 1 --workers 2                                  # the pocket model
python -m benchmarks.pipeline --simulated 60ms --workers 4 --workers 8 --streams 16   # workers that sleep
python -m benchmarks.pipeline --simulated 20ms --recipe clean --recipe two-step       # other recipes against the own

Theory of operation. A block costs `forwards` forwards (4 denoise and 4 commit ops at level OUTPUT with four steps), so
G workers finish at most G / (forwards t) blocks a second, however the ops are laid out. One stream alone can use only
as many workers as it has lanes, and its D(s,n) -> C(s,n) -> D(s,n+1) is a cycle: with k layer groups in a replica it
is at most forwards / (1 + 1/k) times as fast as on one worker, which is 4 for a worker that holds all layers (k = 1).
In general a lane is busy with its forwards of a block one after the other, and only the last of them overlaps with the
first of the next block, in a replica of several layer groups. Rates are those between the filling of the pipeline and
its emptying. Other recipes are measured on the same cell, by turns with the model's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Never, TypedDict, Unpack

import click
from tqdm import tqdm

from benchmarks.simulated_streams import small_pictures
from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.config import ClusterSection
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import POCKET, LaunchPlan, model_path
from longtake.core.effects import Closed, Refused
from longtake.core.errors import Declined, Unavailable
from longtake.core.events import Ack, Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, SegmentSettings, SessionId, WorkerId
from longtake.recipes import find_recipe
from workers.models import weights
from workers.models.api import Compute
from workers.models.weights import ModelInfo
from workers.simulated.device import is_simulated, parse_device
from workers.start.spec import WorkerSpec

PROMPT = "a red ball circling in the fog"
WINDOW = 8
FILL_BLOCKS = 2 * WINDOW
"""Blocks of each stream that are not counted, while the pipeline fills; nor are the last WINDOW, while it empties."""
LEAST_BLOCKS = FILL_BLOCKS + 2 * WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured: so many workers, and streams that all begin together."""

    workers: int
    streams: int
    blocks: int
    """Of each stream."""
    device: str
    launch: Literal["subprocess", "in-process"]
    model: Path
    straggler: float = 1.0
    """The last denoise worker takes this many times as long as the others (simulated devices only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one setup."""

    workers: int
    streams: int
    simulated: bool
    """The workers slept instead of computing."""
    blocks_per_s: float
    speedup: float
    """Against one worker with one stream; simulated: against 1 / (forwards t)."""
    bound: float
    """The most that speedup can be."""
    efficiency: float
    """Share of what all workers can do together: of G / (forwards t), where a straggler counts as 1 / straggler."""
    straggler: float
    """How many times as long as the others' the last worker's forwards took."""
    engine_cpu: float
    """CPU seconds of this process (engine, link, scheduler) a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRow:
    """Figures of one recipe on one setup: medians of the rounds."""

    recipe: str
    workers: int
    streams: int
    forwards_per_block: int
    blocks_per_s: float
    ratio: float
    """To the model's own recipe on the same cell."""
    expected: float
    """What that ratio is if both reach their limits, `speedup_bound` over the forwards of a block."""
    off: float
    """By what share the ratio differs from that."""


def speedup_bound(recipe: Recipe, *, workers: int, streams: int, layer_groups: int = 1) -> float:
    """The most that `streams` streams on `workers` replicas can be faster than one on one.

    forwards / (f - 1 + 1/k) for one stream whose lanes are on replicas of k = `layer_groups` layer groups each, where f
    are the forwards of a block in one lane (`scheduling_reliability` A1, recurrence bound); never more than there are
    devices.
    """
    forwards = Graph(recipe).forwards_per_block
    alone = forwards / (forwards / recipe.lane_count - 1 + 1 / layer_groups)
    return min(float(workers * layer_groups), streams * alone)


def specs_for(setup: Setup, recipe: Recipe, others: Sequence[NamedRecipe] = ()) -> tuple[WorkerSpec, ...]:
    """`setup.workers` denoise workers and a decode worker, with room for all streams wherever their lanes go."""
    label = "simulated-" if is_simulated(setup.device) else ""
    served = [recipe, *(each.recipe for each in others)]
    pages = setup.streams * max(each.lane_count * each.page_count for each in served)
    sizes = [(Role.DENOISE, number, pages) for number in range(setup.workers)] + [(Role.DECODE, 0, setup.streams)]
    return tuple(
        WorkerSpec(
            worker=WorkerId(f"{label}{role.value}-{number:02d}"),
            role=role,
            capacity=capacity,
            model=setup.model,
            compute=Compute(device=_device_of(setup, last=role is Role.DENOISE and number + 1 == setup.workers)),
            recipes=tuple(served[1:]),
        )
        for role, number, capacity in sizes
    )


def _device_of(setup: Setup, *, last: bool) -> str:
    if setup.straggler == 1.0 or not last:
        return setup.device
    return str(replace(parse_device(setup.device), factor=setup.straggler))


@contextlib.asynccontextmanager
async def running_engine(
    plan: LaunchPlan, info: ModelInfo, limits: Limits, recipes: Sequence[NamedRecipe] = ()
) -> AsyncIterator[Engine]:
    """An engine with its workers started as the plan says; streams may ask for `recipes` by name."""
    scheduler = Scheduler(info.recipe, info.geometry, limits)
    for each in recipes:
        scheduler.serve(each.name, each.recipe)
    engine = Engine(scheduler)
    launcher = launcher_for(plan, engine)
    running = asyncio.create_task(engine.run())
    try:
        await launcher.start()
        try:
            yield engine
        finally:
            await launcher.stop()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def stream(
    engine: Engine, number: int, pictures: int, bar: tqdm[Never], *, recipe: str = "", attempt: int = 0
) -> list[float]:
    """One stream, consumed at once; when each of its segments came (monotonic seconds)."""
    session, outbox, came_s = SessionId(f"stream-{number}-{recipe}-{attempt}"), Outbox(), list[float]()
    engine.attach(session, outbox)
    engine.submit(
        Open(
            now_s=engine.now_s(),
            session=session,
            prompt=PROMPT,
            seed=number,
            pace=Pace.FAST,
            window=WINDOW,
            picture_limit=pictures,
            settings=SegmentSettings(codec="raw", quality=0),
            cues=(),
            recipe=recipe,
        )
    )
    while True:
        match await outbox.get():
            case SegmentOut(emit=emit):
                came_s.append(time.monotonic())
                bar.update()
                engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
            case Refused(problem=problem):
                raise Declined(problem)
            case Closed(reason=reason):
                if len(came_s) == 0 or reason:
                    raise Unavailable(reason or "the stream ended before it began")
                return came_s
            case _:
                pass


def steady_rate(came_s: list[list[float]], fill_blocks: int, drain_blocks: int) -> float:
    """Blocks a second of all streams, from when all have shown `fill_blocks` until one has only `drain_blocks` left.

    At both ends streams run ahead by as much, so that no work done before counts, and none that is still to be done.
    """
    from_s = max(times[fill_blocks - 1] for times in came_s)
    until_s = min(times[-1 - drain_blocks] for times in came_s)
    blocks = sum(1 for times in came_s for time_s in times if from_s < time_s <= until_s)
    return blocks / (until_s - from_s)


async def blocks_per_s(setup: Setup, info: ModelInfo) -> tuple[float, float]:
    """Blocks a second of all streams together, and the CPU seconds that this process used for it a second."""
    plan = LaunchPlan(cluster=ClusterSection(launch=setup.launch), workers=specs_for(setup, info.recipe))
    limits = Limits(max_sessions=setup.streams, max_window=WINDOW)
    pictures = info.geometry.first_picture(setup.blocks)
    name, total = f"{setup.workers} workers, {setup.streams} streams", setup.streams * setup.blocks
    async with running_engine(plan, info, limits) as engine:
        with tqdm(total=total, desc=name, unit="block", leave=False, disable=None) as bar:
            began_s, began_cpu_s = time.monotonic(), _cpu_s()
            came_s = await asyncio.gather(*(stream(engine, n, pictures, bar) for n in range(setup.streams)))
            cpu = (_cpu_s() - began_cpu_s) / (time.monotonic() - began_s)
        engine.scheduler.check()
    return steady_rate(came_s, FILL_BLOCKS, WINDOW), cpu


async def rates_by_recipe(
    setup: Setup, info: ModelInfo, recipes: Sequence[NamedRecipe], *, rounds: int
) -> dict[str, list[float]]:
    """Blocks a second of all streams together, by recipe ("": the model's own), in rounds in which they take turns."""
    plan = LaunchPlan(cluster=ClusterSection(launch=setup.launch), workers=specs_for(setup, info.recipe, recipes))
    limits = Limits(max_sessions=setup.streams, max_window=WINDOW)
    plans = {"": info.recipe} | {each.name: each.recipe for each in recipes}
    found: dict[str, list[float]] = {name: [] for name in plans}
    async with running_engine(plan, info, limits, recipes) as engine:
        total = rounds * len(plans) * setup.streams * setup.blocks
        with tqdm(total=total, desc=f"{setup.workers} workers", unit="block", leave=False, disable=None) as bar:
            for attempt in range(rounds):
                for name, recipe in plans.items():
                    pictures = info.geometry.divided(recipe.blocks).first_picture(setup.blocks)
                    numbers = range(setup.streams)
                    streams = (stream(engine, n, pictures, bar, recipe=name, attempt=attempt) for n in numbers)
                    came_s = await asyncio.gather(*streams)
                    found[name].append(steady_rate(came_s, FILL_BLOCKS, WINDOW))
        engine.scheduler.check()
    return found


async def compare(
    setups: Sequence[Setup], info: ModelInfo, recipes: Sequence[NamedRecipe], *, rounds: int
) -> list[RecipeRow]:
    """The recipes against the model's own, on each setup."""
    rows = []
    for setup in setups:
        found = await rates_by_recipe(setup, info, recipes, rounds=rounds)
        own, own_limit = statistics.median(found[""]), _limit(setup, info.recipe)
        for name, recipe in {"": info.recipe, **{each.name: each.recipe for each in recipes}}.items():
            rate, expected = statistics.median(found[name]), _limit(setup, recipe) / own_limit
            rows.append(
                RecipeRow(
                    recipe=name or "own",
                    workers=setup.workers,
                    streams=setup.streams,
                    forwards_per_block=Graph(recipe).forwards_per_block,
                    blocks_per_s=round(rate, 3),
                    ratio=round(rate / own, 4),
                    expected=round(expected, 4),
                    off=round(rate / own / expected - 1, 4),
                )
            )
    return rows


def _limit(setup: Setup, recipe: Recipe) -> float:
    """The most blocks of equal forwards a setup can make in the time of one forward."""
    bound = speedup_bound(recipe, workers=setup.workers, streams=setup.streams)
    return bound / Graph(recipe).forwards_per_block


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(setups: list[Setup], info: ModelInfo) -> list[Row]:
    """Figures of every setup. On real workers the first must be one stream on one worker, which others are against."""
    device = setups[0].device
    simulated = is_simulated(device)
    alone = 1 / (Graph(info.recipe).forwards_per_block * parse_device(device).forward_s) if simulated else 0.0
    rows = []
    for setup in setups:
        rate, cpu = await blocks_per_s(setup, info)
        alone = alone or rate
        rows.append(
            Row(
                workers=setup.workers,
                streams=setup.streams,
                simulated=simulated,
                blocks_per_s=round(rate, 3),
                speedup=round(rate / alone, 3),
                straggler=setup.straggler,
                bound=speedup_bound(info.recipe, workers=setup.workers, streams=setup.streams),
                efficiency=round(rate / alone / (setup.workers - 1 + 1 / setup.straggler), 4),
                engine_cpu=round(cpu, 3),
            )
        )
    return rows


class _Asked(TypedDict):
    counts: tuple[int, ...]
    stream_counts: tuple[int, ...]
    blocks: int
    simulated: str | None
    straggler: float
    recipes: tuple[str, ...]
    rounds: int
    launch: Literal["subprocess", "in-process"]
    model: str
    as_json: bool


@click.command()
@click.option("--workers", "counts", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True)
@click.option("--streams", "stream_counts", multiple=True, type=click.IntRange(1), help="Default: 1; 4 for recipes.")
@click.option("--blocks", default=60, show_default=True, type=click.IntRange(LEAST_BLOCKS), help="Of each stream.")
@click.option("--simulated", help="Workers that sleep this long for a forward, such as 60ms.")
@click.option("--straggler", default=1.0, show_default=True, help="The last simulated worker is so many times slower.")
@click.option("--recipe", "recipes", multiple=True, help="Measure it against the model's own, by turns; repeatable.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Of recipes.")
@click.option("--launch", type=click.Choice(["subprocess", "in-process"]), default="subprocess", show_default=True)
@click.option("--model", default=POCKET, show_default=True, help="Model directory.")
@click.option("--json", "as_json", is_flag=True)
def main(**asked: Unpack[_Asked]) -> None:
    """Measure each number of workers with each number of streams against the limit G / (forwards t)."""
    simulated, recipes = asked["simulated"], asked["recipes"]
    if asked["straggler"] != 1.0 and (not simulated or recipes):
        raise click.UsageError("--straggler needs --simulated, and goes with no --recipe")
    path = model_path(asked["model"])
    with tempfile.TemporaryDirectory() as folder:
        device = "cpu"
        if simulated:
            device = str(parse_device(f"simulated:{simulated}"))
            weights.save_info(Path(folder), small_pictures(weights.load_info(path)))
            path = Path(folder)
        info = weights.load_info(path)
        stream_counts = asked["stream_counts"] or ((4,) if recipes else (1,))
        pairs = [(count, streams) for count in asked["counts"] for streams in stream_counts]
        if not simulated and not recipes and pairs[0] != (1, 1):
            pairs.insert(0, (1, 1))
        setups = [
            Setup(
                workers=count, streams=streams, blocks=asked["blocks"], device=device, launch=asked["launch"],
                model=path, straggler=asked["straggler"],
            )
            for count, streams in pairs
        ]  # fmt: skip
        if recipes:
            others = [find_recipe(name, field="--recipe") for name in recipes]
            compared = asyncio.run(compare(setups, info, others, rounds=asked["rounds"]))
            _show_recipes(compared, device, as_json=asked["as_json"])
            return
        rows = asyncio.run(measure(setups, info))
    if asked["as_json"]:
        click.echo(json.dumps(asdict(rows[-1]) | {"device": device, "rows": [asdict(row) for row in rows]}))
        return
    click.echo(f"device: {device}, {asked['launch']} workers, {asked['blocks']} blocks a stream")
    click.echo("workers  streams  blocks/s  speedup  bound  efficiency  engine CPU")
    for row in rows:
        click.echo(
            f"{row.workers:7d}  {row.streams:7d}  {row.blocks_per_s:8.2f}  {row.speedup:7.2f}  {row.bound:5.2f}"
            f"  {row.efficiency:10.1%}  {row.engine_cpu:10.2f}"
        )


def _show_recipes(rows: list[RecipeRow], device: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"device": device, "rows": [asdict(row) for row in rows]}))
        return
    click.echo(f"device: {device}\nworkers  streams  blocks/s  to the own  expected     off  recipe")
    for row in rows:
        click.echo(
            f"{row.workers:7d}  {row.streams:7d}  {row.blocks_per_s:8.2f}  {row.ratio:10.3f}  {row.expected:8.3f}"
            f"  {row.off:6.1%}  {row.recipe}"
        )


if __name__ == "__main__":
    main()
