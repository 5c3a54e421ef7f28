"""Fused passes: a commit takes the next block's denoise op of its lane along, and neither harms the other's pages."""

from __future__ import annotations

from itertools import combinations

import pytest

from longtake.core.effects import Dispatch
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.work import ForwardWork, WorkerId
from tests.core.support.batches import is_fused
from tests.core.support.parts import geometry, recipe
from tests.core.support.world import Cell, effects_of

BLOCKS = 12


def cell_of(level: Level, *, fused: bool = True, mixes: bool = True, denoisers: int = 4) -> Cell:
    """A worker for each lane, and two streams: the second is what a step's worker does while the first is elsewhere."""
    made = recipe(level)
    cell = Cell(
        made,
        limits=Limits(fused_passes=fused),
        denoisers=denoisers,
        batch_limit=4,
        mixes_kinds=mixes,
        pages=4 * made.lane_count * (made.page_count + made.blocks.frames),
    )
    for number in range(2):
        cell.open(f"s{number}", pictures=geometry().first_picture(BLOCKS))
    return cell


def fused_pairs(cell: Cell) -> list[tuple[ForwardWork, ForwardWork]]:
    batches = [d.work for d in effects_of(cell, Dispatch) if isinstance(d.work, tuple)]
    return [pair for items in batches for pair in combinations(items, 2) if is_fused(*pair)]


@pytest.mark.parametrize("level", [Level.OUTPUT, Level.CLEAN])
def test_fused_passes_form_and_every_op_reads_its_own_window(level: Level) -> None:
    """That every page holds the right frame when it is read is what the cell checks, at each op."""
    cell = cell_of(level)
    cell.run()
    assert {session: blocks for session, blocks in cell.segments.items()} == {
        f"s{number}": list(range(BLOCKS)) for number in range(2)
    }
    pairs = fused_pairs(cell)
    assert pairs
    for commit, denoise in pairs:
        assert set(commit.pages.writes) <= set(denoise.pages.reads), "the denoise op reads what the commit writes"
        assert not set(denoise.pages.writes) & set(commit.pages.reads), "and overwrites nothing that the commit reads"
    assert any(len(commit.pages.reads) == recipe(level).page_count for commit, _ in pairs), "with a full ring too"


def test_a_level_without_commits_fuses_nothing() -> None:
    cell = cell_of(Level.INPUT)
    cell.run()
    assert not fused_pairs(cell)


@pytest.mark.parametrize(("fused", "mixes"), [(False, True), (True, False)])
def test_without_spare_pages_or_proof_nothing_is_fused(*, fused: bool, mixes: bool) -> None:
    cell = cell_of(Level.OUTPUT, fused=fused, mixes=mixes)
    cell.run()
    assert not fused_pairs(cell)


def test_a_spare_block_is_part_of_what_a_lane_takes() -> None:
    made = recipe()
    lane = made.page_count + made.blocks.frames
    cell = Cell(made, limits=Limits(fused_passes=True), denoisers=1, pages=made.lane_count * lane - 1)
    cell.open("s0")
    assert not cell.queues[WorkerId("denoise-0")], "one page too few for four lanes"
    roomy = Cell(made, limits=Limits(fused_passes=True), denoisers=1, pages=made.lane_count * lane)
    roomy.open("s0")
    roomy.answer()
    assert roomy.busy
