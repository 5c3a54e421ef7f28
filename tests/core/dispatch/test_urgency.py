"""What runs first: deadlines less the way that is left, and a ready list whose cost does not grow with its length."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.fleet.ready import ReadyList, Urgency
from longtake.core.flow import Flow, Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import SessionId, Ticket, WorkerId
from tests.core.support.parts import geometry
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell

T_S, V_S = 0.05, 0.02


def deadline_s(cell: Cell, kind: Kind, step: int, block: int) -> float:
    return cell.scheduler.cell.urgency(cell.scheduler.cell, Ticket(SessionId("s"), Op(kind, step, block))).deadline_s


def test_the_deadline_of_an_op_leaves_time_for_all_that_must_follow_it() -> None:
    """D(s,n): due(n) - (S-1-s) t - v; C(s,n): due(n+1) - (S-s) t - v; V(n): due(n)."""
    cell = timed_cell(T_S, T_S, decode_s=V_S)
    session = cell.open("s", pace=Pace.REALTIME)
    cell.answer()
    record = cell.session(session)
    record.flow = record.flow.played(0, now_s=10.0, geometry=geometry())
    due_s = [10.0, 10.0 + 9 / 16, 10.0 + 21 / 16]
    for step in range(4):
        assert abs(deadline_s(cell, Kind.DENOISE, step, 1) - (due_s[1] - (3 - step) * T_S - V_S)) < 1e-9
        assert abs(deadline_s(cell, Kind.COMMIT, step, 1) - (due_s[2] - (4 - step) * T_S - V_S)) < 1e-9
    assert abs(deadline_s(cell, Kind.DECODE, 0, 1) - due_s[1]) < 1e-9


def test_at_level_clean_the_one_commit_leaves_time_for_all_steps_of_the_next_block() -> None:
    cell = timed_cell(T_S, decode_s=V_S, level=Level.CLEAN)
    session = cell.open("s", pace=Pace.REALTIME)
    cell.answer()
    record = cell.session(session)
    record.flow = record.flow.played(0, now_s=10.0, geometry=geometry())
    assert abs(deadline_s(cell, Kind.DENOISE, 1, 0) - (10.0 - 2 * T_S - V_S)) < 1e-9
    assert abs(deadline_s(cell, Kind.COMMIT, 0, 0) - (10.0 + 9 / 16 - 4 * T_S - V_S)) < 1e-9


def test_a_slow_worker_on_the_way_makes_the_ops_before_it_urgent() -> None:
    cell = timed_cell(T_S, 3 * T_S, decode_s=V_S)
    session = cell.open("s", pace=Pace.REALTIME)
    cell.answer()
    slow = cell.session(session).place.lanes[1:].count(WorkerId("denoise-1"))
    rest_s = deadline_s(cell, Kind.DECODE, 0, 0) - deadline_s(cell, Kind.DENOISE, 0, 0)
    assert slow
    assert abs(rest_s - (slow * 3 * T_S + (3 - slow) * T_S + V_S)) < 1e-9


def test_a_stream_without_a_playback_clock_is_expected_one_block_after_it_began() -> None:
    flow = Flow(window=4, pace=Pace.REALTIME).started(0, now_s=5.0, geometry=geometry())
    assert flow.due_s(0, geometry=geometry()) == 5.0 + 9 / 16
    resumed = flow.played(7, now_s=9.0, geometry=geometry()).stopped().started(8, now_s=100.0, geometry=geometry())
    assert resumed.due_s(8, geometry=geometry()) == 100.75
    assert Flow(window=4, pace=Pace.FAST).started(0, now_s=5.0, geometry=geometry()).due_s(
        0, geometry=geometry()
    ) == float("inf")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_heap_yields_what_a_search_of_the_whole_list_would(seed: int) -> None:
    """Ops come, become less urgent, are offered again and leave in any order."""
    draw = random.Random(seed)
    made, now = ReadyList(), {}
    for number in range(draw.randint(1, 200)):
        match draw.choice(["add", "ease", "press", "take", "drop"]):
            case "add":
                key = Ticket(SessionId(f"s{number % 5}"), Op(Kind.DENOISE, 0, number))
                now[key] = Urgency(float(draw.randint(0, 9)), 0.0, number, False, 0)
                made.put(key, now[key])
            case "ease" if now:
                key = draw.choice(list(now))
                now[key] = now[key]._replace(deadline_s=now[key].deadline_s + 3)
            case "press" if now:
                key = draw.choice(list(now))
                now[key] = now[key]._replace(deadline_s=now[key].deadline_s - 3)
                made.put(key, now[key])
            case "take" if now:
                key = made.most_urgent(now.__getitem__)
                assert now[key] == min(now.values())
                made.drop(key)
                del now[key]
            case "drop":
                gone = SessionId(f"s{number % 5}")
                made.drop_session(gone)
                now = {key: value for key, value in now.items() if key.session != gone}
            case _:
                pass
        assert set(made) == set(now)
        assert made.heap_length <= 2 * len(made) + 65


def test_an_op_that_is_offered_again_and_again_does_not_fill_the_heap() -> None:
    made = ReadyList()
    for number in range(500):
        made.put(Ticket(SessionId("s"), Op(Kind.DENOISE, 0, 0)), Urgency(-float(number), 0.0, 0, False, 0))
        assert made.heap_length <= 2 * len(made) + 65


def test_of_equally_urgent_ops_the_first_to_be_ready_goes_first() -> None:
    made, same = ReadyList(), Urgency(1.0, 0.0, 0, False, 0)
    for name in ("b", "a", "c"):
        made.put(Ticket(SessionId(name), Op(Kind.DENOISE, 0, 0)), same)
    assert made.most_urgent(lambda _: same).session == "b"
