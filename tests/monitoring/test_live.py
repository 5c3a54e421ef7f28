"""Every panel and every rule, asked of a real Prometheus that scrapes a real server under load: none has no answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.busy_cell import Cell, Clients, Running, running_cell
from benchmarks.prometheus import Curve, Prometheus, running_prometheus
from monitoring.alerting.records import Records, TimeScale
from monitoring.alerting.rules import RUNBOOK, documents
from monitoring.boards.dashboards import DASHBOARDS
from monitoring.boards.panels import SEEN
from tests.programs import required

EVERY = "500ms"
SHORT = TimeScale(1 / 60)
"""Five minutes are five seconds."""
pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]
LIMIT_S = 150.0
MAY_LACK = {
    "overview: Left of 30 days' allowance",
    "overview: Tickets that fire",
    "workers and server: Certificates end in",
    "workers and server: Certificates are valid since",
}
"""Lines that need not be there: nothing is wrong enough for a ticket, the cell has no certificates and is too young."""
MAY_REST = {
    "overview: Share of late blocks",
    "sessions and SLO: Late blocks of realtime streams",
    "sessions and SLO: Realtime streams that are late",
    "sessions and SLO: Realtime blocks with fewer steps",
    "throughput: Lanes renewed",
    "sessions and SLO: Lines that are missing",
    "sessions and SLO: Audit log in trouble",
    "sessions and SLO: Calls not let in",
    "sessions and SLO: Sessions whose clients are away",
    "sessions and SLO: Encoding a prompt oldest that waits",
    "sessions and SLO: Prompts that wait for text workers",
    "memory and paging: On disk kept",
    "memory and paging: On disk waiting to be written",
    "memory and paging: Oldest write that waits",
    "memory and paging: Latents left out",
    "memory and paging: In trouble",
    "memory and paging: Taken over, and made otherwise taken over",
    "memory and paging: Taken over, and made otherwise made otherwise",
    "workers and server: Failed dispatches and preparations",
    "workers and server: Draining",
    "workers and server: Events that wait",
}
"""Lines that are there and need not leave zero under this load, in a cell without a journal on disk."""
BY_LOSS = {
    "overview: Pages that fire",
    "workers and server: Lost and joined lost",
    "workers and server: Lost and joined joined",
    "sessions and SLO: Sessions that lack a part of their state",
    "sessions and SLO: Whole again after a loss",
    "sessions and SLO: Time until whole again median",
    "sessions and SLO: Time until whole again 95 %",
}
"""Lines that leave zero when workers are lost, and not before."""


def concrete(query: str) -> str:
    """A panel's query with the dashboard's variables filled in."""
    return query.replace("$__rate_interval", "5s").replace("$namespace", "").replace("$cell", "busy")


QUERIES = {
    f"{page.title.removeprefix('Longtake: ')}: {panel.title} {line.note}".strip(): concrete(line.query.text)
    for page in DASHBOARDS
    for panel in page.panels
    for line in panel.lines
}
RECORDS = {
    f"{record.name}{dict(record.labels) or ''}": record.series.text
    + "".join(f'{{{label}="{value}"}}' for label, value in record.labels.items())
    for record in Records(SHORT)
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What Prometheus knew after the load."""

    answers: dict[str, list[Curve]]
    rules: list[dict[str, Any]]
    killed: int
    segments: int


async def drive(cell: Running, prometheus: Prometheus) -> Seen:
    """Load of every kind until everything that can be asked has an answer, or too long."""
    began_s = time.time()
    while not await asyncio.to_thread(prometheus.targets_up):  # what grew before the first scrape nobody sees grow
        await asyncio.sleep(0.1)
    clients = Clients(cell.address)
    clients.live(5)
    clients.sleepers(1, asleep_s=2.5)
    clients.slow(1, silent_s=2.5)
    try:
        await clients.until_opened(7)  # bulk streams would take their places
        clients.bulk(3, pictures=600)
        clients.bulk(4, pictures=60)
        clients.observers(1)
        await clients.until_opened(10)
        clients.live(2)  # for which there is no decoder slot left
        before = {name: query for name, query in (QUERIES | RECORDS).items() if name not in BY_LOSS | MAY_LACK}
        await until_answered(prometheus, before, MAY_REST | RECORDS.keys(), began_s)
        killed = cell.kill_workers()
        rules = await until_active(prometheus, "LongtakeStreamsWaitForRoom", began_s)
        await until_answered(prometheus, {name: QUERIES[name] for name in BY_LOSS}, set(), began_s)
        answers = await asyncio.to_thread(ask, prometheus, QUERIES | RECORDS, began_s)
        control = await asyncio.to_thread(ask, prometheus, {"misspelt": "rate(longtake_bloks_total[5s])"}, began_s)
        assert control == {"misspelt": []}
    finally:
        await clients.stop()
    return Seen(answers, rules, killed, clients.segments)


async def until_answered(prometheus: Prometheus, questions: dict[str, str], may_rest: Set[str], began_s: float) -> None:
    """Wait until all have an answer that left zero, but for those that may rest, or too long."""
    while questions and time.time() < began_s + LIMIT_S:
        await asyncio.sleep(1.0)
        answers = await asyncio.to_thread(ask, prometheus, questions, began_s)
        done = {name for name in questions if answers[name] and (name in may_rest or moved(answers[name]))}
        questions = {name: query for name, query in questions.items() if name not in done}


async def until_active(prometheus: Prometheus, alert: str, began_s: float) -> list[dict[str, Any]]:
    """All rules as they are while this alert is active; or at last, if it never is."""
    rules: list[dict[str, Any]] = []
    while time.time() < began_s + LIMIT_S:
        rules = await asyncio.to_thread(prometheus.rules)
        if any(rule["name"] == alert and rule["alerts"] for rule in rules):
            break
        await asyncio.sleep(0.3)
    return rules


def ask(prometheus: Prometheus, questions: dict[str, str], began_s: float) -> dict[str, list[Curve]]:
    """What Prometheus knows since the beginning."""
    return {name: prometheus.over(query, began_s, time.time(), 0.5) for name, query in questions.items()}


def moved(curves: list[Curve]) -> bool:
    """Whether a line ever left zero."""
    return any(value for curve in curves for _, value in curve.points)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    required("prometheus")
    folder = tmp_path_factory.mktemp("live")
    rules = documents(folder, SHORT, RUNBOOK)
    for path, text in rules.items():
        path.write_text(text)
    with (
        running_cell(folder, Cell()) as cell,
        running_prometheus(folder, cell.metrics, rules=sorted(rules), every=EVERY, cell="busy") as prometheus,
    ):
        yield asyncio.run(drive(cell, prometheus))


def test_what_is_said_of_panels_is_said_of_some_that_there_are() -> None:
    assert QUERIES.keys() >= MAY_REST | BY_LOSS


def test_the_load_was_one(seen: Seen) -> None:
    assert seen.killed == 1  # simulated workers share a process
    assert seen.segments > 50


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in MAY_LACK])
def test_every_panel_has_something_to_show(name: str, seen: Seen) -> None:
    assert seen.answers[name], QUERIES[name]
    assert name in MAY_REST or moved(seen.answers[name]), QUERIES[name]


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_computed(name: str, seen: Seen) -> None:
    assert seen.answers[name], RECORDS[name]


def test_no_rule_fails(seen: Seen) -> None:
    assert [(rule["name"], rule["lastError"]) for rule in seen.rules if rule["health"] != "ok"] == []
    assert len(seen.rules) == sum(
        len(text.split("- alert:")) + len(text.split("- record:")) - 2 for text in rule_texts()
    )


def test_alerts_say_which_cell_and_how_much(seen: Seen) -> None:
    active = [alert for rule in seen.rules for alert in rule.get("alerts", ())]
    assert "LongtakeStreamsWaitForRoom" in {alert["labels"]["alertname"] for alert in active}
    for alert in active:
        assert alert["labels"]["cell"] == "busy"
        for text in alert["annotations"].values():
            assert "<" not in text, text  # Prometheus writes <error …> and <no value> into what it cannot fill in


def test_what_is_shown_is_what_was_done(seen: Seen) -> None:
    """Figures that can be reckoned from the load."""
    shown = {name: [value for curve in curves for _, value in curve.points] for name, curves in seen.answers.items()}
    assert max(shown["throughput: Forwards of a block"]) == 8
    assert max(shown["workers and server: Joined expected"]) == 3
    assert max(shown["overview: Cells that answer"]) == 1  # a scrape may come too late on a busy machine
    assert len(seen.answers["workers and server: Where workers run"]) == 4  # a decode worker, too
    assert {curve.labels["device"] for curve in seen.answers["overview: Devices"]} == {"simulated"}
    assert max(shown["workers and server: Joined"]) == 3
    assert max(shown["sessions and SLO: Places in use"]) <= 1
    assert min(shown["memory and paging: Pages in use"]) >= 0
    assert max(shown["memory and paging: Pages in use"]) <= 1


def rule_texts() -> list[str]:
    return list(documents(Path(), SHORT, RUNBOOK).values())


def test_the_variables_of_dashboards_are_filled_in() -> None:
    assert "$" not in "".join(QUERIES.values())
    assert SEEN.window in "".join(
        line.query.text for page in DASHBOARDS for panel in page.panels for line in panel.lines
    )
