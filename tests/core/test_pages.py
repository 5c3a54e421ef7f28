"""Pages: the window's closed form, canonical slots, and accounting that neither leaks nor aliases."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import InternalFault, NoCapacity
from longtake.core.pages import PagePool, PageTable, slot_of, window_frames
from longtake.core.recipe import Level, Recipe
from longtake.core.work import PageId

RECIPES = st.builds(
    lambda frames, past, sinks: Recipe(
        steps=(1000,), shift=5.0, level=Level.OUTPUT, frames_per_block=frames, window_frames=frames + past + sinks,
        sink_frames=sinks,
    ),
    st.integers(1, 4), st.integers(0, 9), st.integers(0, 4),
)  # fmt: skip


def rolled_cache(recipe: Recipe, blocks: int) -> list[int]:
    """The reference's cache: append a block, and when it is full drop the oldest frames behind the sinks."""
    assert recipe.window_frames is not None
    cache: list[int] = []
    for block in range(blocks):
        cache += range(block * recipe.frames_per_block, (block + 1) * recipe.frames_per_block)
        excess = len(cache) - recipe.window_frames
        if excess > 0:
            del cache[recipe.sink_frames : recipe.sink_frames + excess]
    return cache


@given(recipe=RECIPES, blocks=st.integers(1, 30))
def test_the_window_is_what_a_cache_that_drops_the_oldest_would_hold(recipe: Recipe, blocks: int) -> None:
    first = (blocks - 1) * recipe.frames_per_block
    assert list(window_frames(first, recipe)) == rolled_cache(recipe, blocks)


@given(recipe=RECIPES, block=st.integers(0, 2000))
def test_frames_of_one_window_never_share_a_slot(recipe: Recipe, block: int) -> None:
    slots = [slot_of(frame, recipe) for frame in window_frames(block * recipe.frames_per_block, recipe)]
    assert len(set(slots)) == len(slots)
    assert all(0 <= slot < recipe.page_count for slot in slots)


def test_hiar_reads_eighteen_past_frames_in_ring_order() -> None:
    recipe = Recipe(steps=(1000,), shift=5.0, level=Level.OUTPUT, frames_per_block=3, window_frames=21)
    assert window_frames(300, recipe) == tuple(range(282, 303))
    table = PageTable(tuple(PageId(page) for page in range(100, 121)))
    assert table.reads(300, recipe) == table.pages
    assert table.writes(300, recipe) == (106, 107, 108)


@given(seed=st.integers(0, 2**32))
def test_random_use_of_a_pool_keeps_its_invariants(seed: int) -> None:
    draw = random.Random(seed)
    pool, tables = PagePool(24), []
    for _ in range(60):
        match draw.choice(["allocate", "share", "release"]):
            case "allocate":
                count = draw.randrange(0, 9)
                if count > pool.free_count:
                    with pytest.raises(NoCapacity, match=f"{count} pages"):
                        pool.allocate(count)
                else:
                    tables.append(pool.allocate(count))
            case "share" if tables:
                tables.append(pool.share(draw.choice(tables)))
            case "release" if tables:
                pool.release(tables.pop(draw.randrange(len(tables))))
        pool.check(tables)
    for table in tables:
        pool.release(table)
    pool.check([])
    assert pool.free_count == 24


def test_a_leak_an_alias_and_a_double_release_are_each_found() -> None:
    pool = PagePool(4)
    table = pool.allocate(2)
    with pytest.raises(InternalFault, match="tables hold"):
        pool.check([])
    with pytest.raises(InternalFault, match="tables hold"):
        pool.check([table, table])
    pool.release(table)
    with pytest.raises(InternalFault, match="is released although it is free"):
        pool.release(table)
    with pytest.raises(InternalFault, match="is shared although it is free"):
        pool.share(table)
