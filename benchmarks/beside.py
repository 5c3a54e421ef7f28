"""Live streams beside a rebuild: whether the loss of a worker makes segments late of streams that had nothing with it.

python -m benchmarks.beside --losses 8

Simulated devices (workers that sleep), the real engine, scheduler, link and gRPC front end; each live stream has all
its lanes on one denoise worker and its slot on one decode worker. The links of workers are cut, one after the other;
each time the load is looked at, and what clients saw in the seconds after: those whose streams the worker had
something of, and all others. A worker that was cut off dials in again with nothing. A client shows its first picture
one block after it came, so it can bear a delay of a block; a segment that comes after its time is late. The exit
status says whether none of the others was.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.chaos_report import Say, say_json, say_text
from benchmarks.playback import Playback
from benchmarks.simulated_streams import small_pictures
from cluster.cell.engine import Engine
from cluster.config import parse_config
from cluster.frontend.offer import offer_for
from cluster.frontend.server import FrontendServer
from cluster.launch.launchers import launcher_for
from cluster.launch.plan import POCKET, model_path, plan_for
from longtake.client import Client, StreamOptions
from longtake.client.events import SegmentEvent
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, SessionId, WorkerId
from workers.models import weights
from workers.models.weights import ModelInfo

PROMPT = "a red ball circling in the fog"
WINDOW = 4
WARM_UP_S = 12.0
LOOK_S = 10.0
"""So long after a loss is looked at; what was lost is back long before."""
DURING_S = 2.0
"""So long after a loss its rebuild goes on, at least."""
_LOOK_S = 0.1


class CutEngine(Engine):
    """An engine whose links can be cut."""

    def cut(self, worker: WorkerId) -> None:
        """The link of a worker breaks."""
        self.leave(worker, self._workers[worker].port, "it was cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is served, and to how many."""

    streams: int
    workers: int
    """Of each role."""
    device: str
    losses: int
    seed: int


@contextlib.asynccontextmanager
async def running_cell(plan: Plan, info: ModelInfo, folder: Path) -> AsyncIterator[tuple[CutEngine, str]]:
    """A cell with its front end, and its address."""
    config = parse_config(
        {
            "model": {"path": str(folder), "device": plan.device},
            "cluster": {
                "launch": "subprocess",
                "denoise_workers": plan.workers,
                "decode_workers": plan.workers,
                "sessions_per_worker": plan.streams,
                "packed": ["realtime"],
            },
        }
    )
    engine = CutEngine(Scheduler(info.recipe, info.geometry, config.core_limits))
    launcher = launcher_for(plan_for(config, info), engine)
    running = asyncio.create_task(engine.run())
    try:
        await launcher.start()
        server = await FrontendServer.start(engine, offer_for(info, config.core_limits), host="127.0.0.1", port=0)
        try:
            yield engine, f"127.0.0.1:{server.port}"
        finally:
            await server.stop(0.0)
            await launcher.stop()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@dataclass(slots=True)
class Viewer:
    """A live client: how many segments came, and which were late."""

    number: int
    playback: Playback
    session: SessionId = field(default=SessionId(""))
    came: int = 0
    late: list[tuple[float, float]] = field(default_factory=list)
    """When each late segment came, and by how much it was late."""

    async def watch(self, client: Client) -> None:
        """Play for ever."""
        options = StreamOptions(seed=self.number, pace="realtime", window=WINDOW, codec="raw")
        async with client.stream(PROMPT, options) as stream:
            self.session = SessionId(stream.opened.session_id)
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    now_s = time.monotonic()
                    lateness_s = self.playback.lateness_s(now_s, float(event.start_s))
                    self.came += 1
                    if lateness_s > 0:
                        self.late.append((now_s, lateness_s))

    def late_since(self, since_s: float) -> list[float]:
        """By how much segments were late that came since then."""
        return [lateness_s for came_s, lateness_s in self.late if came_s >= since_s]


@dataclass(slots=True)
class Beside:
    """One run."""

    engine: CutEngine
    client: Client
    viewers: list[Viewer]
    say: Say

    async def load(self, seconds: float) -> dict[str, float]:
        """The share of so many seconds from now on that workers are busy, by role."""
        before, began_s = await self._busy_s(), time.monotonic()
        await asyncio.sleep(seconds)
        return shares(before, await self._busy_s(), time.monotonic() - began_s)

    async def _busy_s(self) -> dict[str, float]:
        """For how long each worker has worked since it joined."""
        return {worker.worker_id: worker.busy_s for worker in (await self.client.get_status()).workers}

    async def calm(self) -> None:
        """See how it is before anything happens."""
        began_s = time.monotonic()
        load = await self.load(LOOK_S)
        late = sum(len(viewer.late_since(began_s)) for viewer in self.viewers)
        self.say({"streams": len(self.viewers), "load_before": load, "late_before": late})

    async def lose(self, worker: WorkerId) -> int:
        """Cut a worker off and say what followed; how many segments of others were late."""
        sessions = self.engine.scheduler.cell.sessions
        struck = [viewer for viewer in self.viewers if worker in sessions[viewer.session].place.workers]
        others = [viewer for viewer in self.viewers if viewer not in struck]
        cut_s = time.monotonic()
        self.engine.cut(worker)
        during = await self.load(DURING_S)
        await asyncio.sleep(LOOK_S - DURING_S)
        late = [lateness_s for viewer in others for lateness_s in viewer.late_since(cut_s)]
        of_struck = [lateness_s for viewer in struck for lateness_s in viewer.late_since(cut_s)]
        self.say(
            {
                "lost": worker,
                "struck": len(struck),
                "others": len(others),
                "load_of_those_left": during,
                "late_of_others": len(late),
                "worst_of_others_s": round(max(late, default=0.0), 2),
                "late_of_struck": len(of_struck),
                "worst_of_struck_s": round(max(of_struck, default=0.0), 2),
            }
        )
        while not self.engine.is_attached(worker):
            await asyncio.sleep(_LOOK_S)
        return len(late)


def shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The share of the time that workers of each role were busy, on average over those that were there all the time."""
    found: dict[str, list[float]] = {}
    for worker in before.keys() & after.keys():
        if after[worker] >= before[worker]:  # else it has joined anew
            found.setdefault(worker.rpartition("-")[0], []).append((after[worker] - before[worker]) / seconds)
    return {role: round(sum(each) / len(each), 2) for role, each in sorted(found.items())}


async def run(plan: Plan, say: Say) -> int:
    """How many segments were late of streams that had nothing with the worker that was lost."""
    info, draw, late = small_pictures(weights.load_info(model_path(POCKET))), random.Random(plan.seed), 0
    viewers = [Viewer(number, Playback(buffer_s=info.geometry.block_s)) for number in range(plan.streams)]
    with tempfile.TemporaryDirectory() as name:
        weights.save_info(Path(name), info)
        async with running_cell(plan, info, Path(name)) as (engine, address), Client(address) as client:
            beside, watching = Beside(engine, client, viewers, say), list[asyncio.Task[None]]()
            for viewer in viewers:  # one after the other, so that their blocks do not begin together
                watching.append(asyncio.create_task(viewer.watch(client)))
                await asyncio.sleep(info.geometry.block_s / plan.streams)
            try:
                await asyncio.sleep(WARM_UP_S)
                await beside.calm()
                for number in range(plan.losses):
                    role = (Role.DENOISE, Role.DECODE)[number % 2]
                    there = [view.worker for view in engine.scheduler.workers() if view.role is role]
                    late += await beside.lose(draw.choice(there))
                    for task in watching:
                        if task.done():
                            task.result()
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
    say({"late_of_others": late, "losses": plan.losses, "segments": sum(viewer.came for viewer in viewers)})
    return late


@click.command()
@click.option("--streams", default=12, show_default=True, type=click.IntRange(1))
@click.option("--workers", default=4, show_default=True, type=click.IntRange(2), help="Of each role.")
@click.option("--losses", default=8, show_default=True, type=click.IntRange(1), help="Of denoise and decode in turn.")
@click.option(
    "--device",
    default="simulated:16ms,decode=130ms,layers=5,latents=30",
    show_default=True,
    help="As in a configuration; the default remembers as far back as pocket does.",
)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(streams: int, workers: int, losses: int, device: str, seed: int, as_json: bool) -> None:
    """Cut workers off under live streams, and see whether streams that had nothing with them are late."""
    plan = Plan(streams=streams, workers=workers, device=device, losses=losses, seed=seed)
    sys.exit(1 if asyncio.run(run(plan, say_json if as_json else say_text)) else 0)


if __name__ == "__main__":
    main()
