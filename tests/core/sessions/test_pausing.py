"""Pause and play: what has begun is finished, nothing else begins, and the stream goes on where it was."""

from __future__ import annotations

from longtake.core.effects import Dispatch, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import Fault
from longtake.core.events import Close, Drain, Pause, Play
from longtake.core.openings import Opened
from longtake.core.work import SessionId
from tests.core.support.parts import geometry, recipe
from tests.core.support.world import Cell, effects_of

BLOCKS_4 = geometry().first_picture(4)


def test_pause_finishes_what_has_begun_and_play_goes_on() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=2)
    cell.answer()
    cell.send(Pause(now_s=0.0, session=session))
    cell.run()
    begun = len(cell.segments[session])
    assert 1 <= begun <= 2
    assert cell.scheduler.sessions()[0].blocks_begun == begun
    cell.send(Play(now_s=0.0, session=session))
    cell.run(acknowledge=False)
    assert len(cell.segments[session]) > begun


def test_a_stream_paused_before_it_is_open_begins_no_block_until_play() -> None:
    cell = Cell(recipe())
    session = cell.open("s", pictures=BLOCKS_4)
    cell.send(Pause(now_s=0.0, session=session))
    cell.run()
    assert effects_of(cell, Opened) and not effects_of(cell, Dispatch)
    cell.send(Play(now_s=0.0, session=session))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_a_block_that_waits_for_its_worker_does_not_begin_after_a_pause() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("first", window=30)
    cell.answer()
    session = cell.open("s", pictures=BLOCKS_4)
    cell.answer()
    assert cell.scheduler.workers()[1].ready
    cell.send(Pause(now_s=0.0, session=session))
    cell.send(Close(now_s=0.0, session=SessionId("first"), ending=Ending.CLIENT))
    cell.run()
    assert session not in cell.segments
    cell.send(Play(now_s=0.0, session=session))
    cell.run()
    assert cell.segments[session] == [0, 1, 2, 3]


def test_play_while_the_server_drains_is_refused() -> None:
    cell = Cell(recipe())
    session = cell.open("s")
    cell.answer()
    cell.send(Drain(now_s=0.0))
    cell.send(Play(now_s=0.0, session=session))
    assert effects_of(cell, RequestRefused)[0].problem.kind is Fault.WRONG_STATE
