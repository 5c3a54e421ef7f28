"""Alerts on a real server under a real Prometheus: what shall fire is provoked, and beside it a healthy run is silent.

python -m benchmarks.alerts --json

Every scenario has a server and a Prometheus of its own, with all windows and durations of the rules shortened alike (a
minute is a second; thresholds are as they are). It ends when its alerts fire, or too late. Other alerts may fire too
where something is truly wrong; in the healthy run none may. What cannot be provoked here without hours or a broken
device is tested with promtool only (tests/monitoring/alert_scenarios.py).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from tqdm import tqdm

from benchmarks.busy_cell import Cell, Clients, Running, running_cell
from benchmarks.prometheus import Prometheus, running_prometheus
from monitoring.alerting.records import TimeScale
from monitoring.alerting.rules import RUNBOOK, documents

SHORT = TimeScale(1 / 60)
SETTLE_S = 6.0
"""Before something is provoked."""
HEALTHY_S = 40.0
SCRAPES_S = 1.5
"""So long that Prometheus has seen what is there."""
LIMIT_S = 60.0
BACK_S = 15.0
"""So long a server that was started again is there."""
CALM = Cell(name="alerts", park_after_s=600.0)
_TENANTS = f"""[tenants.acme]
[[tenants.acme.tokens]]
id = "nobody"
hash = "sha256:{"0" * 64}"
"""

Provoke = Callable[[Running, Clients], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done to a cell, and which alerts that must raise."""

    name: str
    cell: Cell
    provoke: Provoke
    expected: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scenario."""

    scenario: str
    expected: list[str]
    fired: list[str]
    after_s: dict[str, float]
    """When each was first seen to fire, from the beginning of the provocation."""

    @property
    def right(self) -> bool:
        """Whether all fired that should; in a run in which none should, none did."""
        return set(self.expected) <= set(self.fired) and bool(self.expected or not self.fired)


async def nothing(cell: Running, clients: Clients) -> None:
    """A healthy run."""


async def kill_once(cell: Running, clients: Clients) -> None:
    cell.kill_workers()


async def kill_again(cell: Running, clients: Clients) -> None:
    for _ in range(4):
        cell.kill_workers()
        await asyncio.sleep(SCRAPES_S)
        await clients.until_joined(CALM.denoise_workers + 1)
        await asyncio.sleep(SCRAPES_S)


async def hiccups(cell: Running, clients: Clients) -> None:
    """Workers that stand still for a while, again and again, and so are late; never so long that they are given up."""
    for _ in range(12):
        cell.freeze_workers()
        await asyncio.sleep(2.5)
        cell.thaw_workers()
        await asyncio.sleep(1.0)


async def freeze(cell: Running, clients: Clients) -> None:
    cell.freeze_workers()


async def hang(cell: Running, clients: Clients) -> None:
    cell.hang_workers()


async def kill_server(cell: Running, clients: Clients) -> None:
    cell.kill_server()


async def crash(cell: Running, clients: Clients) -> None:
    """Killed, and started again by whoever watches over it."""
    cell.kill_server()
    command = (sys.executable, "-m", "longtake", "serve", str(cell.config), "--port", "0")
    nowhere = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere, start_new_session=True)
    try:
        await asyncio.sleep(BACK_S)
    finally:
        server.terminate()
        await server.wait()


async def crowd(cell: Running, clients: Clients) -> None:
    clients.live(12)


async def lag(cell: Running, clients: Clients) -> None:
    clients.slow(4, silent_s=3600.0)


SCENARIOS = (
    Scenario(name="healthy", cell=CALM, provoke=nothing, expected=frozenset()),
    Scenario(name="workers killed", cell=CALM, provoke=kill_once, expected=frozenset({"LongtakeStreamsWaitForRoom"})),
    Scenario(
        name="workers killed again and again",
        cell=CALM,
        provoke=kill_again,
        expected=frozenset({"LongtakeWorkersLostAgain"}),
    ),
    Scenario(name="workers with hiccups", cell=CALM, provoke=hiccups, expected=frozenset({"LongtakeLateBlocksFast"})),
    Scenario(
        name="workers frozen",
        cell=CALM,
        provoke=freeze,
        expected=frozenset(
            {"LongtakeNoWorkers", "LongtakeWorkersMissing", "LongtakeStreamsWaitForRoom", "LongtakeWorkersHung"}
        ),
    ),
    Scenario(
        name="workers hang",
        cell=Cell(name="alerts", park_after_s=600.0, hangs=True),
        provoke=hang,
        expected=frozenset({"LongtakeWorkersHung"}),
    ),
    Scenario(name="server killed", cell=CALM, provoke=kill_server, expected=frozenset({"LongtakeDown"})),
    Scenario(name="server killed and back", cell=CALM, provoke=crash, expected=frozenset({"LongtakeCrashed"})),
    Scenario(name="too many live streams", cell=CALM, provoke=crowd, expected=frozenset({"LongtakeRefusingRealtime"})),
    Scenario(name="slow clients", cell=CALM, provoke=lag, expected=frozenset({"LongtakeClientsStall"})),
    Scenario(
        name="the audit log's disk is full",
        cell=Cell(name="alerts", audit="/dev/full"),
        provoke=nothing,
        expected=frozenset({"LongtakeAuditInTrouble"}),
    ),
    Scenario(
        name="nobody shows credentials",
        cell=Cell(name="alerts", tenants=_TENANTS),
        provoke=nothing,
        expected=frozenset({"LongtakeCredentialsRefused"}),
    ),
)


async def play(scenario: Scenario, cell: Running, prometheus: Prometheus) -> Outcome:
    """Bring on the load, then the trouble, and look which alerts fire."""
    clients = Clients(cell.address)
    clients.live(4)
    after_s: dict[str, float] = {}
    try:
        if not scenario.cell.tenants:
            await clients.until_opened(4)
        clients.bulk(2, pictures=400)
        await asyncio.sleep(SETTLE_S)
        began_s = time.monotonic()
        trouble = asyncio.ensure_future(scenario.provoke(cell, clients))
        limit_s = LIMIT_S if scenario.expected else HEALTHY_S
        while time.monotonic() - began_s < limit_s and not (
            scenario.expected and after_s.keys() >= scenario.expected and trouble.done()
        ):
            await asyncio.sleep(0.5)
            for alert in await asyncio.to_thread(firing, prometheus):
                after_s.setdefault(alert, round(time.monotonic() - began_s, 1))
        await trouble
    finally:
        await clients.stop()
    return Outcome(scenario=scenario.name, expected=sorted(scenario.expected), fired=sorted(after_s), after_s=after_s)


def firing(prometheus: Prometheus) -> set[str]:
    """Names of the alerts that fire now."""
    return {curve.labels["alertname"] for curve in prometheus.now('ALERTS{alertstate="firing"}')}


def outcomes(names: tuple[str, ...]) -> Iterator[Outcome]:
    """One scenario after the other, each with everything of its own."""
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    for scenario in tqdm(chosen, unit="scenario", desc="alerts"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rules = documents(folder, SHORT, RUNBOOK)
            for path, text in rules.items():
                path.write_text(text)
            with (
                running_cell(folder, scenario.cell) as cell,
                running_prometheus(
                    folder, cell.metrics, rules=sorted(rules), every="500ms", cell=scenario.cell.name
                ) as prometheus,
            ):
                yield asyncio.run(play(scenario, cell, prometheus))
                cell.thaw_workers()


@click.command()
@click.option("--scenario", "names", multiple=True, type=click.Choice([one.name for one in SCENARIOS]))
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Provoke alerts; the exit status says whether all was as expected."""
    wrong = 0
    for outcome in outcomes(names):
        wrong += not outcome.right
        if as_json:
            click.echo(json.dumps(asdict(outcome) | {"right": outcome.right}))
            continue
        fired = ", ".join(f"{alert} after {after_s} s" for alert, after_s in outcome.after_s.items()) or "none"
        click.echo(f"{'as expected' if outcome.right else 'WRONG':12} {outcome.scenario}: {fired}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
