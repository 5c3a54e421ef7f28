"""Memory: which frames are folded into which page before which block, by the paper, for as long as a stream lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from longtake.core.errors import InvalidField
from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.memory import MemoryPolicy, OnLeave
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import FoldWork, PageId
from tests.core.support.folded import LIVEACT, SIZES, slots

Nested = Any
"""A frame, or the tuple of what became one."""


def flat(content: Nested) -> list[int]:
    return [frame for each in content for frame in flat(each)] if isinstance(content, tuple) else [content]


def a_frame(number: int) -> Nested:
    return number


def together(contents: Sequence[Nested]) -> Nested:
    return tuple(contents)


class Lane:
    """A lane of the core, whose pages hold what the orders put there."""

    def __init__(self, recipe: Recipe) -> None:
        self.graph = Graph(recipe)
        self.pool = PagePool(size=recipe.page_count + 5)
        self.table = self.pool.allocate(self.graph.window)
        self.pages: dict[PageId, Nested] = {}

    def run(self, block: int, table: PageTable | None = None, *, once: bool = True) -> tuple[FoldWork, ...]:
        """Begin a block, and write its pages."""
        table = table or self.table
        folds = self.pool.claim(table, block)
        assert self.pool.claim(table, block) == () or not once, "only the first op of a block folds"
        for fold in folds:
            self.pages[fold.write] = tuple(self.pages[page] for page in fold.reads)
        for frame, page in zip(self.graph.blocks.own(block), table.writes(block), strict=True):
            self.pages[page] = frame
        return folds

    def seen(self, block: int, table: PageTable | None = None) -> list[Nested]:
        """What the block reads, by the places at which it does."""
        reads = (table or self.table).reads(block)
        assert len(set(reads)) == len(reads), "a page is listed twice"
        by_place = dict(zip(self.graph.places(block).read, reads, strict=True))
        return [self.pages[by_place[place]] for place in range(len(reads))]


@pytest.mark.parametrize("name", SIZES)
def test_each_block_reads_what_the_paper_has_in_its_slots(name: str) -> None:
    lane = Lane(SIZES[name])
    for block, right in enumerate(islice(slots(SIZES[name], a_frame, together), 7)):
        lane.run(block)
        assert lane.seen(block) == right


def test_the_slots_of_liveact_after_three_and_four_blocks_are_those_of_its_code() -> None:
    lane = Lane(LIVEACT)
    assert [lane.run(block) for block in (0, 1)] == [(), ()]
    assert lane.seen(1) == [*range(14)]
    lane.run(2)
    assert lane.seen(2) == [0, 1, (2, 3, 4, 5, 6), (7, 8, 9, 10, 11), 12, 13, *range(14, 22)]
    lane.run(3)
    third = lane.seen(3)
    assert [flat(content) for content in third[2:4]] == [[*range(2, 15)], [*range(15, 20)]]
    assert third[:2] + third[4:] == [0, 1, 20, 21, *range(22, 30)]


def test_after_ten_thousand_blocks_the_memory_is_that_of_the_paper_and_no_page_more_is_taken() -> None:
    def fold(contents: Sequence[int]) -> int:
        return hash(tuple(contents))

    lane = Lane(LIVEACT)
    free = lane.pool.free_count
    for block, right in enumerate(islice(slots(LIVEACT, int, fold), 10_000)):
        for work in lane.run(block):
            lane.pages[work.write] = fold(lane.pages[work.write])
        if block % 1000 > 990 or block < 20:
            assert lane.seen(block) == right, block
    assert (len(lane.pages), lane.pool.free_count, len(lane.table.left)) == (14, free, 2)
    lane.pool.check([lane.table])


def test_a_fork_folds_for_itself_what_it_shares_and_neither_sees_what_the_other_made() -> None:
    for first in (2, 5):  # before there is a memory, and after
        lane = Lane(SIZES["pocket"])
        lane.pool = PagePool(size=30)
        lane.table = lane.pool.allocate(lane.graph.window)
        for block in range(first):
            lane.run(block)
        child = lane.pool.fork(lane.table, first)
        rows = list(islice(slots(SIZES["pocket"], a_frame, together), first + 4))
        for block in range(first, first + 4):
            for table in (lane.table, child):
                lane.run(block, table)
            for table in (lane.table, child):
                assert lane.seen(block, table) == rows[block]
            lane.pool.check([lane.table, child])
        assert set(lane.table.pages).isdisjoint(set(child.pages) - {lane.table.pages[0]}), "but for the sink"
        lane.pool.release(lane.table)
        lane.pool.release(child)
        assert lane.pool.free_count == 30


def test_a_lane_that_was_rebuilt_folds_nothing_that_was_never_written() -> None:
    lane = Lane(LIVEACT)
    lane.table.rebuilt_from, lane.table.rebuilt_lead = 20, 1
    folds = {block: len(lane.run(block)) for block in (0, 20, 21, 22)}
    assert folds == {0: 0, 20: 0, 21: 0, 22: 2}
    gone = [*lane.graph.blocks.own(20)][6:] + [*lane.graph.blocks.own(21)][:6]
    assert lane.seen(22)[2:4] == [(2, 3, *gone[:3]), (*gone[3:],)], "with block 21 left frames from before"


def test_what_is_not_folded_is_called_as_it_always_was_and_a_frame_must_divide() -> None:
    plain = LIVEACT.plain()
    assert (plain["memory_frames"], plain["on_leave"], plain["fold_frames"]) == (2, "fold", 5)
    without = replace(LIVEACT, context=replace(LIVEACT.context, memory_frames=0), memory=MemoryPolicy()).plain()
    assert not {"memory_frames", "on_leave", "fold_frames"} & without.keys()
    with pytest.raises(InvalidField, match="fold_frames"):
        MemoryPolicy(on_leave=OnLeave.FOLD, fold_frames=1)
    LIVEACT.memory.check_tokens(45 * 26)
    with pytest.raises(InvalidField, match="divisor of 16"):
        LIVEACT.memory.check_tokens(16)
