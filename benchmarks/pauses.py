"""Pauses of a server, as of a container that is paused or a machine that is moved: what its live streams lose by them.

python -m benchmarks.pauses --json
python -m benchmarks.pauses --times 1 --seconds 10 --json

The server is stopped (SIGSTOP) and goes on (SIGCONT), alone or with all its workers, again and again beside live
streams. Nobody may take a pause for the silence of somebody else: no session is lost, no worker is given up, no call
breaks, nothing is computed again; the server's counters, its clients and its processes must all say so. Each row is of
one pause and says what is wrong in it; the last ones sum up. The exit status says whether all was right.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_processes import Process
from benchmarks.chaos_report import Row, Say, run, say_json, say_text
from benchmarks.live_streams import Audience
from longtake.core.awake import TURN_S
from monitoring import declarations as metrics
from monitoring.declarations import Metric

CALM_S = 4.0
"""Between two pauses, when all streams go on."""
JUDGED_S = 7.0
"""After a pause: whoever takes it for silence of 5 s may do so only now."""
GOES_ON_S = 30.0
"""By then every stream has a segment again."""
NEEDLESS: tuple[Metric, ...] = (metrics.WORKERS_LOST, metrics.WORKERS_JOINED, metrics.RECOVERY, metrics.PARKED)
"""What is not to be counted for a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRow:
    """What followed from one pause."""

    seconds: float
    whom: str
    lost: list[str]
    """How sessions ended that nobody had ended."""
    counted: dict[str, float]
    """How much the server's counters of losses and recoveries have grown."""
    recovering: float
    """The most sessions that were said to be recovering at once."""
    told: dict[str, int]
    """What clients were told of recoveries, and of calls that broke."""
    replaced: list[str]
    """Workers whose process is not the one that it was."""
    goes_on_s: list[float] | None
    """When each stream had a segment again, from the end of the pause; None: not all had in time."""

    def wrong(self) -> list[str]:
        """What should not be."""
        found = [f"a session was lost: {ending}" for ending in self.lost]
        found += [f"{name} has grown by {grown:g}" for name, grown in self.counted.items() if grown]
        found += [f"{self.recovering:g} sessions were recovering"] if self.recovering else []
        found += [f"{count} times {name}" for name, count in self.told.items()]
        found += [f"{name} is another process" for name in self.replaced]
        return found + (["not every stream goes on"] if self.goes_on_s is None else [])

    def as_dict(self) -> Row:
        """As it is printed."""
        goes_on_s = None if self.goes_on_s is None else [round(each_s, 2) for each_s in self.goes_on_s]
        return asdict(self) | {"goes_on_s": goes_on_s, "wrong": self.wrong()}


def summary(rows: Sequence[PauseRow]) -> list[Row]:
    """The figures of each kind of pause, in the order in which kinds came first."""
    found: dict[tuple[float, str], list[PauseRow]] = {}
    for row in rows:
        found.setdefault((row.seconds, row.whom), []).append(row)
    return [
        {"seconds": seconds, "whom": whom, "pauses": len(alike),
         "sessions_lost": sum(len(row.lost) for row in alike),
         "needless": {name: sum(row.counted[name] for row in alike) for name in alike[0].counted},
         "worst_goes_on_s": max((round(max(row.goes_on_s), 2) for row in alike if row.goes_on_s), default=None),
         "pauses_with_something_wrong": sum(bool(row.wrong()) for row in alike)}
        for (seconds, whom), alike in found.items()
    ]  # fmt: skip


@dataclass(slots=True)
class Pauses:
    """A server that is paused again and again."""

    cell: ChaosCell
    audience: Audience
    rows: list[PauseRow] = field(default_factory=list)

    async def pause(self, seconds: float, *, alone: bool) -> PauseRow:
        """One pause; what came of it."""
        self.audience.take()
        before, workers = await self.cell.scraped(), self._workers()
        stopped = [self.cell.server] if alone else list(self.cell.all().values())
        try:
            for one in stopped:
                one.send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            for one in stopped:
                one.send(signal.SIGCONT)
        went_on_s, recovering = time.monotonic(), 0.0
        while time.monotonic() < went_on_s + JUDGED_S:
            recovering = max(recovering, (await self.cell.scraped()).sum(metrics.RECOVERING))
            await asyncio.sleep(TURN_S)
        all_go_on = await self.audience.until_all_since(went_on_s, GOES_ON_S)
        after, seen = await self.cell.scraped(), self.audience.take()
        return PauseRow(
            seconds=seconds,
            whom="the server alone" if alone else "the server and its workers",
            lost=seen.lost,
            counted={each.name: after.sum(each) - before.sum(each) for each in NEEDLESS},
            recovering=recovering,
            told=dict(seen.told),
            replaced=[name for name, one in self._workers().items() if workers.get(name) != one],
            goes_on_s=[
                next(came_s - went_on_s for came_s in stream.came_s if came_s > went_on_s)
                for stream in self.audience.streams
            ]
            if all_go_on
            else None,
        )

    def _workers(self) -> dict[str, Process]:
        found = self.cell.find()
        return {name: found[name] for name in self.cell.setup.workers if name in found}


async def measure(lengths_s: list[float], times: int, streams: int, model: str, say: Say) -> bool:
    """Say a row of each pause and of each kind; returns whether nothing is wrong in any."""
    with tempfile.TemporaryDirectory() as name:
        setup = Setup(model=model, sessions=streams, extra='[metrics]\naddress = "127.0.0.1:0"\n')
        async with chaos_cell(setup, Path(name)) as cell, Audience(cell.address, streams) as audience:
            pauses = Pauses(cell, audience)
            try:
                for seconds in lengths_s:
                    for number in range(2 * times):
                        pauses.rows.append(await pauses.pause(seconds, alone=number % 2 == 0))
                        say(pauses.rows[-1].as_dict())
                        await asyncio.sleep(CALM_S)
            except BaseException:
                click.echo(cell.last_words(), err=True)
                raise
    for row in summary(pauses.rows):
        say(row)
    return not any(row.wrong() for row in pauses.rows)


@click.command()
@click.option("--seconds", "lengths_s", multiple=True, type=float, default=(10.0, 25.0), show_default=True)
@click.option("--times", default=5, show_default=True, type=click.IntRange(1), help="Of each, alone and with workers.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1), help="Live streams.")
@click.option("--model", default="pocket", show_default=True, help="A model, as in a configuration.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(lengths_s: tuple[float, ...], times: int, streams: int, model: str, as_json: bool) -> None:
    """Stop a server again and again, and count what that costs its streams."""
    say = say_json if as_json else say_text
    sys.exit(0 if run(measure(list(lengths_s), times, streams, model, say)) else 1)


if __name__ == "__main__":
    main()
