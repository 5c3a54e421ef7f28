"""Random use of a page pool with a canary in every page: who reads anything but what it wrote has found a mistake."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.work import PageId

Content = tuple[int, int]
"""Number of the write, and the frame."""


def _recipe(window: int | None, sinks: int = 0, first: int | None = None) -> Recipe:
    return Recipe(
        steps=StepPlan(ladder=(1000,), shift=5.0),
        blocks=BlockPlan(frames=2, first_frames=first),
        context=Context(level=Level.OUTPUT, window_frames=window, sink_frames=sinks),
        block_limit=None if window else 8,
    )


SMALL = _recipe(6)
SINKS = _recipe(9, sinks=3)
FINITE = _recipe(None)
SHORT_FIRST = _recipe(6, sinks=1, first=1)
LONG_FIRST = _recipe(6, sinks=1, first=5)


@dataclass
class Lane:
    """A table and what its frames must hold."""

    table: PageTable
    block: int = 0
    holds: dict[int, Content] = field(default_factory=dict)
    """By frame."""
    begun: int = 0
    """The first block of this table: what only earlier blocks read, it does not have."""


@dataclass
class Swapped:
    """A lane without pages: what it held, in the order of `PageTable.kept`."""

    block: int
    holds: dict[int, Content]
    image: list[Content]


class PageUse:
    """A pool, its lanes, and the contents of its pages."""

    def __init__(self, recipe: Recipe, *, spare: int, seed: int, size: int = 120) -> None:
        self.recipe = recipe
        self.pool = PagePool(size)
        self.lanes: list[Lane] = []
        self.swapped: list[Swapped] = []
        self.contents: dict[PageId, Content] = {}
        self.counts: Counter[str] = Counter()
        self._spare = spare
        self._draw = random.Random(seed)
        self._writes = 0

    def step(self) -> None:
        """One operation of any kind that is possible."""
        choices = ["open"]
        if self.lanes:
            choices += ["advance"] * 6 + ["fork", "swap out", "release"]
        if self.swapped:
            choices.append("swap in")
        choice = self._draw.choice(choices)
        self.counts[choice] += 1
        lane = self._draw.choice(self.lanes) if self.lanes else None
        match choice:
            case "open" if self._room(self.recipe.page_count):
                self.lanes.append(Lane(self._allocate()))
            case "swap in" if self._room(self.recipe.page_count):
                self._swap_in(self.swapped.pop(self._draw.randrange(len(self.swapped))))
            case "advance" if lane is not None:
                self._advance(lane)
            case "fork" if lane is not None and self._room(self.recipe.page_count):
                self._fork(lane)
            case "swap out" if lane is not None:
                image = [self.contents[page] for page in lane.table.kept(lane.block)]
                self.swapped.append(Swapped(lane.block, dict(lane.holds), image))
                self._release(lane)
            case "release" if lane is not None:
                self._release(lane)

    def check(self) -> None:
        """Count everything."""
        self.pool.check([lane.table for lane in self.lanes])

    def end(self) -> None:
        """Everything goes back."""
        for lane in list(self.lanes):
            self._release(lane)
        self.pool.check([])
        assert self.pool.free_count == self.pool.size

    def _room(self, pages: int) -> bool:
        return self.pool.free_count >= pages + self._spare

    def _allocate(self) -> PageTable:
        return self.pool.allocate(self.recipe.window, spare=self._spare)

    def _advance(self, lane: Lane) -> None:
        """What the ops of one block do: claim, read, write, and read with the block before in between."""
        first = self.recipe.blocks.first_frame(lane.block)
        if self.recipe.block_limit is not None and lane.block >= self.recipe.block_limit:
            return
        self.pool.claim(lane.table, lane.block)
        reads, writes = lane.table.reads(lane.block), lane.table.writes(lane.block)
        for offset, page in enumerate(writes):
            self._writes += 1
            lane.holds[first + offset] = self.contents[page] = (self._writes, first + offset)
        self._compare(lane, lane.block, reads)
        if self._spare and lane.block > lane.begun:  # the block before may still be read after this one was written
            self._compare(lane, lane.block - 1, lane.table.reads(lane.block - 1))
        for frame in lane.holds.keys() - set(self.recipe.window.frames(lane.block)):
            if frame < first - 2 * self.recipe.page_count:
                del lane.holds[frame]
        lane.block += 1

    def _compare(self, lane: Lane, block: int, reads: tuple[PageId, ...]) -> None:
        window = self.recipe.window
        for frame, page in zip(sorted(window.frames(block), key=window.slot), reads, strict=True):
            found = self.contents.get(page)
            assert found == lane.holds[frame], f"page {page} holds {found}, not {lane.holds[frame]}"

    def _fork(self, lane: Lane) -> None:
        table = self.pool.fork(lane.table, lane.block)
        self.lanes.append(Lane(table, lane.block, dict(lane.holds), lane.block))

    def _swap_in(self, swapped: Swapped) -> None:
        table = self._allocate()
        for page, content in zip(table.kept(swapped.block), swapped.image, strict=True):
            self.contents[page] = content
        self.lanes.append(Lane(table, swapped.block, swapped.holds, swapped.block))

    def _release(self, lane: Lane) -> None:
        self.lanes.remove(lane)
        self.pool.release(lane.table)


def use(pages: PageUse, operations: int, *, check_each: int) -> None:
    """Random operations, the invariants counted now and then, and everything given back."""
    for number in range(operations):
        pages.step()
        if number % check_each == 0:
            pages.check()
    pages.check()
    pages.end()
    assert set(pages.counts) == {"open", "advance", "fork", "swap out", "swap in", "release"}
