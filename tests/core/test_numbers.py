"""Free numbers: handed out as from a stack of all of them, without a stack of all of them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.events import WorkerJoined
from longtake.core.fleet.worker import Worker
from longtake.core.numbers import FreeNumbers
from longtake.core.work import Ability, Role, WorkerId


@given(st.integers(0, 6), st.lists(st.integers(0, 9), max_size=40))
def test_it_is_a_stack_with_the_smallest_on_top(size: int, choices: list[int]) -> None:
    free, stack, taken = FreeNumbers(size), [*reversed(range(size))], []
    for choice in choices:
        if choice < 5 and stack:
            taken.append(free.take())
            assert taken[-1] == stack.pop()
        elif taken:
            number = taken.pop(choice % len(taken))
            free.give_back(number)
            stack.append(number)
        assert len(free) == len(stack) and sorted(free) == sorted(stack)
    if not stack:
        with pytest.raises(IndexError):
            free.take()


@pytest.mark.parametrize("role", [Role.DENOISE, Role.DECODE])
def test_a_worker_of_a_hundred_million_pages_or_slots_joins_as_quickly_as_a_small_one(role: Role) -> None:
    made = Worker(WorkerJoined(now_s=0.0, worker=WorkerId("w"), role=role, ability=Ability(capacity=100_000_000)))
    assert made.free == 100_000_000
    held = (made.pool, made.free_slots)
    assert sum(map(sys.getsizeof, held)) < 1000, "nothing is written down of what was never taken"
