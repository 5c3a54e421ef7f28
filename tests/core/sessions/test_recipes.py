"""Several recipes in one cell: each session runs by its own, and all share workers, pages and forwards."""

from __future__ import annotations

import pytest

from longtake.core.effects import Dispatch, Refused
from longtake.core.endings import Ending
from longtake.core.events import Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.work import DecodeWork, Fork, SessionId
from tests.core.support.parts import SETTINGS, geometry, recipe
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell, effects_of, forwards_of

OTHERS = {
    "clean": recipe(Level.CLEAN),
    "quick": recipe(steps=2),
    "wide": recipe(window=15),
    "input": recipe(Level.INPUT),
}
BLOCKS = 7
PICTURES = geometry().first_picture(BLOCKS)


@pytest.mark.parametrize("batch_limit", [1, 8])
@pytest.mark.parametrize("denoisers", [1, 3])
def test_sessions_of_five_recipes_run_side_by_side_each_by_its_own(denoisers: int, batch_limit: int) -> None:
    """The cell checks every dispatch against the graph of its session, and every page against what was computed."""
    cell = Cell(recipe(), denoisers=denoisers, batch_limit=batch_limit, others=OTHERS)
    for number in range(2):
        for name in ("", *OTHERS):
            cell.open(f"{name}{number}", pictures=PICTURES, recipe=name)
    cell.run()
    assert {closed.ending for closed in cell.closed.values()} == {Ending.COMPLETED} and len(cell.closed) == 10
    counts = {name: sum(work.session == f"{name}0" for work in forwards_of(cell)) for name in ("", *OTHERS)}
    # D and C of every block, without the commits of the last.
    assert counts == {"": 52, "clean": 34, "quick": 26, "wide": 52, "input": 28}
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_ops_of_two_recipes_share_a_forward_where_their_shapes_are_equal() -> None:
    cell = Cell(recipe(), denoisers=1, batch_limit=8, others=OTHERS)
    for name in ("", "clean", "wide"):
        cell.open(f"s-{name}", pictures=PICTURES, recipe=name)
    cell.run()
    batches = [dispatch.work for dispatch in effects_of(cell, Dispatch) if not isinstance(dispatch.work, DecodeWork)]
    together = [{work.session for work in batch} for batch in batches]
    assert any({"s-", "s-clean"} <= sessions for sessions in together)
    full = [batch for batch in batches if any(len(work.pages.reads) == 15 for work in batch)]
    assert full and all({work.session for work in batch} == {"s-wide"} for batch in full)


def test_a_lane_of_another_recipe_reserves_the_time_that_it_takes() -> None:
    """By hand, 50 ms an op and 0.75 s a block: 0.53 of a device by default, half of it for two steps, 0.33 clean."""
    cell = timed_cell(0.05, others=OTHERS)
    for number, name in enumerate(("quick", "quick", "clean")):
        cell.open(f"live{number}", pace=Pace.REALTIME, recipe=name)
    assert not effects_of(cell, Refused), "0.27 + 0.27 + 0.33"
    load = cell.worker("denoise-0").load
    assert (load.total, load.time(realtime=True)) == (2 + 2 + 1, 2 + 2 + 2.5)
    for name in ("", "quick", "input"):
        cell.open(f"more {name}", pace=Pace.REALTIME, recipe=name)
    assert [effect.session for effect in effects_of(cell, Refused)] == ["more ", "more quick", "more input"]
    assert cell.scheduler.workers()[1].free == 4000 - (2 + 2 + 1) * 9


def test_a_recipe_that_is_not_served_is_refused_by_name() -> None:
    cell = Cell(recipe(), others=OTHERS)
    cell.open("s", recipe="Quick")
    (refused,) = effects_of(cell, Refused)
    assert "open.recipe: 'Quick' is not allowed; allowed: clean, input, quick, wide" in str(refused)
    assert not cell.scheduler.sessions()


def test_a_fork_goes_on_with_the_recipe_of_its_parent_and_with_no_other() -> None:
    cell = Cell(recipe(), denoisers=2, others=OTHERS)
    parent = cell.open("parent", recipe="quick", pictures=geometry().first_picture(30))
    cell.answer()
    cell.steps(30)

    def fork(name: str, asked: str) -> None:
        cell.send(
            Open(now_s=0.0, session=SessionId(name), prompt="f", seed=2, pace=Pace.FAST, window=4, picture_limit=None,
                 settings=SETTINGS, fork=Fork(session=parent), recipe=asked)
        )  # fmt: skip

    fork("other", "clean")
    (refused,) = effects_of(cell, Refused)
    assert "open.recipe: 'clean' is not allowed; allowed: 'quick', the recipe that is forked" in str(refused)
    fork("same", "")
    assert cell.session("same").graph is cell.session(parent).graph


def test_fused_passes_keep_a_spare_block_of_each_recipes_own_size() -> None:
    cell = Cell(recipe(), denoisers=2, batch_limit=4, limits=Limits(fused_passes=True), others=OTHERS)
    for name in ("", "clean", "wide"):
        cell.open(f"s-{name}", pictures=PICTURES, recipe=name)
    assert {len(table.pages) + len(table.spare) for table in cell.session("s-wide").place.tables} == {18}
    cell.run()
    assert len(cell.closed) == 3
    batches = [dispatch.work for dispatch in effects_of(cell, Dispatch) if not isinstance(dispatch.work, DecodeWork)]
    fused = {
        commit.session
        for batch in batches
        for commit in batch
        for mate in batch
        if commit.kind is Kind.COMMIT and (mate.session, mate.lane) == (commit.session, commit.lane) and mate != commit
    }
    assert fused == {"s-", "s-clean", "s-wide"}
