"""The threat model is held to the code: its tests exist, and its table of rights is the one that is enforced."""

from __future__ import annotations

import re
from pathlib import Path

from cluster.access.callers import LONGTAKE, RIGHTS, CallerRole

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_a_threat_names_exists() -> None:
    threats = TEXT[TEXT.index("## Threats") :]
    rows = [row for row in threats.splitlines() if row.startswith("| ") and not row.startswith("| asset ")]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.split(" | ")[-1])
        assert named, f"no test in: {row}"
        for path, name in named:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{path} has no {name}"


def test_the_table_of_rights_is_the_one_that_is_enforced() -> None:
    rows = re.findall(r"^\| (\w+) \| (yes|–) \| (yes|–) \| (yes|–) \|$", TEXT, re.MULTILINE)
    told = {
        LONGTAKE + method: {role for role, may in zip(CallerRole, marks, strict=True) if may == "yes"}
        for method, *marks in rows
    }
    assert told == {method: set(roles) for method, roles in RIGHTS.items() if method.startswith(LONGTAKE)}
