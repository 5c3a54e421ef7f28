"""What is lost: a worker takes its own sessions along and no other, and a place is free when nothing names it."""

from __future__ import annotations

import pytest

from longtake.core.effects import Dispatch, Notice, Parked, Recovered, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Lack
from longtake.core.events import Close
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import Continuity, Role, SessionId, WorkerId
from tests.core.support.parts import geometry, op_of, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, effects_of

BLOCKS_4 = geometry().first_picture(4)


def test_a_worker_that_is_lost_and_comes_back_owes_nothing_to_who_still_waits_for_another() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", window=3)
    cell.answer()
    cell.finish(WorkerId("denoise-0"))
    assert cell.queues[WorkerId("denoise-1")]
    cell.lose(WorkerId("denoise-0"))
    cell.send(Close(now_s=0.0, session=session, ending=Ending.CLIENT))
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 100)
    while cell.busy:
        cell.finish(cell.busy[0])
    assert cell.scheduler.sessions() == ()
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_a_lost_worker_ends_nobody_and_what_it_held_goes_to_others() -> None:
    cell = Cell(recipe(Level.CLEAN), denoisers=2)
    struck, spared = (cell.open(name, pictures=geometry().first_picture(12)) for name in ("struck", "spared"))
    cell.answer()
    assert [s.place.lanes for s in cell.records] == [("denoise-0",), ("denoise-1",)]
    for _ in range(30):
        cell.finish_and_acknowledge(cell.busy[0])
    cell.lose(WorkerId("denoise-0"))
    assert [s.place.lanes for s in cell.records] == [("denoise-1",), ("denoise-1",)]
    assert not effects_of(cell, Parked) and not effects_of(cell, Recovered)
    cell.run()
    assert {cell.closed[name].ending for name in (struck, spared)} == {Ending.COMPLETED}
    (told,) = effects_of(cell, Recovered)
    assert (told.session, told.continuity) == (struck, Continuity.EXACT)
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_pages_of_a_closed_session_are_reused_only_after_its_last_op_has_reported() -> None:
    cell = Cell(recipe(), denoisers=1, pages=36, limits=Limits(max_queued=0))
    first = cell.open("first")
    cell.answer()
    cell.send(Close(now_s=0.0, session=first, ending=Ending.CLIENT))
    assert first in cell.closed
    cell.open("second")
    assert isinstance(effects_of(cell, Refused)[0].problem.kind, Lack)
    while cell.busy:
        cell.finish(cell.busy[0])
    cell.open("third", pictures=BLOCKS_4)
    cell.run()
    assert len(cell.segments[SessionId("third")]) == 4


def failing(cell: Cell, session: SessionId) -> Op:
    """The next op of the session that counts fails; returns it."""
    while True:
        cell.answer()
        worker = cell.busy[0]
        (work,) = works_of(cell.queues[worker][0])
        if work.session == session and (session, op_of(work)) not in cell.void:
            cell.fail(worker, session)
            return op_of(work)
        cell.finish_and_acknowledge(worker)


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("finished", [0, 1, 7, 20, 33])
def test_an_op_that_fails_is_tried_once_more_elsewhere(level: Level, finished: int) -> None:
    cell = Cell(recipe(level), denoisers=2)
    session = cell.open("s", pictures=geometry().first_picture(8))
    cell.answer()
    cell.steps(finished)
    op = failing(cell, session)
    assert effects_of(cell, Notice)
    cell.run()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert cell.segments[session] == list(range(8))
    tried = [d.worker for d in effects_of(cell, Dispatch) if op in map(op_of, works_of(d))]
    assert len(tried) == 2
    assert tried[0] != tried[1] or op.kind is Kind.DECODE, "there is one decode worker"
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_an_op_that_fails_twice_ends_its_session_with_the_reason_and_frees_its_place() -> None:
    cell = Cell(recipe(), denoisers=1)
    bad, good = cell.open("bad"), cell.open("good", pictures=BLOCKS_4)
    cell.answer()
    first = failing(cell, bad)
    cell.answer()
    assert failing(cell, bad) == first
    cell.run()
    assert (cell.closed[bad].ending, cell.closed[bad].reason) == (Ending.FAILED, "no memory")
    assert cell.closed[good].ending is Ending.COMPLETED
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
