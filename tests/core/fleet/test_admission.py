"""Who gets in: live streams while every worker keeps 5 % of its time, others while there are pages."""

from __future__ import annotations

import pytest

from longtake.core.effects import Refused
from longtake.core.endings import Ending
from longtake.core.errors import Lack, Problem
from longtake.core.events import Ack, Close
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Ask, Room
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.sessions.life import State
from longtake.core.work import Role, SessionId, WorkerId
from tests.core.support.parts import recipe
from tests.core.support.timed import join_timed, timed_cell
from tests.core.support.world import Cell, effects_of

BLOCK_S = 0.75


def admitted(cell: Cell, count: int, pace: Pace = Pace.REALTIME) -> int:
    """How many of `count` streams are let in."""
    for number in range(count):
        cell.open(f"{pace.value}-{number}", pace=pace)
    return count - len(effects_of(cell, Refused))


@pytest.mark.parametrize(
    ("level", "forwards"), [(Level.OUTPUT, 8), (Level.CLEAN, 5), (Level.INPUT, 4)]
)  # fmt: skip
def test_live_streams_are_let_in_up_to_95_percent_of_the_rate(level: Level, forwards: int) -> None:
    exactly_nineteen = 0.95 * BLOCK_S / forwards / 19
    assert admitted(timed_cell(exactly_nineteen * 0.9999, level=level), 30) == 19
    assert admitted(timed_cell(exactly_nineteen * 1.0001, level=level), 30) == 18


def test_the_slowest_resource_decides_be_it_the_decoder() -> None:
    assert admitted(timed_cell(0.001, decode_s=0.3), 9) == 2


def test_lanes_go_where_time_is_left() -> None:
    """A worker that is four times slower gets a quarter of the lanes."""
    cell = timed_cell(0.01, 0.04)
    assert admitted(cell, 5) == 5
    lanes = {worker.id: worker.load.realtime for worker in cell.fleet if worker.role is Role.DENOISE}
    assert lanes == {"denoise-0": 16, "denoise-1": 4}


def test_bulk_streams_reserve_nothing_and_leave_the_reserve_alone() -> None:
    cell = timed_cell(0.045)
    assert admitted(cell, 5, Pace.FAST) == 5
    assert admitted(cell, 5) == 5 - 4


def test_a_refusal_says_why_in_numbers_and_when_to_come_again() -> None:
    cell = timed_cell(0.08)
    cell.open("first", pace=Pace.REALTIME, pictures=12 * 40)
    cell.open("second", pace=Pace.REALTIME)
    (refused,) = effects_of(cell, Refused)
    assert refused.problem.message == (
        "No room for another live stream: denoise-0 has 10 % of its time free, each of its 4 lanes takes 21 %. "
        "Try again in 31 s, or choose pace fast."
    )
    about = refused.problem.about
    assert refused.problem.kind is Lack.TIME and isinstance(about, Scarcity) and about.fast_instead
    assert about.retry_after_s == pytest.approx(41 * BLOCK_S, abs=0.06)
    assert about.shortage is not None and (about.shortage.of, about.shortage.unit) == ("denoise-0", "share of time")
    assert (about.shortage.needed, about.shortage.free) == pytest.approx((0.16 / BLOCK_S, 0.95 - 0.64 / BLOCK_S))


def refusal(cell: Cell) -> Problem:
    """What a further live stream is told."""
    cell.open("last", pace=Pace.REALTIME)
    return effects_of(cell, Refused)[-1].problem


def test_the_decoder_is_named_where_it_has_no_time() -> None:
    cell = timed_cell(0.001, decode_s=0.43 * BLOCK_S)
    assert admitted(cell, 2) == 2
    assert refusal(cell).message == (
        "No room for another live stream: decode-0 has 9 % of its time free, one takes 43 %. "
        "Try again in 5 s, or choose pace fast."
    )
    join_timed(cell, "decode-1", Role.DECODE, 0.43 * BLOCK_S)
    for number in range(2):
        cell.open(f"further-{number}", pace=Pace.REALTIME)
        assert SessionId(f"further-{number}") in cell.there
    assert "decode-0, the best of 2, has 9 % of its time free" in refusal(cell).message


def test_lanes_that_would_fit_are_told_of() -> None:
    """Of 19 % each five fit, and a stream has four."""
    cell = timed_cell(0.07125, decode_s=0.001)
    cell.open("first", pace=Pace.REALTIME)
    assert "with 1 of its 4 lanes denoise-0 has 0 % of its time free" in refusal(cell).message


def test_a_stream_that_no_worker_is_fast_enough_for_is_not_asked_to_come_again() -> None:
    cell = timed_cell(0.01, decode_s=1.43 * BLOCK_S)
    problem = refusal(cell)
    assert problem.message == (
        "No room for another live stream, even if it were alone: decode-0 has 95 % of its time free, one takes 143 %. "
        "Choose pace fast."
    )
    assert isinstance(problem.about, Scarcity) and problem.about.retry_after_s is None
    assert problem.about.fast_instead
    cell.open("fast", pace=Pace.FAST)
    assert SessionId("fast") in cell.there, "as it was told"


def test_as_many_sessions_as_may_be_is_said_with_their_number() -> None:
    cell = Cell(recipe(), limits=Limits(max_sessions=2, max_queued=0))
    assert admitted(cell, 2) == 2
    problem = refusal(cell)
    assert problem.message == (
        "No room for another live stream: 2 are open, as many as may be (limits.max_sessions). Try again in 5 s."
    )
    shortage = Shortage(of="cell", unit="sessions", needed=1, free=0, limit=2)
    assert problem.about == Scarcity(retry_after_s=5.0, shortage=shortage), "nor could it wait"


def test_a_stream_that_ends_gives_its_time_back() -> None:
    cell = timed_cell(0.08)
    first = cell.open("first", pace=Pace.REALTIME)
    cell.send(Close(now_s=0.0, session=first, ending=Ending.CLIENT))
    assert admitted(cell, 1) == 1
    cell.scheduler.check()


def test_what_workers_report_replaces_what_they_said_on_joining() -> None:
    cell = timed_cell(0.0)
    cell.open("first", pictures=9, pace=Pace.FAST)
    cell.answer()
    worker = WorkerId("denoise-0")
    for _ in range(4):
        cell.finish(worker, seconds=0.08)
    assert cell.scheduler.workers()[1].op_s == pytest.approx(0.08)
    assert admitted(cell, 3) == 1


def test_one_hiccup_hardly_moves_the_average() -> None:
    cell = timed_cell(0.1)
    worker = cell.worker("denoise-0")
    for _ in range(100):
        worker.timing.fold(0.1)
    worker.timing.fold(0.3)
    assert worker.timing.op_s == pytest.approx(0.1, rel=0.04)
    for _ in range(300):
        worker.timing.fold(0.2)
    assert worker.timing.op_s == pytest.approx(0.2, rel=0.01)


def test_a_worker_nobody_has_measured_is_taken_to_be_like_the_others() -> None:
    assert admitted(timed_cell(0.08, 0.0), 3) == 2


def test_lanes_that_reserve_nothing_go_where_each_gets_most_of_the_time_left() -> None:
    """a has 0.8 left for one bulk lane, b 0.4 for none, its two lanes being live ones."""
    rooms = {
        WorkerId("a"): Room(free=9, lanes=2, realtime=1, fast=1, lane_share=0.2, even_share=0.2),
        WorkerId("b"): Room(free=9, lanes=2, realtime=2, lane_share=0.3, even_share=0.3),
    }
    assert Ranking(rooms).place(Ask(count=3, limit=0.95)) == ("a", "b", "a")
    unmeasured = {WorkerId("a"): Room(free=9, lanes=2, fast=2), WorkerId("b"): Room(free=9)}
    assert Ranking(unmeasured).place(Ask(count=4)) == ("b", "b", "a", "b")


def test_an_acknowledgement_is_no_reason_to_count_twice() -> None:
    cell = timed_cell(0.08)
    session = cell.open("first", pace=Pace.REALTIME, pictures=21)
    cell.answer()
    while cell.busy and not cell.segments:
        for worker in cell.busy:
            cell.finish(worker)
    cell.send(Ack(now_s=0.0, session=session, segment=0))
    assert cell.worker("denoise-0").load.realtime == 4


def test_a_packed_class_keeps_each_session_on_one_worker_while_one_has_room() -> None:
    made = recipe()
    lanes = 6
    cell = Cell(made, limits=Limits(packed=frozenset({Pace.FAST})), denoisers=2, pages=lanes * made.page_count)
    for name in ("a", "b", "c"):
        cell.open(name)
    homes = {session.id: set(session.place.lanes) for session in cell.records}
    assert len(homes[SessionId("a")]) == len(homes[SessionId("b")]) == 1
    assert homes[SessionId("a")] != homes[SessionId("b")], "the least loaded"
    assert len(homes[SessionId("c")]) == 2, "two lanes are left on either worker"


def test_other_classes_are_spread() -> None:
    cell = Cell(recipe(), limits=Limits(packed=frozenset({Pace.FAST})), denoisers=4)
    session = cell.open("live", pace=Pace.REALTIME)
    assert len(set(cell.session(session).place.lanes)) == 4


def test_what_sessions_may_be_rebuilt_from_is_counted_when_they_are_let_in() -> None:
    probe = Cell(recipe(), limits=Limits(max_queued=0))
    one = probe.open("s")
    own_bytes = probe.scheduler.cell.fleet.journal_bytes(probe.session("s"))
    assert one in probe.there and own_bytes > 0
    cell = Cell(recipe(), limits=Limits(journal_bytes=max(1 << 20, 2 * own_bytes), max_queued=1))
    room = cell.limits.journal_bytes // own_bytes
    for number in range(room):
        cell.open(f"s{number}", pace=Pace.FAST, pictures=9)
    cell.open("live", pace=Pace.REALTIME)
    problem = effects_of(cell, Refused)[-1].problem
    assert (
        problem.kind is Lack.JOURNAL
        and "the journal has 0.0 MB of 1.1 MB free (limits.journal_bytes), one takes 0.5 MB" in problem.message
    )
    assert isinstance(problem.about, Scarcity) and problem.about.shortage is not None
    assert problem.about.shortage.needed == own_bytes > problem.about.shortage.free
    late = cell.open("late", pace=Pace.FAST, pictures=9)
    assert cell.session("late").state is State.QUEUED
    cell.run()
    assert cell.closed[late].ending is Ending.COMPLETED, "it had its turn"
