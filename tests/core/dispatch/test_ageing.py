"""Sessions without due times get their share of a worker that realtime streams would fill, and no more of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.effects import Dispatch
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.work import DecodeWork, WorkerId
from tests.core.support.parts import works_of
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell, effects_of

SHARE = 1 - Limits().load_limit
SAID_S = 0.002
"""What the worker says that a forward takes, so that more streams are let in than it can serve."""


def crowd(live: int, fast: int, window: int = 1000) -> Cell:
    """One denoise worker with so many streams of each pace; `window` is that of the live ones."""
    cell = timed_cell(SAID_S, decode_s=1e-6)
    for number in range(live):
        cell.open(f"live-{number}", pace=Pace.REALTIME, window=window)
    for number in range(fast):
        cell.open(f"fast-{number}", pace=Pace.FAST, window=1000)
    cell.answer()
    return cell


def paces(cell: Cell, true_s: float, count: int) -> list[tuple[float, bool]]:
    """When forwards begin on a worker that takes so long for each, and whether a fast stream has a part in it."""
    found = []
    for _ in range(count):
        for name in cell.busy:
            if name != WorkerId("denoise-0"):
                cell.finish(name)
        cell.later(true_s)
        before = len(effects_of(cell, Dispatch))
        cell.finish(WorkerId("denoise-0"), seconds=true_s)
        for dispatch in effects_of(cell, Dispatch)[before:]:
            if not isinstance(dispatch.work, DecodeWork):
                found.append((cell.now_s, any(work.session.startswith("fast") for work in works_of(dispatch))))
    return found


@settings(max_examples=5, deadline=None)  # a second each
@given(live=st.integers(4, 12), fast=st.integers(1, 4), true_s=st.sampled_from([0.3, 0.5, 1.0]))
def test_beside_streams_that_are_always_late_every_wait_is_bounded_and_so_is_the_share(
    live: int, fast: int, true_s: float
) -> None:
    cell = crowd(live, fast)
    paces(cell, true_s, 80)  # what it said of itself is forgotten
    began = paces(cell, true_s, 150)
    fast_s = [at_s for at_s, has_part in began if has_part]
    longest_s = max(after_s - before_s for before_s, after_s in pairwise(fast_s))
    assert longest_s <= (1 / SHARE + 2) * true_s * 1.05, "twenty dispatches, and two that are there already"
    assert len(fast_s) <= (SHARE * 1.1) * len(began) + 1, "what may be reserved stays with those that reserved it"


def test_where_there_is_time_nobody_with_a_due_time_waits_for_those_without() -> None:
    """G5: one running dispatch, one queued."""
    cell = crowd(live=2, fast=2, window=2)
    began = paces(cell, SAID_S, 200)
    assert sum(has_part for _, has_part in began) > 0.5 * len(began), "most of the time is theirs"


def test_a_worker_whose_time_nobody_knows_owes_nothing() -> None:
    cell = timed_cell(0.0)
    cell.open("fast", pace=Pace.FAST)
    assert not cell.worker(WorkerId("denoise-0")).owes_share(limit=0.95, now_s=1e9)
