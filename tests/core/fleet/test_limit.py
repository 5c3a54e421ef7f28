"""The limit of a cell: the least of what its denoise and its decode workers can do, with the name of who that is."""

from __future__ import annotations

import pytest

from longtake.core.events import Open, WorkerLost
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.work import DecoderKind, Role, SegmentSettings, SessionId, WorkerId
from tests.core.support.timed import decoding_cell, join_timed, timed_cell
from tests.core.support.world import Cell

FORWARDS = 8


def limits(cell: Cell) -> dict[Role, float | None]:
    return {stage.role: stage.blocks_per_s for stage in cell.scheduler.cell.limit.stages}


def told(cell: Cell) -> tuple[float, str] | None:
    """The limit of the cell to three places, and whose it is."""
    least = cell.scheduler.cell.limit.least
    return None if least is None or least.blocks_per_s is None else (round(least.blocks_per_s, 3), least.name)


def test_each_role_can_do_the_sum_of_its_workers_and_the_least_is_the_cells() -> None:
    cell = timed_cell(0.1, 0.05, decode_s=0.02)
    assert limits(cell) == pytest.approx({Role.DENOISE: (10 + 20) / FORWARDS, Role.DECODE: 50.0})
    assert told(cell) == (3.75, "2 denoise workers")


def test_the_only_decoder_is_named_where_it_can_do_less() -> None:
    """The denoise workers alone would make it seem a quarter full."""
    cell = timed_cell(0.01, 0.01, decode_s=0.3)
    assert told(cell) == (3.333, "decode-0")
    join_timed(cell, "decode-1", Role.DECODE, 0.3)
    assert told(cell) == (6.667, "2 decode workers")
    cell.send(WorkerLost(now_s=0.0, worker=WorkerId("decode-1"), reason="gone"))
    assert told(cell) == (3.333, "decode-0")


def test_the_recipe_says_how_often_a_block_is_forwarded() -> None:
    assert limits(timed_cell(0.1, level=Level.CLEAN))[Role.DENOISE] == pytest.approx(10 / 5)


def test_a_worker_of_unknown_time_is_taken_to_be_like_the_others_and_a_role_of_unknown_time_leaves_it_open() -> None:
    assert limits(timed_cell(0.1, 0.0))[Role.DENOISE] == pytest.approx(2 * 10 / FORWARDS)
    unknown = timed_cell(0.1, decode_s=0.0)
    assert limits(unknown) == {Role.DENOISE: pytest.approx(10 / FORWARDS), Role.DECODE: None}
    assert told(unknown) is None


def test_without_a_worker_nothing_can_be_made() -> None:
    cell = timed_cell(0.1)
    cell.send(WorkerLost(now_s=0.0, worker=WorkerId("decode-0"), reason="gone"))
    assert told(cell) == (0.0, "no decode workers")


def test_what_workers_report_counts_more_than_what_they_said_on_joining() -> None:
    cell = timed_cell(0.1, decode_s=0.1)
    for _ in range(500):
        cell.scheduler.cell.fleet.measured(cell.worker("decode-0"), 0.4, 1)
    assert limits(cell)[Role.DECODE] == pytest.approx(1 / 0.4, rel=0.01)


@pytest.mark.parametrize(("kinds", "cost"), [("full", 1.0), ("tiny", 0.1), ("full tiny", 0.55), ("", 1.0)])
def test_a_decoder_does_more_blocks_of_streams_that_chose_the_tiny_one(kinds: str, cost: float) -> None:
    cell = decoding_cell(0.3, 0.03)
    for number, kind in enumerate(kinds.split()):
        settings = SegmentSettings(codec="raw", quality=0, decoder=DecoderKind(kind))
        cell.send(
            Open(now_s=0.0, session=SessionId(f"s{number}"), prompt="p", seed=1, pace=Pace.REALTIME, window=4,
                 picture_limit=None, settings=settings)
        )  # fmt: skip
    assert limits(cell)[Role.DECODE] == pytest.approx(1 / (0.3 * cost))


def test_the_time_that_is_reserved_is_told_of_each_worker() -> None:
    """8 forwards of 45 ms in 0.75 s are 0.48 of a worker, a decode of 0.15 s is 0.2."""
    cell = timed_cell(0.045, decode_s=0.15)
    cell.open("fast", pace=Pace.FAST)
    assert {view.worker: view.reserved for view in cell.scheduler.workers()} == {"denoise-0": 0.0, "decode-0": 0.0}
    cell.open("live", pace=Pace.REALTIME)
    reserved = {view.worker: view.reserved for view in cell.scheduler.workers()}
    assert reserved == pytest.approx({"denoise-0": 0.48, "decode-0": 0.2})
