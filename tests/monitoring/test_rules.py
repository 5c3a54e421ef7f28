"""Rules: fresh, accepted by promtool, and each alert fires where it should and is silent where it nearly would."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alerting.alerts import Severity, alerts
from monitoring.alerting.records import Records, TimeScale
from monitoring.alerting.rules import FOLDER, RUNBOOK, documents
from monitoring.boards.dashboards import DASHBOARDS
from monitoring.generated import stale
from tests.monitoring.alert_scenarios import HEALTHY, SCENARIOS, Scenario
from tests.monitoring.promtool import rules_for, run_promtool
from tests.programs import required
from tests.samples import first

ROOT = Path(__file__).resolve().parents[2]
ALERTS = {alert.name: alert for alert in alerts(Records(TimeScale()))}


@pytest.fixture
def promtool() -> str:
    return required("promtool")


def test_the_committed_rules_are_those_the_code_makes() -> None:
    assert stale(documents(FOLDER, TimeScale(), RUNBOOK), FOLDER) == []


def test_promtool_accepts_the_rules(promtool: str) -> None:
    command = [promtool, "check", "rules", *map(str, sorted(FOLDER.glob("*.yaml")))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == 2


def test_promtool_accepts_the_configuration_of_a_local_run(promtool: str) -> None:
    command = [promtool, "check", "config", str(ROOT / "monitoring/prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_names_of_records_and_alerts_are_unique_and_as_is_usual() -> None:
    groups = [group for path in FOLDER.glob("*.yaml") for group in yaml.safe_load(path.read_text())["groups"]]
    assert len({group["name"] for group in groups}) == len(groups)
    rules = [rule for group in groups for rule in group["rules"]]
    records = Counter((rule["record"], str(rule.get("labels"))) for rule in rules if "record" in rule)
    assert max(records.values()) == 1
    assert all(re.fullmatch(r"cell(_[a-z]+)?:longtake_[a-z_]+:[a-z0-9_]+", name) for name, _ in records)
    assert [rule["alert"] for rule in rules if "alert" in rule] == list(ALERTS)


def test_windows_shrink_together_and_thresholds_of_time_with_them() -> None:
    text = " ".join("".join(documents(FOLDER, TimeScale(1 / 60), RUNBOOK).values()).split())
    assert set(re.findall(r"\[([0-9a-z]+)\]", text)) == {"2s", "3s", "5s", "10s", "15s", "30s", "1m", "6m", "72m"}
    assert "for: 1s" in text
    assert "> 420)" in text
    assert ">= 17.36" in text  # blocks that one hour's windows must hold
    assert "cell:longtake_late_block:ratio1h" in text


# --- the runbook ----------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_has_a_section_of_the_runbook_and_every_section_of_that_kind_an_alert() -> None:
    assert {title for title in sections() if title.startswith("Longtake")} == ALERTS.keys()
    for name in ALERTS:
        for part in ("**Means.**", "**Look.**", "**Do.**", "**Ignore**"):
            assert part in sections()[name], f"{name}: {part}"
        assert f"`{ALERTS[name].severity.value}`" in sections()[name]


def test_the_links_of_alerts_lead_to_those_sections() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in sections()}
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        page, anchor = rule["annotations"]["runbook_url"].split("#")
        assert (ROOT / page).is_file()
        assert anchor in anchors


def test_the_runbook_names_only_dashboards_and_panels_that_exist() -> None:
    known = {panel.title for page in DASHBOARDS for panel in page.panels}
    known |= {"Overview", "Throughput", "Sessions", "Memory", "Workers"}
    named = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", (ROOT / "docs/runbook.md").read_text()))
    assert len(named) > 5
    assert named - known == set()


# --- scenarios ------------------------------------------------------------------------------------------------------


def judged(promtool: str, folder: Path, alert: str, step: str, scenarios: Iterable[Scenario]) -> str:
    """What promtool finds otherwise than the scenarios say."""
    rules = [str(rules_for(folder, alert))]
    tests = [group(scenario) for scenario in scenarios]
    order = [one["name"] for one in yaml.safe_load(Path(rules[0]).read_text())["groups"]]
    test = {"rule_files": rules, "evaluation_interval": step, "group_eval_order": order, "tests": tests}
    return run_promtool(promtool, folder, test)


def group(scenario: Scenario) -> dict[str, Any]:
    """One input and what is expected of it. Beside cell a there is a second one, which is always healthy."""
    series = dict(scenario.series)
    if scenario.step == "1m":
        series = {**HEALTHY, **series} | {name.replace('"a"', '"b"'): values for name, values in HEALTHY.items()}
    severity = ALERTS[scenario.alert].severity.value
    labels = {**scenario.labels, "severity": severity}
    expected = [{"labels": "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}", "value": 1}]
    question = f'max by (cell, severity) (ALERTS{{alertname="{scenario.alert}", alertstate="firing"}})'
    return {
        "name": scenario.says,
        "interval": scenario.step,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": question, "eval_time": scenario.at, "exp_samples": expected if scenario.fires else []}
        ],
    }


@pytest.mark.parametrize(("alert", "step"), sorted({(scenario.alert, scenario.step) for scenario in SCENARIOS}))
def test_alerts_fire_when_they_should_and_only_then(alert: str, step: str, promtool: str, tmp_path: Path) -> None:
    chosen = [scenario for scenario in SCENARIOS if (scenario.alert, scenario.step) == (alert, step)]
    assert judged(promtool, tmp_path, alert, step, chosen) == ""


@pytest.mark.parametrize("judged_at", first(8, sorted({(scenario.alert, scenario.step) for scenario in SCENARIOS})))
def test_a_scenario_that_ends_otherwise_is_seen(judged_at: tuple[str, str], promtool: str, tmp_path: Path) -> None:
    alert, step = judged_at
    chosen = [
        replace(scenario, fires=not scenario.fires)
        for scenario in SCENARIOS
        if (scenario.alert, scenario.step) == (alert, step)
    ]
    assert judged(promtool, tmp_path, alert, step, chosen).count("exp:") == len(chosen)


def test_every_alert_has_a_scenario_of_either_kind() -> None:
    kinds = {(scenario.alert, scenario.fires) for scenario in SCENARIOS}
    assert kinds == {(name, fires) for name in ALERTS for fires in (True, False)}


def test_a_healthy_cell_raises_no_alert(promtool: str, tmp_path: Path) -> None:
    test = {
        "rule_files": [str(path) for path in sorted(FOLDER.glob("*.yaml"), reverse=True)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in HEALTHY.items()],
                "promql_expr_test": [
                    {"expr": "ALERTS", "eval_time": "59m", "exp_samples": []},
                    # The rules saw the cell at all.
                    {
                        "expr": "cell:longtake_sessions:sum",
                        "eval_time": "59m",
                        "exp_samples": [{"labels": 'cell:longtake_sessions:sum{cell="a"}', "value": 10}],
                    },
                ],
            }
        ],
    }
    assert run_promtool(promtool, tmp_path, test) == ""


def test_pages_are_few() -> None:
    assert sum(alert.severity is Severity.PAGE for alert in ALERTS.values()) <= len(ALERTS) / 2
