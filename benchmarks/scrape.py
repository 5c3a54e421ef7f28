"""What Prometheus knows of a cell against what its clients saw, and what all the counting costs.

python -m benchmarks.scrape --json
python -m benchmarks.scrape --pace realtime --streams 24 --blocks 20 --simulated 10ms --json
python -m benchmarks.scrape --streams 512 --simulated 2ms --workers 8 --rounds 4 --json

A server of its own (simulated workers in processes of their own), Debian's Prometheus at one scrape a second, and the
clients of benchmarks.loadgen, whose first segments take so long that the way to the client does not count. With
--rounds the cost is measured, scraped every 5 s, in two ways: what the server says itself of its CPU time, and the
engine's CPU time per block against that of a server that counts nothing, run by run in turn. Exits with 1 if a figure
is off by more than --within, or the cost above --at-most.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import click
import httpx

from benchmarks.counted_server import Served, counted_server
from benchmarks.load import StreamLog
from benchmarks.loadgen import Load, generate, server_config
from benchmarks.prometheus import Prometheus, running_prometheus
from benchmarks.simulated_streams import small_pictures
from cluster.launch.plan import POCKET, model_path
from longtake.client import PaceName
from longtake.core.errors import Unavailable
from workers.models import weights
from workers.models.weights import ModelInfo
from workers.simulated.device import parse_device

SCRAPE_S = 1
"""Where figures are compared."""
USUAL_SCRAPE_S = 5
"""As monitoring/prometheus.yaml has it: where the cost is measured."""
QUERIES = {
    "streams": "sum(longtake_sessions_closed_total)",
    "blocks": "sum(longtake_blocks_total)",
    "pictures": "sum(longtake_pictures_total)",
    "bytes": "sum(longtake_segment_bytes_total)",
    "late_ratio": "sum(longtake_late_blocks_total) / sum(longtake_blocks_total)",
    "first_segment_s": "sum(longtake_first_segment_seconds_sum) / sum(longtake_first_segment_seconds_count)",
}
"""Of a server that has only just started, so that totals are what these clients caused."""
ONLY = {"late_ratio": "realtime", "first_segment_s": "fast"}
"""Figures that are compared at one pace only: FAST streams are never late, and a live stream's first segment comes so
soon that most of what its client waits for is its own connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure from both sides."""

    figure: str
    clients: float
    prometheus: float

    @property
    def difference(self) -> float:
        """Relative; of a ratio the plain difference, because it may be 0."""
        apart = abs(self.prometheus - self.clients)
        return apart if self.figure.endswith("_ratio") else apart / self.clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU time of one run of the engine's process."""

    counted: bool
    blocks: int
    cpu_s: float
    metrics_s: float
    """Spent on metrics, as the server says itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is run."""

    load: Load
    info: ModelInfo
    config: Path
    limit_s: float


def seen_by_clients(logs: Sequence[StreamLog]) -> dict[str, float]:
    """The figures of QUERIES, as the clients have them."""
    blocks = sum(len(log.came_s) for log in logs)
    return {
        "streams": len(logs),
        "blocks": blocks,
        "pictures": sum(log.pictures for log in logs),
        "bytes": sum(log.size_bytes for log in logs),
        "late_ratio": sum(log.late_blocks() for log in logs) / blocks,
        "first_segment_s": statistics.fmean(log.first_segment_s for log in logs),
    }


def compared(bench: Bench, folder: Path) -> list[Comparison]:
    """Generate the load under the eyes of Prometheus."""
    with (
        counted_server(bench.config) as served,
        running_prometheus(folder, served.target, rules=(), every=f"{SCRAPE_S}s") as prometheus,
    ):
        logs = asyncio.run(generate(served.address, bench.load, bench.info, judged=True, limit_s=bench.limit_s))
        _wait_for_scrape_after(prometheus, time.time())
        seen = seen_by_clients(logs)
        return [
            Comparison(figure=figure, clients=seen[figure], prometheus=_value(prometheus, query))
            for figure, query in QUERIES.items()
            if ONLY.get(figure, bench.load.pace) == bench.load.pace
        ]


def _wait_for_scrape_after(prometheus: Prometheus, at_s: float) -> None:
    """The page has been scraped that says how it ended; Unavailable if that takes too long."""
    deadline_s = time.monotonic() + 60.0
    while time.monotonic() < deadline_s:
        scraped = prometheus.now("timestamp(longtake_uptime_seconds)")
        open_ = prometheus.now("sum(longtake_sessions)")
        if scraped and scraped[0].points[0][1] > at_s and open_ and open_[0].points[0][1] == 0:
            return
        time.sleep(0.2)
    raise Unavailable("Prometheus did not see the streams end")


def _value(prometheus: Prometheus, query: str) -> float:
    (curve,) = prometheus.now(query)
    return curve.points[0][1]


def cost(bench: Bench, *, counted: bool) -> Cost:
    """One run; a counting server is scraped meanwhile, as a Prometheus would."""
    with counted_server(bench.config, counted=counted) as served:
        before = asyncio.run(_page(served))
        logs = asyncio.run(_loaded(bench, served, scraped=counted))
        after = asyncio.run(_page(served))
    spent = {name: after[name] - before[name] for name in before}
    return Cost(
        counted=counted,
        blocks=sum(len(log.came_s) for log in logs),
        cpu_s=spent["process_cpu_seconds_total"],
        metrics_s=spent["longtake_metrics_seconds_total"],
    )


async def _loaded(bench: Bench, served: Served, *, scraped: bool) -> list[StreamLog]:
    scraping = asyncio.create_task(_scrape(served)) if scraped else None
    try:
        return await generate(served.address, bench.load, bench.info, judged=False, limit_s=bench.limit_s)
    finally:
        if scraping is not None:
            scraping.cancel()


async def _scrape(served: Served) -> None:
    while True:
        await asyncio.sleep(USUAL_SCRAPE_S)
        await _page(served)


async def _page(served: Served) -> dict[str, float]:
    """What the engine's process has used."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(served.metrics, timeout=60.0)).text
    wanted = ("process_cpu_seconds_total", "longtake_metrics_seconds_total")
    lines = (line for line in text.splitlines() if line.startswith(wanted))
    return {line.split("{", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def costs(bench: Bench, rounds: int) -> dict[str, float]:
    """Runs with and without, in turn; shares of the engine's CPU time."""
    runs = [cost(bench, counted=number % 2 == 0) for number in range(2 * rounds)]
    per_block = {
        counted: [1e3 * run.cpu_s / run.blocks for run in runs if run.counted is counted] for counted in (True, False)
    }
    ratios = [one / other - 1 for one, other in zip(per_block[True], per_block[False], strict=True)]
    return {
        "self_measured_share": max(run.metrics_s / run.cpu_s for run in runs if run.counted),
        "interleaved_share": statistics.median(ratios),
        "interleaved_least": min(ratios),
        "interleaved_most": max(ratios),
        "engine_cpu_ms_per_block": statistics.median(per_block[True]),
        "engine_cpu_ms_per_block_uncounted": statistics.median(per_block[False]),
    }


class Asked(TypedDict):
    """The command line."""

    streams: int
    blocks: int
    rate: float
    pace: PaceName
    simulated: str
    workers: int
    rounds: int
    within: float
    at_most: float
    limit_s: float
    as_json: bool


@click.command()
@click.option("--streams", default=64, show_default=True, type=click.IntRange(1))
@click.option("--blocks", default=6, show_default=True, type=click.IntRange(2), help="Length of each stream.")
@click.option("--rate", default=200.0, show_default=True, help="Mean arrivals a second.")
@click.option("--pace", type=click.Choice(["fast", "realtime"]), default="fast", show_default=True)
@click.option("--simulated", default="30ms", show_default=True, help="Workers that sleep so long.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=0, show_default=True, help="Pairs of runs for the cost; 0: figures only.")
@click.option("--within", default=0.02, show_default=True, help="The most that a figure may be off.")
@click.option("--at-most", default=0.01, show_default=True, help="The most that counting may cost.")
@click.option("--limit-s", default=600.0, show_default=True, help="Give up a run after this time.")
@click.option("--json", "as_json", is_flag=True)
def main(**asked: Unpack[Asked]) -> None:
    """Compare Prometheus with clients, and measure what counting costs."""
    load = Load(
        streams=asked["streams"],
        blocks=asked["blocks"],
        rate_per_s=asked["rate"],
        pace=asked["pace"],
        window=4,
        seed=1,
    )
    device = str(parse_device(f"simulated:{asked['simulated']}"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        info = small_pictures(weights.load_info(model_path(POCKET)))
        weights.save_info(folder, info)
        config = server_config(
            folder, folder, device, workers=asked["workers"], streams=load.streams, launch="subprocess"
        )
        config.write_text(config.read_text() + '[listen]\nport = 0\n[metrics]\naddress = "127.0.0.1:0"\n')
        bench = Bench(load=load, info=info, config=config, limit_s=asked["limit_s"])
        found = costs(bench, asked["rounds"]) if asked["rounds"] else {}
        rows = [] if found else compared(bench, folder)
    wrong = [row.figure for row in rows if row.difference > asked["within"]]
    dear = [name for name in ("self_measured_share", "interleaved_share") if found.get(name, 0) > asked["at_most"]]
    if asked["as_json"]:
        figures = {row.figure: asdict(row) | {"difference": row.difference} for row in rows}
        click.echo(json.dumps(asdict(load) | {"workers": asked["workers"], "device": device} | figures | found))
    for row in [] if asked["as_json"] else rows:
        click.echo(f"{row.figure:18s} {row.clients:14.5f} {row.prometheus:14.5f} {row.difference:8.3%}")
    for figure, value in {} if asked["as_json"] else found.items():
        click.echo(f"{figure:34s} {value:.5f}")
    if wrong or dear:
        click.echo(f"more than allowed: {', '.join(wrong + dear)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
