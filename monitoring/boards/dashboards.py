"""The dashboards as Grafana's JSON.

`python -m monitoring.boards.dashboards [--check]` writes the files, or compares.

Their panels name metrics of monitoring.declarations, never strings, so that none can ask for what is not exported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monitoring.boards.device_boards import MEMORY, WORKERS
from monitoring.boards.panels import grafana
from monitoring.boards.stream_boards import SESSIONS, THROUGHPUT
from monitoring.generated import bring

FOLDER = Path(__file__).parent.parent / "dashboards"
DASHBOARDS = (THROUGHPUT, SESSIONS, MEMORY, WORKERS)


def documents() -> dict[Path, str]:
    """What each generated file shall hold."""
    return {
        FOLDER / f"{one.uid.removeprefix('longtake-')}.json": json.dumps(grafana(one), indent=2) + "\n"
        for one in DASHBOARDS
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say by the exit status whether they are as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    return bring(documents(), FOLDER, check=parser.parse_args(arguments).check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
