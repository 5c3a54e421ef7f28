"""A block that should have left is late while it has not; none is without a running clock, or without credit."""

from __future__ import annotations

from longtake.core.effects import Emit
from longtake.core.endings import Ending
from longtake.core.events import Close, Pause, Play
from longtake.core.facts import Overdue
from longtake.core.flow import Pace
from longtake.core.work import SessionId, WorkerId
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell, effects_of

S = SessionId("s")


def playing(pace: Pace = Pace.REALTIME) -> Cell:
    """A stream of which two segments have left in time; its denoise worker does nothing more then."""
    cell = timed_cell(0.01)
    cell.open(S, pace=pace, window=4)
    cell.answer()
    while len(effects_of(cell, Emit)) < 2:
        cell.steps(1)
    cell.stuck = {WorkerId("denoise-0"), WorkerId("decode-0")}
    return cell


def tick(cell: Cell, seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        cell.later(0.05)


def test_a_block_is_overdue_once_and_from_its_due_time_on() -> None:
    cell = playing()
    block = cell.scheduler.inspect(S).emitted
    due_s = cell.scheduler.inspect(S).flow.due_s(block, geometry=cell.geometry)
    tick(cell, due_s - cell.now_s - 0.1)
    assert effects_of(cell, Overdue) == []
    tick(cell, 10.0)
    assert effects_of(cell, Overdue) == [Overdue(session=S, block=block, due_s=due_s)]
    cell.stuck.clear()
    while effects_of(cell, Emit)[-1].block < block:
        cell.steps(1)
    tick(cell, 10.0)
    assert [late.block for late in effects_of(cell, Overdue)][:2] == [block, block + 1]


def test_nothing_is_overdue_in_a_pause_after_the_end_or_without_a_clock() -> None:
    cell = playing()
    cell.send(Pause(now_s=cell.now_s, session=S))
    tick(cell, 10.0)
    cell.send(Play(now_s=cell.now_s, session=S))
    tick(cell, 10.0)  # no segment has started the clock again
    assert effects_of(cell, Overdue) == []
    for ended in (playing(), playing(Pace.FAST)):
        ended.send(Close(now_s=ended.now_s, session=S, ending=Ending.CLIENT, reason=""))
        tick(ended, 10.0)
        assert effects_of(ended, Overdue) == []


def test_a_client_that_gives_no_credit_is_late_by_its_own_fault() -> None:
    cell = timed_cell(0.01)
    cell.open(S, pace=Pace.REALTIME, window=1)
    cell.answer()
    for _ in range(2000):
        for name in cell.busy:
            cell.finish(name)
        cell.later(0.01)
    assert cell.scheduler.inspect(S).emitted == 1
    assert effects_of(cell, Overdue) == []
