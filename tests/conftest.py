"""For all tests: what was skipped for want of a program is said in one line at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.programs import absent, line


def pytest_addoption(parser: pytest.Parser) -> None:
    told = (
        "leave what was skipped for want of programs in this file; `python -m tests.programs` says it for several runs"
    )
    parser.addoption("--absent", metavar="FILE", type=Path, help=told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    counts = absent(reasons)
    file: Path | None = config.getoption("--absent")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(counts))
    elif counts:
        terminalreporter.write_line(line(counts), yellow=True, bold=True)
