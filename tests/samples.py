"""Which of many parameters a test always takes; it takes the others among the slow tests.

A storm of one seed finds mostly what one of another seed finds; and where several things are varied at once, what is
wrong shows in a pair of them, or in one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import TypeVar

import pytest

Value = TypeVar("Value")


def first(count: int, values: Iterable[Value]) -> list[object]:
    """All of them, of which so many are always taken."""
    return [value if number < count else pytest.param(value, marks=pytest.mark.slow) for number, value in
            enumerate(values)]  # fmt: skip


def covering(*axes: Iterable[object], together: int = 2) -> list[object]:
    """The product of some axes, of which as many rows are always taken as have every so many values `together`.

    With 1 every value of each axis is in some row, with 2 every pair of values of two axes.
    """
    rows = list(product(*axes))
    taken = set(_cover(rows, together))
    return [pytest.param(*row, marks=() if row in taken else pytest.mark.slow) for row in rows]


def _cover(rows: list[tuple[object, ...]], together: int) -> Iterator[tuple[object, ...]]:
    """The row that has most of what is still wanted, again and again."""
    has = {row: set(combinations(enumerate(row), together)) for row in rows}
    wanted = set().union(*has.values())
    while wanted:
        best = max(rows, key=lambda row: len(has[row] & wanted))
        wanted -= has[best]
        yield best
