"""docs/scaling.md: what a session takes of the engine's memory is what `longtake plan` computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longtake.cli.plan import model_of
from longtake.core.plan.model import retention, session_bytes
from workers.models import weights

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "scaling.md").read_text(encoding="utf-8")
POCKET = Path(weights.__file__).parents[2] / "pocket" / "weights"
TABLE = TEXT.partition("## Memory of the engine")[2].partition("\n## ")[0]
MODELS = re.findall(r"^\| `([a-z0-9.-]+)` \|", TABLE, flags=re.MULTILINE)


def journal_bytes(name: str) -> int:
    return session_bytes(model_of(str(POCKET) if name == "pocket" else name), value_bytes=2).journal


def megabytes(name: str) -> str:
    size = journal_bytes(name) / 1e6
    return f"{size:.{0 if size >= 10 else 2}f} MB"


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_what_the_plan_computes(name: str) -> None:
    kept = retention(model_of(str(POCKET) if name == "pocket" else name))
    assert f"| `{name}` | {kept.lane_blocks} | {kept.slot_blocks} | {megabytes(name)} |" in TABLE.splitlines()


def test_figures_beside_the_table_are_of_it() -> None:
    assert len(MODELS) == 6
    assert f"takes {43 * journal_bytes('wan-hiar-480p') / 1e9:.0f} GB of its\nhost" in TABLE
    operations = (DOCS / "operations.md").read_text(encoding="utf-8")
    assert f"{megabytes('wan-hiar-480p')} for each\n480p session" in operations
    assert f"{megabytes('wan-self-forcing-480p')} with a recipe of clean context" in operations
