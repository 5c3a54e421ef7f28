"""The real scheduler on a fake clock: how much of the devices' limit streams get, and what a decision costs.

python -m benchmarks.simulate --devices 4 --devices 64 --devices 1024 --json
python -m benchmarks.simulate --tables

Every figure is simulated: forwards are drawn times, no model runs. The mix of the first form is live streams at 60 % of
what the devices can do and two bulk streams a device; streams end and others begin, forwards jitter by 8 % and
one in a hundred takes three times as long, one device in 64 is lost and comes back. The second form repeats rows of a
cost model (expected values from an independent simulation) beside what this scheduler does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import click

from benchmarks.cell_model import Client, Simulation
from benchmarks.hardware import ENOUGH_BYTES, Hardware
from benchmarks.policies import earliest_due_first, first_in_first_out
from longtake.core.cell import UrgencyRule
from longtake.core.dispatch.urgency import slack_first
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.plan.presets import SIZE_480P

LIVE_LOAD = 0.6
BULK_PER_DEVICE = 2
FORWARDS = 8
LATE_LIMIT = 0.001
FULL = Limits(max_sessions=100_000, load_limit=1.03, journal_bytes=ENOUGH_BYTES)
"""Admission out of the way, to find where streams begin to be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One simulated cell with churn."""

    devices: int
    share_of_limit: float
    """Blocks a second over devices / (8 t), t the mean forward time."""
    utilisation: float
    """Share of the time that devices (lost ones count) computed."""
    late_ratio: float
    """Share of live blocks that came too late."""
    p50_block_latency_s: float
    """Live: from the begin of D(0,n) to the end of D(S-1,n)."""
    p99_block_latency_s: float
    decision_us: float
    """CPU time of the scheduler for one report of a worker: median."""
    decision_mean_us: float
    moves_per_hour: float
    """Lanes that moved from device to device."""
    moved_gb_per_s: float
    """The traffic of these moves, of all devices together."""
    streams: int
    """Opened in all."""
    refusals: int
    blocks: int
    simulated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row of the cost model and what this scheduler does."""

    table: str
    case: str
    expected: float
    found: float


def churn(devices: int, forward_s: float, *, seconds: float, seed: int = 1) -> Row:
    """A cell with streams that come and go, jitter, hiccups and, from 64 devices on, losses."""
    hardware = Hardware(devices=devices, forward_s=forward_s, link_s=0.0005, jitter=0.08, hiccups=0.01, decoders=1)
    warmup_s = seconds / 4
    made = Simulation(hardware, seed=seed, warmup_s=warmup_s)
    draw = random.Random(seed)
    live = int(LIVE_LOAD * devices * SIZE_480P.block_s / (FORWARDS * forward_s))
    for _ in range(live):
        begins_s, blocks = draw.uniform(0, warmup_s), draw.randint(10, 40)
        made.add(
            Client(pace=Pace.REALTIME, begins_s=begins_s, blocks=blocks, window=2, patience=1000, reopens=True)
        )  # fmt: skip
    for _ in range(BULK_PER_DEVICE * devices):
        made.add(Client(pace=Pace.FAST, blocks=draw.randint(10, 40), reopens=True, patience=1000))
    for number in range(devices // 64):
        made.lose(64 * number + 7, at_s=draw.uniform(warmup_s, seconds), back_after_s=seconds / 4)
    made.run(seconds)
    made.scheduler.check()
    return Row(
        devices=devices,
        share_of_limit=round(made.share_of_limit, 4),
        utilisation=round(made.utilisation, 4),
        late_ratio=round(made.late_share(), 5),
        p50_block_latency_s=round(made.latency_s(50), 3),
        p99_block_latency_s=round(made.latency_s(99), 3),
        decision_us=round(made.decision_us, 1),
        decision_mean_us=round(1e6 * sum(made.decision_s) / max(1, len(made.decision_s)), 1),
        moves_per_hour=round(made.moves_per_hour),
        moved_gb_per_s=round(made.moved_bytes_per_s / 1e9, 2),
        streams=len(made.streams),
        refusals=sum(len(stream.refusals) for stream in made.streams.values()),
        blocks=made.blocks,
        simulated_s=seconds,
    )


def speed_up(devices: int, blocks: int) -> float:
    """Of one stream of `blocks`, over one device."""
    spans = []
    for count in (1, devices):
        made = Simulation(Hardware(devices=count, forward_s=1.0))
        session = made.add(Client(pace=Pace.FAST, blocks=blocks))
        made.run(FORWARDS * blocks + 1.0)
        spans.append(made.streams[session].closed_s)
    return spans[0] / spans[1]


def backlog_share(devices: int, streams: int, *, forward_s: float, jitter: bool) -> float:
    """Share of the limit that endless bulk streams get."""
    hardware = Hardware(devices=devices, forward_s=forward_s, jitter=0.08 * jitter, hiccups=0.01 * jitter)
    made = Simulation(hardware, warmup_s=60 * forward_s)
    for _ in range(streams):
        made.add(Client(pace=Pace.FAST))
    made.run(1200 * forward_s)
    return made.share_of_limit


def late_share(streams: int, hardware: Hardware, *, bulk: int = 0, rule: UrgencyRule = slack_first) -> float:
    """Share of the blocks of live streams that come late, one block of buffer at the client."""
    made = Simulation(hardware, limits=FULL, rule=rule, warmup_s=15)
    for number in range(streams):
        made.add(Client(pace=Pace.REALTIME, window=2, begins_s=0.37 * number))
    for _ in range(bulk):
        made.add(Client(pace=Pace.FAST))
    made.run(50)
    served = sum(1 for stream in made.streams.values() if stream.client.pace is Pace.REALTIME and not stream.refusals)
    return made.late_share() if served == streams else 1.0


def capacity(devices: int, forward_s: float) -> int:
    """The most live streams of which at most one block in a thousand is late."""
    hardware = Hardware(devices=devices, forward_s=forward_s, jitter=0.08)
    streams = int(devices * SIZE_480P.block_s / (FORWARDS * forward_s)) + 1
    while streams and late_share(streams, hardware) > LATE_LIMIT:
        streams -= 1
    return streams


def tables() -> Iterator[Comparison]:
    """Rows of the cost model's tables: step placement, the one that this scheduler makes by itself."""
    for blocks, expected in ((27, 3.79), (400, 3.99)):
        case = f"one stream of {blocks} blocks, 4 devices: speed-up"
        yield Comparison(table="A2.1", case=case, expected=expected, found=speed_up(4, blocks))
    shares: tuple[tuple[int, bool, Mapping[int, float]], ...] = (
        (4, False, {1: 0.99, 2: 1.0, 4: 1.0, 8: 1.0, 12: 1.0}),
        (8, False, {1: 0.49, 2: 0.99, 4: 1.0, 8: 1.0, 12: 1.0}),
        (4, True, {1: 0.96, 2: 0.97, 4: 0.99, 8: 1.0}),
    )
    for devices, jitter, row in shares:
        for streams, expected in row.items():
            case = f"{streams} backlogged streams, {devices} devices{', jitter' if jitter else ''}: share of the limit"
            found = backlog_share(devices, streams, forward_s=0.091, jitter=jitter)
            yield Comparison(table="A2.2", case=case, expected=expected, found=found)
    for table, forward_s, capacities in (
        ("A2.3", 0.091, {4: 4, 8: 8}),
        ("A2.4", 0.060, {3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 12}),
    ):
        for devices, most in capacities.items():
            case = f"{devices} devices, t = {1000 * forward_s:.0f} ms: live streams in time"
            yield Comparison(table=table, case=case, expected=most, found=capacity(devices, forward_s))
    hardware = Hardware(devices=4, forward_s=0.02, jitter=0.1)
    policies: tuple[tuple[str, UrgencyRule], ...] = (
        ("FIFO", first_in_first_out),
        ("EDF", earliest_due_first),
        ("slack-EDF", slack_first),
    )
    for streams, lates in ((8, (0.0, 0.0, 0.0)), (14, (0.94, 0.0, 0.0))):
        for (name, rule), expected in zip(policies, lates, strict=True):
            case = f"{streams} live and {streams} bulk streams, {name}: late blocks"
            found = late_share(streams, hardware, bulk=streams, rule=rule)
            yield Comparison(table="A4", case=case, expected=expected, found=found)


@click.command()
@click.option("--devices", "counts", multiple=True, type=click.IntRange(1, 4096), default=(4, 8, 64), show_default=True)
@click.option("--forward", "forward_s", default=0.091, show_default=True, help="Seconds of one forward.")
@click.option("--seconds", default=120.0, show_default=True, help="Simulated time of each cell.")
@click.option("--seed", default=1, show_default=True)
@click.option("--tables", "with_tables", is_flag=True, help="Repeat the cost model's tables instead (minutes).")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def main(
    *, counts: tuple[int, ...], forward_s: float, seconds: float, seed: int, with_tables: bool, as_json: bool
) -> None:
    """Simulate cells of so many devices."""
    found: list[dict[str, object]] = []
    header = False
    sources = tables() if with_tables else (churn(count, forward_s, seconds=seconds, seed=seed) for count in counts)
    for item in sources:
        row = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(item).items()}
        found.append(row)
        if as_json:
            continue
        if not header:
            click.echo("  ".join(row))
            header = True
        click.echo("  ".join(str(value).ljust(len(key)) for key, value in row.items()))
    if as_json:
        click.echo(json.dumps({"tables": found} if with_tables else found[-1] | {"simulated": True, "rows": found}))


if __name__ == "__main__":
    main()
