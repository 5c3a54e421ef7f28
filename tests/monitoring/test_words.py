"""One word for each notion, and units in the names: of metrics, on dashboards, in alerts and wherever pace is told."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from longtake.core.flow import Pace
from monitoring.declarations import METRICS, Instrument, Metric

ROOT = Path(__file__).resolve().parents[2]
OTHER_WORDS = re.compile(r"(?i)\b(live (stream|block|session|open)s?|bulk|interactive|cinema)\b|pace=\\?\"(live|bulk)")
"""What pace was called once; a refusal says `another live stream`, in the words of whoever watches."""
OPTION = "--interactive"
REFUSAL = "No room for another live stream"
SAYS_PACE = (
    *("README.md", "CHANGELOG.md", "cluster/config.py", "protos/longtake/v1/longtake.proto", "docs/protocol.md"),
    *("docs/operations.md", "docs/runbook.md", "docs/models.md", "docs/scaling.md", "docs/architecture.md"),
    *(
        "longtake/cli/plan.py",
        "longtake/cli/plan_rows.py",
        "longtake/core/plan/plan.py",
        "longtake/core/plan/sharing.py",
    ),
    *("monitoring/declarations.py", "monitoring/boards/tables.py", "monitoring/alerting/alerts.py"),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "deploy/chart/longtake/files").rglob("*.*"))),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "deploy/config").glob("*.toml"))),
)
UNITS = ("_seconds", "_bytes", "_per_second", "_ratio")
COUNTED = (
    *("sessions", "sessions_limit", "watchers", "workers", "workers_expected", "prompts_waiting", "pages"),
    *("decoder_slots", "ready_ops", "in_flight_passes", "pass_ops", "client_lag_segments", "forwards_per_block"),
    *("engine_inbox_events", "numerics_classes", "draining", "info", "disk_journal_trouble", "audit_trouble"),
    *("started", "worker_info"),
)
"""Gauges and histograms of things that are counted: their names end in what they count, or say a state."""


def other_words(text: str) -> list[str]:
    return [found[0] for found in OTHER_WORDS.finditer(" ".join(text.split()).replace(REFUSAL, "").replace(OPTION, ""))]


@pytest.mark.parametrize("name", SAYS_PACE)
def test_pace_has_one_word_wherever_somebody_reads_of_it(name: str) -> None:
    text = (ROOT / name).read_text()
    if name == "CHANGELOG.md":  # which says what the old words were
        text = re.sub(r"`[^`]*`|LongtakeRefusingLive", "", text)
    assert other_words(text) == []


def test_other_words_for_pace_are_seen() -> None:
    assert other_words('sum(x{pace="live"})') and other_words("stop bulk work") and other_words("Live\nstreams wait")
    assert not other_words(f"{REFUSAL}: decode-0 is full; live with it")


def defects(metric: Metric) -> list[str]:
    """What is not as Prometheus' conventions have it."""
    base = metric.name.removesuffix("_total")
    found = []
    if (metric.instrument is Instrument.COUNTER) != metric.name.endswith("_total"):
        found.append("_total is for counters, and all of them")
    if re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|mib|percent|rate)(_|$)", base):
        found.append("no base unit")
    known = base.removeprefix("longtake_") in COUNTED or base.endswith((*UNITS, "_sessions"))
    if metric.instrument is not Instrument.COUNTER and not known:
        found.append("no unit")
    if "image" in base:
        found.append("an image is a picture to whoever reads it")
    return found if metric.help.endswith(".") else [*found, "no sentence"]


def test_every_metric_is_named_after_what_it_counts_in_base_units() -> None:
    assert {metric.name: defects(metric) for metric in METRICS if defects(metric)} == {}
    assert defects(Metric("longtake_picture_rate", Instrument.GAUGE, (), "Pictures.")) == ["no base unit", "no unit"]
    assert defects(Metric("longtake_images_total", Instrument.COUNTER, (), "Copies.")) != []
    assert defects(Metric("longtake_opens", Instrument.COUNTER, (), "Opens.")) != []


def test_a_label_has_one_meaning() -> None:
    """Who bears `role` means one of the three, who bears `op` one of the ops; no other metric says so otherwise."""
    bearers: dict[str, set[str]] = defaultdict(set)
    for metric in METRICS:
        for label in metric.labels:
            bearers[label].add(metric.name)
    assert bearers["op"] == {"longtake_ops_total"}
    assert {"longtake_op_seconds", "longtake_limit_blocks_per_second", "longtake_workers"} <= bearers["role"]
    assert {pace.value for pace in Pace} == {"realtime", "fast"} and len(bearers["pace"]) > 10
