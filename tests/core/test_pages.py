"""Pages: the window's closed form, canonical slots, and accounting that neither leaks nor aliases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import InternalFault, NoCapacity
from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.shelf import Shelf
from longtake.core.recipe.steps import StepPlan
from longtake.core.recipe.window import Window
from longtake.core.work import PageId
from tests.core.support.page_use import FINITE, LONG_FIRST, SHORT_FIRST, SINKS, SMALL, PageUse, use
from tests.samples import first

RECIPES = st.builds(
    lambda frames, first, past, sinks: Recipe(
        steps=StepPlan(ladder=(1000,), shift=5.0),
        blocks=BlockPlan(frames=frames, first_frames=first),
        context=Context(
            level=Level.OUTPUT, window_frames=max(frames + sinks, first or 0) + past, sink_frames=sinks
        ),
    ),
    st.integers(1, 4),
    st.none() | st.integers(1, 6),
    st.integers(0, 9),
    st.integers(0, 4),
)  # fmt: skip


def slots(count: int) -> Window:
    """A lane of so many slots in which nothing is ever replaced."""
    blocks = BlockPlan(frames=1)
    return Window(blocks=blocks, size=count, sinks=0, ring=None, shelf=Shelf(blocks=blocks, sinks=0))


def rolled_cache(recipe: Recipe, blocks: int) -> list[int]:
    """The reference's cache: append a block, and when it is full drop the oldest frames behind the sinks."""
    assert recipe.window_frames is not None
    cache: list[int] = []
    appended = range(0)
    for block in range(blocks):
        made = (not block and recipe.blocks.first_frames) or recipe.blocks.frames
        appended = range(appended.stop, appended.stop + made)
        cache += appended
        excess = len(cache) - recipe.window_frames
        if excess > 0:
            del cache[recipe.sink_frames : recipe.sink_frames + excess]
    return cache


@given(recipe=RECIPES, blocks=st.integers(1, 30))
def test_the_window_is_what_a_cache_that_drops_the_oldest_would_hold(recipe: Recipe, blocks: int) -> None:
    assert list(recipe.window.frames(blocks - 1)) == rolled_cache(recipe, blocks)


@given(recipe=RECIPES, block=st.integers(0, 2000))
def test_frames_of_one_window_never_share_a_slot(recipe: Recipe, block: int) -> None:
    window = recipe.window
    slots = [window.slot(frame) for frame in window.frames(block)]
    assert sorted(slots) == list(range(window.count(block))), "what is read is a prefix of the slots"
    assert all(0 <= slot < recipe.page_count for slot in slots)


def test_hiar_reads_eighteen_past_frames_in_ring_order() -> None:
    recipe = Recipe(
        steps=StepPlan(ladder=(1000,), shift=5.0),
        blocks=BlockPlan(frames=3),
        context=Context(level=Level.OUTPUT, window_frames=21),
    )
    assert recipe.window.frames(100) == tuple(range(282, 303))
    table = PageTable(recipe.window, tuple(PageId(page) for page in range(100, 121)))
    assert table.reads(100) == table.pages
    assert table.writes(100) == (106, 107, 108)


@given(recipe=RECIPES, block=st.integers(0, 40))
def test_what_a_lane_keeps_between_two_blocks_is_its_window_without_the_next_block(recipe: Recipe, block: int) -> None:
    table = PageTable(recipe.window, tuple(PageId(page) for page in range(recipe.page_count)))
    own = table.writes(block)
    assert table.kept(block) == tuple(page for page in table.reads(block) if page not in own)


@pytest.mark.parametrize("spare", [0, SMALL.blocks.frames])
@pytest.mark.parametrize(
    "recipe", [SMALL, SINKS, FINITE, SHORT_FIRST, LONG_FIRST], ids=["ring", "sinks", "finite", "short", "long"]
)  # fmt: skip
def test_random_use_of_a_pool_keeps_every_lane_its_own_contents(recipe: Recipe, spare: int) -> None:
    use(PageUse(recipe, spare=spare and recipe.blocks.most, seed=spare), 3_000, check_each=7)


@pytest.mark.parametrize("operations", first(1, [20_000, 100_000]))
def test_any_number_of_operations_leaves_no_page_behind(operations: int) -> None:
    use(PageUse(SINKS, spare=SINKS.blocks.frames, seed=3), operations, check_each=2_000)


def test_a_page_that_is_handed_out_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = PagePool.allocate

    def leaves_a_page_free(pool: PagePool, window: Window, *, spare: int = 0) -> PageTable:
        table = allocate(pool, window, spare=spare)
        if pool.free_count % 5 == 0:
            pool.release(PageTable(slots(1), table.pages[:1]))
        return table

    monkeypatch.setattr(PagePool, "allocate", leaves_a_page_free)
    with pytest.raises(AssertionError, match="holds"):  # with this seed it is read before it is given back twice
        use(PageUse(SMALL, spare=0, seed=0), 3_000, check_each=10**9)
    with pytest.raises((InternalFault, AssertionError)):
        use(PageUse(SMALL, spare=0, seed=0), 3_000, check_each=1)


def test_writing_a_shared_page_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagePool, "claim", lambda pool, table, block: None)
    with pytest.raises(AssertionError, match="holds"):
        use(PageUse(SMALL, spare=0, seed=1), 3_000, check_each=10**9)


def test_a_fork_costs_its_ring_and_never_the_sinks_that_are_written() -> None:
    pool = PagePool(40)
    parent = pool.allocate(SINKS.window)
    ring = SINKS.page_count - SINKS.sink_frames
    costs = []
    for block in range(6):
        pool.claim(parent, block)
        free = pool.free_count
        child = pool.fork(parent, block + 1)
        costs.append(free - pool.free_count)
        pool.check([parent, child])
        pool.release(child)
        pool.check([parent])
        assert pool.free_count == free
    # Block 0 has written two of the three sinks.
    assert costs == [ring + 1, ring, ring, ring, ring, ring]


def test_whoever_writes_first_takes_the_spare_and_the_last_sharer_needs_none() -> None:
    pool = PagePool(18)
    parent = pool.allocate(SMALL.window)
    for block in range(3):
        pool.claim(parent, block)
    tables = [parent, pool.fork(parent, 3), pool.fork(parent, 3)]
    assert pool.free_count == 0
    shared = parent.kept(3)
    assert all(table.kept(3) == shared for table in tables)
    for block in range(3, 6):
        for table in tables:
            pool.claim(table, block)
            pool.check(tables)
    assert pool.free_count == 0
    assert len({page for table in tables for page in table.pages}) == 18
    assert tables[2].kept(6)[0] in shared or tables[2].kept(6)[-1] in shared


def free_pages(pool: PagePool) -> set[PageId]:
    """What the pool would hand out if somebody took all of it."""
    table = pool.allocate(slots(pool.free_count))
    pool.release(table)
    return set(table.pages)


@pytest.mark.parametrize("claims_in_flight", [2, 5])
def test_a_page_that_was_left_is_free_only_when_no_op_can_name_it_any_more(claims_in_flight: int) -> None:
    pool = PagePool(12, claims_in_flight=claims_in_flight)
    parent = pool.allocate(SMALL.window)
    for block in range(3):
        pool.claim(parent, block)
    child = pool.fork(parent, 3)
    for block in (3, 4):
        pool.claim(parent, block)
    left = set(child.pages) - set(child.writes(3)) - set(parent.pages)
    assert left
    pool.release(child)
    for block in range(5, 5 + claims_in_flight):
        assert not left <= free_pages(pool)
        pool.check([parent])
        pool.claim(parent, block)
    assert left <= free_pages(pool)
    pool.check([parent])


def test_with_a_spare_block_the_block_before_can_still_be_read() -> None:
    pool = PagePool(8)
    table = pool.allocate(SMALL.window, spare=2)
    for block in range(9):
        before = table.reads(block - 1) if block else ()
        pool.claim(table, block)
        assert not set(before) & set(table.writes(block)), "the claim takes what the block before reads"
        assert not block or table.reads(block - 1) == before
        pool.check([table])


def test_a_lane_that_has_begun_the_block_cannot_be_forked_before_it() -> None:
    pool = PagePool(20)
    table = pool.allocate(SMALL.window)
    pool.claim(table, 0)
    with pytest.raises(InternalFault, match="forked at block 0, but blocks before 1 are begun"):
        pool.fork(table, 0)


def test_no_capacity_takes_nothing() -> None:
    pool = PagePool(9)
    table = pool.allocate(SMALL.window)
    pool.claim(table, 0)
    with pytest.raises(NoCapacity, match="4 pages are needed and 3 of 9 are free"):
        pool.allocate(slots(4))
    with pytest.raises(NoCapacity, match="4 pages are needed and 3 of 9 are free"):
        pool.allocate(slots(2), spare=2)
    with pytest.raises(NoCapacity, match="6 pages are needed and 3 of 9 are free"):
        pool.fork(table, 1)
    pool.check([table])


def test_a_leak_an_alias_and_a_double_release_are_each_found() -> None:
    pool = PagePool(4)
    table = pool.allocate(slots(2))
    with pytest.raises(InternalFault, match="tables hold"):
        pool.check([])
    with pytest.raises(InternalFault, match="tables hold"):
        pool.check([table, table])
    pool.release(table)
    with pytest.raises(InternalFault, match="is released although it is free"):
        pool.release(table)


def test_what_is_known_of_each_slot_is_told_in_the_order_of_the_pages_that_are_read() -> None:
    """Frames 0, 1 are sinks of a ring of six; block 6 reads them and 8 to 13, of which 8 and 9 were never written."""
    blocks = BlockPlan(frames=2)
    window = Window(blocks=blocks, size=8, sinks=2, ring=6, shelf=Shelf(blocks=blocks, sinks=2))
    table = PagePool(8).allocate(window)
    by_slot = tuple(f"slot {slot}" for slot in range(8))
    assert table.read_of(by_slot, 6) == by_slot and table.read_of((), 6) == ()
    table.rebuilt_from, table.rebuilt_lead = 5, 1
    told = table.read_of(by_slot, 6)
    assert told == ("slot 0", "slot 1", "slot 4", "slot 5", "slot 6", "slot 7")
    assert table.reads(6) == tuple(page for page, slot in zip(table.pages, by_slot, strict=True) if slot in told)
