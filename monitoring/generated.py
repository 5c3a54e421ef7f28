"""Files that are made from code and committed: written, or compared with what would be written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

CHART_FILES = Path(__file__).resolve().parent.parent / "deploy/chart/longtake/files"
"""Where dashboards and rules lie, in a checkout; compose and Prometheus read them there."""


def stale(wanted: Mapping[Path, str], folder: Path) -> list[Path]:
    """The files of `folder` that are missing, not as wanted, or not wanted at all."""
    present = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.*")}
    return sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))


def bring(wanted: Mapping[Path, str], folder: Path, *, check: bool) -> int:
    """Make `folder` hold what is wanted and nothing else, or only say what differs; returns an exit status."""
    old = stale(wanted, folder)
    for path in old:
        if check:
            sys.stderr.write(f"{path} is not what the code makes of it\n")
        elif path in wanted:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if check and old else 0
