"""The pinned dependencies against the known advisories: `python -m deploy.audit`, or `make audit`.

Fails for a pin with a known vulnerability. A service that cannot be asked would look like one that knows of none, so
one old pin, which has advisories, is asked for as well: where nothing is known of that, the audit is skipped, and says
so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "constraints.txt"
CANARY = ("jinja2", "2.4.1")
"""A version with many advisories, the oldest of 2014."""
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is known of one pin."""

    name: str
    version: str
    advisories: tuple[str, ...] = ()
    skipped: str = ""
    """Why nothing could be learned."""


def findings(report: str) -> tuple[Finding, ...]:
    """What pip-audit's JSON says; ValueError if it is none."""
    return tuple(
        Finding(
            name=item["name"],
            version=item.get("version", ""),
            advisories=tuple(sorted(found["id"] for found in item.get("vulns", ()))),
            skipped=item.get("skip_reason", ""),
        )
        for item in json.loads(report)["dependencies"]
    )


def ask(pins: Path, options: Sequence[str]) -> tuple[Finding, ...]:
    """What is known of every pin of a file; nothing at all if the service cannot be asked."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(pins), "--no-deps", "--disable-pip", "-f", "json"]
    command += ["--progress-spinner", "off", *options]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    try:
        return findings(asked.stdout)
    except ValueError:
        return ()


def verdict(canary: Sequence[Finding], pins: Sequence[Finding]) -> tuple[int, list[str]]:
    """Exit status and what to say."""
    if not any(found.advisories for found in canary):
        return 0, [f"audit skipped: nothing is known of {'=='.join(CANARY)}, so the advisory service cannot be asked"]
    lines = [f"{found.name}=={found.version}: {', '.join(found.advisories)}" for found in pins if found.advisories]
    lines += [f"not audited: {found.name}: {found.skipped}" for found in pins if found.skipped]
    audited = [found for found in pins if not found.skipped]
    vulnerable = [found for found in audited if found.advisories]
    if not audited:
        return 1, [*lines, "no pin was audited"]
    lines.append(f"{len(audited)} of {len(pins)} pins audited, {len(vulnerable)} with known vulnerabilities")
    return bool(vulnerable), lines


def main() -> int:
    """Exit status of the audit."""
    parser = argparse.ArgumentParser(prog="python -m deploy.audit", description="Audit the pinned dependencies.")
    parser.add_argument("--pins", type=Path, default=PINS, help="a requirements file of exact versions")
    parser.add_argument("options", nargs="*", help="for pip-audit, after --: -s osv --osv-url URL …")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "canary.txt"
        old.write_text(f"{'=='.join(CANARY)}\n")
        status, lines = verdict(ask(old, given.options), ask(given.pins, given.options))
    sys.stdout.write("\n".join(lines) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
