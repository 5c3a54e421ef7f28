"""A clock that does not count its owner's own pauses."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.awake import LATE_S, TURN_S, Awake


def looked(*at_s: float) -> list[float]:
    """What the clock says at each look."""
    awake = Awake(0.0)
    return [awake.look(now_s) for now_s in at_s]


def test_turns_in_time_count_as_they_are() -> None:
    assert looked(0.25, 0.5, 0.9, 1.4) == pytest.approx([0.25, 0.5, 0.9, 1.4])


def test_a_pause_counts_nothing_and_the_turn_after_it_does() -> None:
    assert looked(0.25, 10.25, 10.5) == pytest.approx([0.25, 0.25, 0.5])


def test_two_pauses_with_a_turn_between_count_that_turn() -> None:
    assert looked(7.0, 7.25, 14.25, 14.5) == pytest.approx([0.0, 0.25, 0.25, 0.5])


def test_an_owner_that_is_always_late_still_gets_on() -> None:
    assert looked(*(0.8 * turn for turn in range(1, 22)))[-1] == pytest.approx(20 * TURN_S)


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=50))
def test_no_look_counts_more_than_passed_nor_more_than_a_late_turn(steps_s: list[float]) -> None:
    at_s = list(accumulate(steps_s, initial=100.0))
    passes_s = [after - before for before, after in pairwise(at_s)]
    awake, said = Awake(at_s[0]), [0.0]
    for now_s, passed_s in zip(at_s[1:], passes_s, strict=True):
        said.append(awake.look(now_s))
        assert awake.lasted_s == said[-1]
        assert 0.0 <= said[-1] - said[-2] <= min(passed_s, LATE_S) + 1e-9
    late = [passed_s > LATE_S for passed_s in passes_s]
    counted = [after - before for before, after in pairwise(said)]
    assert all(not step for was, now, step in zip([False, *late], late, counted, strict=False) if now and not was)
