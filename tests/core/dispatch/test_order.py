"""What runs when: the op order, what travels between ops, credit, the playback clock, and equal shares."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.effects import RequestRefused
from longtake.core.errors import Fault
from longtake.core.events import Ack, Tick
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.work import DecodeWork, WorkerId
from tests.core.support.parts import geometry, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, effects_of, forwards_of

BLOCKS_4 = geometry().first_picture(4)


def test_the_cell_fails_when_an_edge_of_the_op_order_is_dropped() -> None:
    cell = Cell(recipe(), denoisers=4)
    graph = cell.scheduler.cell.graphs[""]
    graph.chains = tuple(
        replace(chain, needs=tuple(need for need in chain.needs if not need.is_input)) for chain in graph.chains
    )
    cell.open("s", pictures=BLOCKS_4)
    with pytest.raises(AssertionError, match="was dispatched before"):
        cell.run()


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("denoisers", [1, 2, 4])
def test_latents_travel_only_where_the_lane_does_not_hold_them(level: Level, denoisers: int) -> None:
    cell = Cell(recipe(level), denoisers=denoisers)
    cell.open("s", pictures=BLOCKS_4)
    cell.run()
    kinds = {(work.kind, work.step): type(work.input).__name__ for work in forwards_of(cell)}
    denoise = [kinds[Kind.DENOISE, step] for step in range(4)]
    later = "FromLane" if level is Level.CLEAN else "FromLatent"
    assert denoise == ["FromNoise", later, later, later]
    assert {name for (kind, _), name in kinds.items() if kind is Kind.COMMIT} == (
        set() if level is Level.INPUT else {"FromLane"}
    )


def test_a_worker_that_denoises_sends_before_it_commits() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("s", pictures=BLOCKS_4)
    cell.run()
    order = [(work.kind, work.step) for work in forwards_of(cell) if work.block == 0]
    assert order.index((Kind.DENOISE, 0)) < order.index((Kind.COMMIT, 0))


def test_without_credit_a_session_stops_after_its_window_and_others_go_on() -> None:
    cell = Cell(recipe())
    silent = cell.open("silent", window=3)
    other = cell.open("other", pictures=BLOCKS_4, window=3)
    for _ in range(2000):
        cell.answer()
        if not cell.busy:
            break
        done = cell.finish(cell.busy[0])
        if isinstance(done.work, DecodeWork) and done.work.session == other and other not in cell.closed:
            cell.send(Ack(now_s=0.0, session=other, segment=done.work.block))
    assert cell.segments[silent] == [0, 1, 2]
    assert cell.segments[other] == [0, 1, 2, 3]
    cell.send(Ack(now_s=0.0, session=silent, segment=0))
    while cell.busy:
        cell.finish(cell.busy[0])
    assert cell.segments[silent] == [0, 1, 2, 3]


@pytest.mark.parametrize("segment", [-1, 3, 10**9])
def test_an_acknowledgement_of_the_future_is_refused_and_grants_nothing(segment: int) -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Ack(now_s=0.0, session=session, segment=segment))
    assert effects_of(cell, RequestRefused)[-1].problem.kind is Fault.INVALID
    assert not cell.busy


def test_equal_sessions_share_the_workers_equally() -> None:
    cell = Cell(recipe(), denoisers=2)
    names = [cell.open(f"s{number}", window=30) for number in range(3)]
    cell.answer()
    cell.steps(600)
    late = cell.open("late", window=30)
    cell.answer()
    before = {name: cell.session(name).virtual_time for name in names}
    cell.steps(400)
    served = {name: cell.session(name).virtual_time - before[name] for name in names}
    late_served = sum(1 for _, op in cell.done if _ == late and op.kind is not Kind.DECODE)
    assert max(served.values()) - min(served.values()) <= 4
    assert abs(late_served - min(served.values())) <= 8


@pytest.mark.parametrize(
    ("denoisers", "streams", "batch_limit"), [(1, 12, 4), (1, 12, 8), pytest.param(2, 24, 8, marks=pytest.mark.slow)]
)
def test_equal_sessions_share_workers_equally_where_a_batch_holds_some_of_them(
    denoisers: int, streams: int, batch_limit: int
) -> None:
    """What a session lags behind its batch mates stays its credit, also while nothing of it is in flight."""
    cell = Cell(recipe(), denoisers=denoisers, decoders=3, batch_limit=batch_limit, pages=4000, slots=64)
    names = [cell.open(f"s{number}", window=30) for number in range(streams)]
    cell.answer()
    cell.steps(1200 * denoisers)
    made = [len(cell.segments[name]) for name in names]
    assert max(made) - min(made) <= 2 < min(made)


def test_realtime_runs_at_most_a_window_ahead_of_the_playback_clock() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=2, pace=Pace.REALTIME)
    cell.run()
    assert cell.segments[session] == [0, 1, 2], "block 0 on the screen and a window of two ahead of it"
    first_due = float(geometry().time_s(geometry().first_picture(1)))
    cell.now_s = first_due - 0.01
    cell.send(Tick(now_s=cell.now_s))
    assert not cell.busy
    cell.now_s = first_due + 0.01
    cell.send(Tick(now_s=cell.now_s))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_a_stream_with_deadlines_goes_before_one_without() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("bulk", window=30)
    cell.answer()
    for _ in range(40):
        cell.finish(cell.busy[0])
    live = cell.open("live", window=2, pace=Pace.REALTIME)
    cell.answer()
    order = [works_of(cell.finish(WorkerId("denoise-0")))[0].session for _ in range(10)]
    assert order[2:] == [live] * 8, "after the running and the queued dispatch"
