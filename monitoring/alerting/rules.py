"""Recording rules and alerts as Prometheus reads them.

`python -m monitoring.alerting.rules [--check]` writes the files, or compares.

`--runbook URL` sets what the alerts' `runbook_url` begins with, by default the repository's own docs/runbook.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from monitoring.alerting.alerts import Alert, alerts
from monitoring.alerting.records import Record, Records, TimeScale
from monitoring.generated import CHART_FILES, bring

FOLDER = CHART_FILES / "rules"
RUNBOOK = "docs/runbook.md"
_HEADER = "# Made by `python -m monitoring.alerting.rules`; do not edit.\n"


def documents(folder: Path, times: TimeScale, runbook: str) -> dict[Path, str]:
    """What each generated file in `folder` shall hold."""
    records = Records(times)
    recording = _group("longtake-records", [_record(record) for record in records])
    alerting = _group("longtake-alerts", [_alert(alert, times, runbook) for alert in alerts(records)])
    return {folder / "records.yaml": recording, folder / "alerts.yaml": alerting}


def _group(name: str, rules: list[dict[str, object]]) -> str:
    document = {"groups": [{"name": name, "rules": rules}]}
    return _HEADER + yaml.safe_dump(document, sort_keys=False, width=120)


def _record(record: Record) -> dict[str, object]:
    rule: dict[str, object] = {"record": record.name, "expr": record.query.text}
    return rule | {"labels": dict(record.labels)} if record.labels else rule


def _alert(alert: Alert, times: TimeScale, runbook: str) -> dict[str, object]:
    rule: dict[str, object] = {"alert": alert.name, "expr": alert.query.text}
    if alert.for_s:
        rule["for"] = times.text(alert.for_s)
    return rule | {
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbook}#{alert.name.lower()}",
        },
    }


def main(arguments: list[str]) -> int:
    """Write the files; with `--check`, only say by the exit status whether they are as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--runbook", default=RUNBOOK, help="what runbook_url begins with")
    asked = parser.parse_args(arguments)
    return bring(documents(FOLDER, TimeScale(), asked.runbook), FOLDER, check=asked.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
