"""Values on the command line: times in, and what others wrote out."""

from __future__ import annotations

from fractions import Fraction

import pytest

from longtake.cli.values import parse_time, shown


def test_times() -> None:
    known = {
        "20": 20,
        "1:30": 90,
        "1:00:00.5": Fraction(7201, 2),
        "20s": 20,
        "1h": 3600,
        "1m30s": 90,
        "250ms": Fraction(1, 4),
        "1.5s": Fraction(3, 2),
        "1h1m1s": 3661,
    }
    assert {text: parse_time(text) for text in known} == known
    for text in ("", "1:60", "1:2:3:4", "٣", "1_0", "s", "-1s", "1s ", "1d", "1s2", "1e3s"):
        with pytest.raises(ValueError, match="a time such as"):
            parse_time(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a red ball\nffff  running", r"a red ball\nffff  running"),
        ("a\u202eb\x1b[2Jc", r"a\u202eb\x1b[2Jc"),
        ("größer 🔴", "größer 🔴"),
        ("x" * 70, "x" * 59 + "…"),
    ],
)
def test_what_others_wrote_is_one_line_that_moves_nothing(text: str, line: str) -> None:
    assert shown(text) == line
