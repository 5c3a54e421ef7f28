"""Live streams beside bulk streams, and more live streams than there is room for: who is late, and what stands idle.

python -m benchmarks.mixed --live 14 --bulk 14 --seconds 60                 # 75 % live, the rest of the time to bulk
python -m benchmarks.mixed --live 14 --bulk 14 --policy fifo                # the same, first in first out
python -m benchmarks.mixed --live 28 --bulk 4                               # 150 % offered: some are refused

Simulated devices (workers that sleep), the real engine, scheduler, link and gRPC front end, in one process with the
clients. A live client shows its first picture one block after it came, so it can bear a delay of a block; a segment
that comes after its time is late and stops the screen until it is there. What is counted begins after the warm-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import click
import grpc

from benchmarks.pipeline import running_engine
from benchmarks.playback import Playback
from benchmarks.policies import earliest_due_first, first_in_first_out
from benchmarks.simulated_streams import small_pictures
from cluster.config import parse_config
from cluster.frontend.offer import offer_for
from cluster.frontend.server import FrontendServer
from cluster.launch.plan import POCKET, model_path, plan_for
from longtake.client import Client, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent
from longtake.core.cell import UrgencyRule
from longtake.core.dispatch.urgency import slack_first
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from workers.models import weights
from workers.models.weights import ModelInfo
from workers.simulated.device import SimulatedDevice

POLICIES: dict[str, UrgencyRule] = {
    "slack-edf": slack_first,
    "edf": earliest_due_first,
    "fifo": first_in_first_out,
}
PROMPT = "a red ball circling in the fog"
LIVE_WINDOW = 2
BULK_WINDOW = 4
STREAMS_PER_CONNECTION = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What is asked of the cell."""

    live: int
    bulk: int
    seconds: float
    """Counted time, after the warm-up."""
    warmup_s: float
    devices: int
    forward_s: float
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of it."""

    admitted_live: int
    refused_live: int
    live_blocks: int
    late_blocks: int
    late_ratio: float
    bulk_blocks: int
    utilisation: float
    """Blocks that clients received, as a share of what the devices could make at most."""
    worst_lateness_s: float


@dataclass(slots=True)
class Screen:
    """One client's screen: when segments came, and which were late."""

    geometry: Geometry
    live: bool
    counts_from_s: float
    blocks: int = 0
    late: int = 0
    worst_s: float = 0.0
    refused: str = ""
    _playback: Playback = field(init=False)

    def __post_init__(self) -> None:
        self._playback = Playback(buffer_s=self.geometry.block_s)

    def came(self, event: SegmentEvent, now_s: float) -> None:
        """Count a segment; a late one stops the screen, which then goes on from it."""
        counted = now_s >= self.counts_from_s
        self.blocks += counted
        if not self.live:
            return
        lateness_s = self._playback.lateness_s(now_s, float(event.start_s))
        if counted and lateness_s > 0:
            self.late += 1
            self.worst_s = max(self.worst_s, lateness_s)


@contextlib.asynccontextmanager
async def running_cell(mix: Mix, info: ModelInfo, folder: Path) -> AsyncIterator[str]:
    """A cell with its front end; its address."""
    config = parse_config(
        {
            "model": {"path": str(folder), "device": str(SimulatedDevice(forward_s=mix.forward_s))},
            "cluster": {
                "launch": "subprocess",
                "denoise_workers": mix.devices,
                "sessions_per_worker": mix.live + mix.bulk,
            },
            "limits": {"max_sessions": mix.live + mix.bulk},
        }
    )
    plan = plan_for(config, info)
    async with running_engine(plan, info, config.core_limits) as engine:
        engine.scheduler.cell.urgency = POLICIES[mix.policy]
        offer = offer_for(info, config.core_limits)
        server = await FrontendServer.start(engine, offer, host="127.0.0.1", port=0)
        try:
            yield f"127.0.0.1:{server.port}"
        finally:
            await server.stop(0.0)


async def _watch(client: Client, screen: Screen, number: int) -> None:
    """One stream without end; a live one that is refused does not come back."""
    options = StreamOptions(
        seed=number,
        pace="realtime" if screen.live else "fast",
        window=LIVE_WINDOW if screen.live else BULK_WINDOW,
        codec="raw",
    )
    try:
        async with client.stream(PROMPT, options) as stream:
            async for event in stream:
                if isinstance(event, SegmentEvent):
                    screen.came(event, time.monotonic())
    except ClientError as error:
        if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        screen.refused = str(error)


async def measure(mix: Mix, info: ModelInfo, folder: Path) -> Figures:
    """Run the mix. The streams begin one after the other, spread over the first half of the warm-up."""
    async with running_cell(mix, info, folder) as address:
        began_s = time.monotonic()
        counts_from_s = began_s + mix.warmup_s
        # Bulk first: what it has taken must not keep live streams from being admitted or on time.
        kinds = [False] * mix.bulk + [True] * mix.live
        screens = [Screen(info.geometry, live=live, counts_from_s=counts_from_s) for live in kinds]
        clients = [Client(address) for _ in range(-(-len(screens) // STREAMS_PER_CONNECTION))]
        tasks = []
        for number, screen in enumerate(screens):
            tasks.append(asyncio.create_task(_watch(clients[number % len(clients)], screen, number)))
            await asyncio.sleep(mix.warmup_s / 2 / len(screens))
        await asyncio.sleep(max(0.0, counts_from_s + mix.seconds - time.monotonic()))
        counted_s = time.monotonic() - counts_from_s
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        for client in clients:
            await client.__aexit__(None, None, None)
    return _figures(mix, info, screens, counted_s)


def _figures(mix: Mix, info: ModelInfo, screens: list[Screen], counted_s: float) -> Figures:
    live = [screen for screen in screens if screen.live]
    live_blocks, late = sum(screen.blocks for screen in live), sum(screen.late for screen in live)
    blocks = sum(screen.blocks for screen in screens)
    limit_per_s = mix.devices / (Graph(info.recipe).forwards_per_block * mix.forward_s)
    return Figures(
        admitted_live=sum(not screen.refused for screen in live),
        refused_live=sum(bool(screen.refused) for screen in live),
        live_blocks=live_blocks,
        late_blocks=late,
        late_ratio=round(late / max(1, live_blocks), 5),
        bulk_blocks=blocks - live_blocks,
        utilisation=round(blocks / counted_s / limit_per_s, 4),
        worst_lateness_s=round(max(screen.worst_s for screen in screens), 4),
    )


class Asked(TypedDict):
    """The command line."""

    live: int
    bulk: int
    seconds: float
    warmup: float
    devices: int
    forward_ms: float
    policy: str
    as_json: bool


@click.command()
@click.option("--live", default=14, show_default=True, type=click.IntRange(1), help="REALTIME streams asked for.")
@click.option("--bulk", default=14, show_default=True, type=click.IntRange(0), help="FAST streams.")
@click.option("--seconds", default=60.0, show_default=True, help="Counted time.")
@click.option("--warmup", default=15.0, show_default=True)
@click.option("--devices", default=4, show_default=True, type=click.IntRange(1))
@click.option("--forward-ms", default=20.0, show_default=True, help="Time of a forward.")
@click.option("--policy", default="slack-edf", show_default=True, type=click.Choice(list(POLICIES)))
@click.option("--json", "as_json", is_flag=True)
def main(**asked: Unpack[Asked]) -> None:
    """Measure live and bulk streams together on simulated devices."""
    mix = Mix(
        live=asked["live"],
        bulk=asked["bulk"],
        seconds=asked["seconds"],
        warmup_s=asked["warmup"],
        devices=asked["devices"],
        forward_s=asked["forward_ms"] / 1000,
        policy=asked["policy"],
    )
    with tempfile.TemporaryDirectory() as name:
        info = small_pictures(weights.load_info(model_path(POCKET)))
        weights.save_info(Path(name), info)
        click.echo(f"about {mix.warmup_s + mix.seconds:.0f} s", err=True)
        found = asyncio.run(measure(mix, info, Path(name)))
    offered = mix.live * Graph(info.recipe).forwards_per_block * mix.forward_s / info.geometry.block_s / mix.devices
    result = asdict(mix) | {"simulated": True, "offered_live_load": round(offered, 3)} | asdict(found)
    if asked["as_json"]:
        click.echo(json.dumps(result))
        sys.exit(0)
    for key, value in result.items():
        click.echo(f"{key:20s} {value}")


if __name__ == "__main__":
    main()
