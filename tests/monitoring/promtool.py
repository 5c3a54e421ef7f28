"""Alerts of the rules, judged by promtool: on series that a test makes up, or on what was scraped from a server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from monitoring.alerting.rules import FOLDER


def rules_for(folder: Path, alert: str) -> Path:
    """A file with one alert and the records that it uses: promtool evaluates all that there are, which takes long."""
    files = (folder_file.read_text() for folder_file in sorted(FOLDER.glob("*.yaml"), reverse=True))
    records, alerting = (yaml.safe_load(text)["groups"][0] for text in files)
    alerting["rules"] = [rule for rule in alerting["rules"] if rule["alert"] == alert]
    records["rules"] = [rule for rule in records["rules"] if rule["record"] in alerting["rules"][0]["expr"]]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [group for group in (records, alerting) if group["rules"]]}))
    return path


def run_promtool(promtool: str, folder: Path, test: Mapping[str, Any]) -> str:
    """What promtool has against a unit test of rules; empty: nothing."""
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    command = [promtool, "test", "rules", str(folder / "test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def firing(promtool: str, folder: Path, alert: str, pages: Sequence[str]) -> list[int]:
    """After which of these pages of /metrics, scraped a second apart, the alert fires, by number."""
    rules = rules_for(folder, alert)
    question = f'max by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
    never = [{"expr": question, "eval_time": f"{number}s", "exp_samples": []} for number in range(len(pages))]
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1s",
        "group_eval_order": [one["name"] for one in yaml.safe_load(rules.read_text())["groups"]],
        "tests": [{"interval": "1s", "input_series": _series(pages), "promql_expr_test": never}],
    }
    found = re.findall(r"time: (?:([0-9]+)m)?([0-9]+)s,", run_promtool(promtool, folder, test))
    return [60 * int(minutes or 0) + int(seconds) for minutes, seconds in found]


def _series(pages: Sequence[str]) -> list[dict[str, str]]:
    """The samples of all pages, as promtool's input: a value for each page, or none."""
    values: dict[str, list[str]] = {}
    for number, page in enumerate(pages):
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                row = values.setdefault(f"{sample.name}{{{labels}}}", ["_"] * len(pages))
                row[number] = repr(sample.value)
    return [{"series": series, "values": " ".join(row)} for series, row in values.items()]
