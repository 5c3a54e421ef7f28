"""Pictures a second of several sessions together, against programs that serve each alone: same weights, same cores.

python -m benchmarks.sessions --sessions 8 --model tiny --json

Longtake here is the real engine with its workers as processes of their own, as many of each role as is asked for. The
alternatives (benchmarks.alone) make the same bytes, which is checked, with the same kernels on one thread a process:
(a) a process for each session, (b) one process for each core, whose resident model its sessions share by turns, a block
at a time. All are held to the same cores, have their weights loaded before the clock starts, and take turns; each
figure is the median of its repetitions.

`engine_cpu_share` is the part of Longtake's CPU time that is spent elsewhere than in the compute threads of its
workers: engine, scheduler, journal and both ends of every link.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.alone import Processes, Request
from benchmarks.process_use import thread_cpu_s
from benchmarks.tiny_model import write_tiny_model
from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.config import ClusterSection
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import LaunchPlan, model_path
from cluster.launch.subprocesses import SubprocessLauncher
from cluster.render import in_process_workers
from longtake.core.effects import Closed, Dispatch, Effect, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Declined, InternalFault
from longtake.core.events import Ack, Event, Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.scheduler import Scheduler
from longtake.core.work import DecodeWork, Role, SegmentSettings, SessionId
from workers.models import weights

PROMPTS = (
    "a red ball circling in the fog",
    "a blue box swaying at night",
    "a green ring bobbing at dusk",
    "a yellow triangle pulsing in the snow",
)
_WINDOW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over the repetitions for one number of sessions."""

    model: str
    cores: int
    denoise_workers: int
    decode_workers: int
    batch_limits: list[int]
    """Of each denoise worker, by its own start-up probe."""
    sessions: int
    frames_per_s: float
    """Pictures a second, all sessions together."""
    alternatives: dict[str, float]
    """The same of the alternatives."""
    ratio: float
    """Longtake to the best of them."""
    cpu_ratio: float
    """The same of pictures for a CPU second; the cores need not be free of other work for it."""
    engine_cpu_share: float
    mean_batch: float
    """Ops in a forward."""


@dataclass(frozen=True, slots=True)
class _Took:
    """Time of all streams together."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One repetition of Longtake."""

    took: _Took
    engine_cpu_share: float
    mean_batch: float


class _BatchSizes:
    """A recorder that counts forwards and their ops."""

    def __init__(self) -> None:
        self.forwards = 0
        self.ops = 0

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.recorder.Recorder."""
        for effect in effects:
            if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork):
                self.forwards += 1
                self.ops += len(effect.work)


class Cell:
    """A running Longtake: the engine here, its workers in processes of their own."""

    def __init__(self, engine: Engine, geometry: Geometry, launcher: SubprocessLauncher, sizes: _BatchSizes) -> None:
        self._engine = engine
        self._geometry = geometry
        self._launcher = launcher
        self._sizes = sizes

    @property
    def batch_limits(self) -> list[int]:
        """Of each denoise worker."""
        return [view.ability.batch_limit for view in self._engine.scheduler.workers() if view.role is Role.DENOISE]

    async def make(self, requests: Sequence[Request], settings: SegmentSettings) -> tuple[_Run, list[str]]:
        """Make all streams at once; the SHA-256 of each one's segments."""
        ops, forwards = self._sizes.ops, self._sizes.forwards
        before, began_s = self._cpu_s(), time.perf_counter()
        digests = await asyncio.gather(*(self._stream(n, request, settings) for n, request in enumerate(requests)))
        wall_s, after = time.perf_counter() - began_s, self._cpu_s()
        engine_s = after[0][0] - before[0][0]
        for old, new in zip(before[1:], after[1:], strict=True):
            spent_s = [cpu_s - old.get(thread, 0.0) for thread, cpu_s in new.items()]
            engine_s += sum(spent_s) - max(spent_s)  # the busiest thread is the one that computes
        total_s = sum(sum(threads.values()) for threads in after) - sum(sum(threads.values()) for threads in before)
        mean_batch = (self._sizes.ops - ops) / (self._sizes.forwards - forwards)
        run = _Run(took=_Took(wall_s, total_s), engine_cpu_share=engine_s / total_s, mean_batch=mean_batch)
        return run, list(digests)

    def _cpu_s(self) -> list[dict[int, float]]:
        """CPU seconds so far: of this process as one (0), then of each worker by thread."""
        return [{0: time.process_time()}, *(thread_cpu_s(pid) for _, pid in sorted(self._launcher.pids.items()))]

    async def _stream(self, number: int, request: Request, settings: SegmentSettings) -> str:
        engine, session, outbox = self._engine, SessionId(f"s{number}"), Outbox()
        engine.attach(session, outbox)
        engine.submit(
            Open(
                now_s=engine.now_s(),
                session=session,
                prompt=request.prompt,
                seed=request.seed,
                pace=Pace.FAST,
                window=_WINDOW,
                picture_limit=self._geometry.first_picture(request.blocks),
                settings=settings,
            )
        )
        digest = hashlib.sha256()
        while True:
            match await outbox.get():
                case SegmentOut(emit=emit, data=data):
                    digest.update(data)
                    engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
                case Closed(ending=Ending.COMPLETED):
                    return digest.hexdigest()
                case Closed(reason=reason):
                    raise InternalFault(f"session {session} did not complete: {reason}")
                case Refused(problem=problem):
                    raise Declined(problem)
                case _:
                    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    name: str
    model: Path
    counts: tuple[int, ...]
    """Numbers of sessions."""
    blocks: int
    repeat: int
    cores: int
    denoise_workers: int
    decode_workers: int
    max_batch: int
    settings: SegmentSettings

    def requests(self, count: int) -> list[Request]:
        """The streams of `count` sessions."""
        return [Request(prompt=PROMPTS[n % len(PROMPTS)], seed=n, blocks=self.blocks) for n in range(count)]


@asynccontextmanager
async def running_cell(plan: Plan) -> AsyncIterator[Cell]:
    """Longtake with room for the most sessions that are planned."""
    model, sessions = plan.model, max(plan.counts)
    info, sizes = weights.load_info(model), _BatchSizes()
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits(max_sessions=sessions)), sizes)
    workers = in_process_workers(
        model,
        info.recipe,
        denoise=plan.denoise_workers,
        decode=plan.decode_workers,
        sessions=sessions,
        max_batch=plan.max_batch,
    )
    launcher = launcher_for(LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=workers), engine)
    assert isinstance(launcher, SubprocessLauncher)
    running = asyncio.create_task(engine.run())
    await launcher.start()
    try:
        yield Cell(engine, info.geometry, launcher, sizes)
    finally:
        await launcher.stop()
        running.cancel()


async def measure(plan: Plan) -> list[Row]:
    """All figures; InternalFault if an alternative makes other bytes than Longtake."""
    most = max(plan.counts)
    with closing(Processes(plan.model, plan.settings, count=max(most, plan.cores), streams=most)) as processes:
        async with running_cell(plan) as cell:
            await _once(plan, cell, processes, 1)  # what is made on first use
            rounds = []
            for number in range(plan.repeat):
                rounds.append([await _once(plan, cell, processes, count) for count in plan.counts])
                click.echo(f"round {number + 1} of {plan.repeat} done", err=True)
            limits = cell.batch_limits
    return [
        _row(plan, limits, count, list(runs))
        for count, runs in zip(plan.counts, zip(*rounds, strict=True), strict=True)
    ]


async def _once(plan: Plan, cell: Cell, processes: Processes, count: int) -> tuple[_Run, dict[str, _Took]]:
    """Longtake and the alternatives, one after the other."""
    requests = plan.requests(count)
    run, digests = await cell.make(requests, plan.settings)
    dealt = min(plan.cores, count)
    shares = {
        "process_per_session": [[request] for request in requests],
        "time_slicing": [requests[first::dealt] for first in range(dealt)],
    }
    took = {}
    for name, share in shares.items():
        began_s, cpu_s = time.perf_counter(), processes.cpu_s()
        made = await asyncio.to_thread(processes.make, share)
        took[name] = _Took(time.perf_counter() - began_s, processes.cpu_s() - cpu_s)
        if sorted(digest for part in made for digest in part) != sorted(digests):
            raise InternalFault(f"{name} made other bytes than Longtake")
    return run, took


def _row(plan: Plan, limits: list[int], count: int, runs: list[tuple[_Run, dict[str, _Took]]]) -> Row:
    pictures = count * weights.load_info(plan.model).geometry.first_picture(plan.blocks)
    ours = pictures / statistics.median(run.took.wall_s for run, _ in runs)
    theirs = {name: pictures / statistics.median(took[name].wall_s for _, took in runs) for name in runs[0][1]}
    cpu_s = statistics.median(run.took.cpu_s for run, _ in runs)
    least_cpu_s = min(statistics.median(took[name].cpu_s for _, took in runs) for name in theirs)
    return Row(
        model=plan.name,
        cores=plan.cores,
        denoise_workers=plan.denoise_workers,
        decode_workers=plan.decode_workers,
        batch_limits=limits,
        sessions=count,
        frames_per_s=round(ours, 1),
        alternatives={name: round(value, 1) for name, value in theirs.items()},
        ratio=round(ours / max(theirs.values()), 3),
        cpu_ratio=round(least_cpu_s / cpu_s, 3),
        engine_cpu_share=round(statistics.median(run.engine_cpu_share for run, _ in runs), 4),
        mean_batch=round(statistics.median(run.mean_batch for run, _ in runs), 2),
    )


def _show(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
        return
    first = rows[0]
    workers = f"{first.denoise_workers} denoise and {first.decode_workers} decode workers"
    click.echo(f"model {first.model}, {first.cores} cores, {workers}, batch limits {first.batch_limits}")
    click.echo("sessions  pictures/s  process each  time slicing  ratio  of CPU  mean batch  engine CPU")
    for row in rows:
        each, slicing = row.alternatives["process_per_session"], row.alternatives["time_slicing"]
        click.echo(
            f"{row.sessions:8d}  {row.frames_per_s:10.1f}  {each:12.1f}  {slicing:12.1f}  {row.ratio:5.2f}"
            f"  {row.cpu_ratio:6.2f}  {row.mean_batch:10.2f}  {row.engine_cpu_share:10.1%}"
        )


@click.command()
@click.option("--sessions", "counts", multiple=True, type=int, default=(1, 2, 4, 8), show_default=True)
@click.option("--model", "name", default="pocket", show_default=True, help="pocket, tiny (random) or a directory.")
@click.option("--blocks", default=20, show_default=True, help="Length of each stream.")
@click.option("--repeat", default=5, show_default=True)
@click.option("--cores", default=2, show_default=True, help="Cores that everything is held to.")
@click.option("--denoise-workers", default=1, show_default=True)
@click.option("--decode-workers", default=2, show_default=True)
@click.option("--max-batch", default=ClusterSection().max_batch, show_default=True)
@click.option("--codec", default="raw", show_default=True, type=click.Choice(["raw", "mjpeg", "h264"]))
@click.option("--json", "as_json", is_flag=True, help="One object for each number of sessions.")
def main(counts: tuple[int, ...], name: str, cores: int, codec: str, as_json: bool, **sizes: int) -> None:
    """Measure sessions together. Longtake and the alternatives take turns, so that a noisy machine treats all alike."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    quality = {"raw": 0, "mjpeg": 90, "h264": 23}[codec]
    with tempfile.TemporaryDirectory() as scratch:
        if name == "tiny":
            write_tiny_model(Path(scratch))
        plan = Plan(
            name=name,
            model=Path(scratch) if name == "tiny" else model_path(name),
            counts=counts,
            cores=cores,
            settings=SegmentSettings(codec=codec, quality=quality),
            **sizes,
        )
        _show(asyncio.run(measure(plan)), as_json=as_json)


if __name__ == "__main__":
    main()
