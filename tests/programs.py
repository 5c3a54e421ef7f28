"""Programs that some tests need and that pip does not bring: who has them, and which tests were skipped without them.

`python -m tests.programs FILE ...` says in one line what several runs of pytest wrote with `--absent FILE`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

PACKAGES: Mapping[str, str] = {
    "chromium": "chromium",
    "g++": "g++",
    "npm": "npm",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
"""The package of Debian that has a program."""
_INSTALLERS = {"Debian's package": "apt-get install", "package": "pip install"}
_REASON = re.compile(r"is not installed \((Debian's package|package) ([^\s)]+)\)")


def why(program: str) -> str:
    """The reason for which a test is skipped where a program is absent."""
    return f"{program} is not installed (Debian's package {PACKAGES[program]})"


def required(program: str) -> str:
    """Where a program is; without it the test that asks is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(why(program))
    return found


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test where a program is absent."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=why(program))


def absent(reasons: Iterable[str]) -> Counter[str]:
    """How many tests each command that installs something would bring, of the reasons why tests were skipped."""
    found = (_REASON.search(reason) for reason in reasons)
    return Counter(f"{_INSTALLERS[match[1]]} {match[2]}" for match in found if match)


def line(counts: Mapping[str, int]) -> str:
    """One sentence on what to install for how many tests; empty if nothing is absent."""
    commands: dict[str, list[str]] = {}
    for command, tests in sorted(counts.items()):
        installer, _, package = command.rpartition(" ")
        commands.setdefault(installer, []).append(f"{package} ({tests})")
    total = sum(counts.values())
    said = "; ".join(f"{installer} {' '.join(packages)}" for installer, packages in commands.items())
    return f"{total} {'test was' if total == 1 else 'tests were'} skipped for want of programs: {said}" if total else ""


def main(files: list[str]) -> int:
    """Print the line of several runs; those that wrote no file skipped nothing."""
    counts = Counter[str]()
    for file in map(Path, files):
        if file.exists():
            counts.update(json.loads(file.read_text()))
    if counts:
        print(line(counts))  # noqa: T201  # what it is for
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
