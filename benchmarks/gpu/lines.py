"""Facts as lines of JSON, each on the disk before the next step begins, and the table made of them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

TABLE_CHARACTERS = 10_900
_WIDTHS = (600, 300, 220, 180, 140, 110, 90, 70)
"""Characters that a line of the table may have, tried in turn until the table is short enough."""


def plain(value: object) -> object:
    """What JSON can hold: floats of six digits and none that is infinite, text for whatever is unknown to it."""
    match value:
        case float():
            return float(f"{value:.6g}") if math.isfinite(value) else str(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case str() | int() | None:
            return value
        case _:
            return str(value)


def append(file: Path, phase: str, what: str, fields: dict[str, object]) -> None:
    """Write one fact; it is on the disk when this returns. Fields that are None are left out."""
    line = {"phase": phase, "what": what, **{name: value for name, value in fields.items() if value is not None}}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(plain(line)) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def read(file: Path) -> list[dict[str, object]]:
    """All facts of a file; a last line that was cut short is left out."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def reason(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def table(facts: list[dict[str, object]]) -> str:
    """All facts for people, a line each, at most TABLE_CHARACTERS in all; errors are never shortened away."""
    rows = [_row(fact) for fact in sorted(facts, key=lambda fact: "error" not in fact)]
    text = ""
    for width in _WIDTHS:
        text = "\n".join(row if len(row) <= width else row[: width - 1] + "~" for row in rows)
        if len(text) <= TABLE_CHARACTERS:
            return text
    return text[: TABLE_CHARACTERS - 40] + "\n~ the rest is in facts.jsonl"


def _row(fact: dict[str, object]) -> str:
    fields = {name: value for name, value in fact.items() if name not in ("phase", "what")}
    return f"{fact['phase']} | {fact['what']} | " + " ".join(
        f"{name}={_shown(value)}" for name, value in fields.items()
    )


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "NO"
        case float():
            return f"{value:.4g}"
        case dict():
            return "{" + " ".join(f"{key}:{_shown(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + " ".join(_shown(item) for item in value) + "]"
        case _:
            return str(value)
