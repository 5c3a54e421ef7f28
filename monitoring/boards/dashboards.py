"""The dashboards as Grafana's JSON.

`python -m monitoring.boards.dashboards [--check]` writes the files, or compares.

Their panels name metrics of monitoring.declarations, never strings, so that none can ask for what is not exported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monitoring.boards.panels import grafana
from monitoring.boards.tables import MEMORY, OVERVIEW, SESSIONS, THROUGHPUT, WORKERS
from monitoring.generated import CHART_FILES, bring

FOLDER = CHART_FILES / "dashboards"
DASHBOARDS = (OVERVIEW, THROUGHPUT, SESSIONS, MEMORY, WORKERS)
LINE_LENGTH = 120


def documents() -> dict[Path, str]:
    """What each generated file shall hold."""
    return {FOLDER / f"{one.uid.removeprefix('longtake-')}.json": written(grafana(one)) + "\n" for one in DASHBOARDS}


def written(value: object, indent: str = "") -> str:
    """The value as JSON for people: what fits on a line is written on one."""
    line = json.dumps(value, ensure_ascii=False)
    deeper = indent + " "
    match value:
        case _ if len(indent) + len(line) <= LINE_LENGTH:
            return line
        case dict():
            items = [f"{json.dumps(key)}: {written(each, deeper)}" for key, each in value.items()]
            left, right = "{}"
        case list():
            items = [written(each, deeper) for each in value]
            left, right = "[]"
        case _:
            return line
    return left + ",".join(f"\n{deeper}{item}" for item in items) + f"\n{indent}{right}"


def main(arguments: list[str]) -> int:
    """Write the files; with `--check`, only say by the exit status whether they are as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    return bring(documents(), FOLDER, check=parser.parse_args(arguments).check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
