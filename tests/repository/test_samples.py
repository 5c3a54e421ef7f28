"""What tests always take of many parameters has all that it must, and nothing is left out by both kinds of runs."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest

from tests.samples import covering, first

AXES = (range(5), "abc", (None, 1.5), (True, False))


def rows(found: list[Any], *, slow: bool) -> list[tuple[object, ...]]:
    return [each.values for each in found if bool(each.marks) is slow]


@pytest.mark.parametrize("together", [1, 2, 3])
def test_every_combination_of_so_many_values_is_in_a_row_that_is_always_taken(together: int) -> None:
    found = covering(*AXES, together=together)
    always = rows(found, slow=False)
    for chosen in combinations(range(len(AXES)), together):
        there = {tuple(row[axis] for axis in chosen) for row in always}
        assert there == set(product(*(AXES[axis] for axis in chosen)))
    assert len(always) < 60 and {*always, *rows(found, slow=True)} == set(product(*AXES))


def test_few_rows_are_enough() -> None:
    sizes = {together: len(rows(covering(*AXES, together=together), slow=False)) for together in (1, 2)}
    assert sizes == {1: 5, 2: 15}


def test_the_first_ones_are_always_taken_and_the_others_are_slow() -> None:
    taken: list[Any] = first(2, "abcd")
    assert taken[:2] == ["a", "b"]
    assert [(each.values, [mark.name for mark in each.marks]) for each in taken[2:]] == [
        (("c",), ["slow"]), (("d",), ["slow"]),
    ]  # fmt: skip
