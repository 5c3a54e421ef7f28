"""Places on the time axis: by hand, and what holds of all of them."""

from __future__ import annotations

import math

import pytest

from benchmarks.places import standing
from longtake.core.errors import InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.positions import NO_BIAS, Bias, Cyclic, Numbering, Places, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.core.support.recipes import altered

LISTED = Positions(stream=Numbering.LISTED)
RECIPE = Recipe(
    steps=StepPlan(ladder=(1000,), shift=1.0),
    blocks=BlockPlan(frames=2),
    context=Context(level=Level.CLEAN, window_frames=8, sink_frames=2),
    positions=LISTED,
)
WINDOWS = [(2, 8, 2), (3, 9, 3), (3, 9, 0), (3, 10, 1), (1, 4, 1), (4, 4, 0), (2, 7, 2)]
"""Frames of a block, of the window and of the sinks."""


def places(positions: Positions, block: int) -> Places:
    return Graph(altered(RECIPE, positions=positions, sink_frames=2 if positions is LISTED else 0)).places(block)


def test_absolute_places_are_the_numbers_of_the_frames() -> None:
    assert places(Positions(), 10**6) == Places((2 * 10**6, 2 * 10**6 + 1), (2 * 10**6, 2 * 10**6 + 1), ())


def test_cyclic_places_come_round() -> None:
    cyclic = Positions(stream=Cyclic(cyclic=9))
    assert [places(cyclic, block).queries for block in (0, 3, 4, 5)] == [(0, 1), (6, 7), (8, 0), (1, 2)]
    assert all(places(cyclic, block).keys == places(cyclic, block).queries for block in range(20))
    assert not any(places(cyclic, block).read for block in range(20)), "a page keeps its place: it is turned once"


def test_listed_places_are_those_in_the_order_of_time() -> None:
    # Sinks 0, 1; a ring of six slots 2 to 7. Block 3 fills it with frames 6, 7; block 4 puts 8, 9 where 2, 3 lay.
    assert places(LISTED, 0) == Places((0, 1), (0, 0), (0, 1))
    assert places(LISTED, 3) == Places((6, 7), (0, 0), (0, 1, 2, 3, 4, 5, 6, 7))
    assert places(LISTED, 4) == Places((6, 7), (0, 0), (0, 1, 6, 7, 2, 3, 4, 5))
    assert places(LISTED, 5) == Places((6, 7), (0, 0), (0, 1, 4, 5, 6, 7, 2, 3))
    assert places(LISTED, 10**9) == places(LISTED, 4), "a lap later"


@pytest.mark.parametrize(("frames", "window", "sinks"), WINDOWS)
def test_the_papers_say_the_same(frames: int, window: int, sinks: int) -> None:
    for positions in (LISTED, Positions(), *([] if sinks else [Positions(stream=Cyclic(cyclic=window + 1))])):
        recipe = altered(RECIPE, frames=frames, window_frames=window, sink_frames=sinks, positions=positions)
        graph = Graph(recipe)
        for block in (*range(12), 10**5):
            own, seen = graph.blocks.own(block), sorted(graph.window.frames(block), key=graph.window.slot)
            assert tuple(map(list, graph.places(block)[:3])) == standing(recipe, own, seen)[:3]
            assert graph.places(block).seen == (), "without a slope nobody asks for more"


@pytest.mark.parametrize(("frames", "window", "sinks"), WINDOWS)
def test_the_paper_says_the_same_of_a_slope(frames: int, window: int, sinks: int) -> None:
    for positions in (LISTED, *([] if sinks else [Positions()])):
        plain = altered(RECIPE, frames=frames, window_frames=window, sink_frames=sinks, positions=positions)
        recipe = altered(plain, slope=0.3)
        graph, base = Graph(recipe), Graph(plain)
        for block in (*range(12), 10**5, 10**12):
            own, seen = graph.blocks.own(block), sorted(graph.window.frames(block), key=graph.window.order)
            places = graph.places(block)
            assert places[:3] == base.places(block)[:3], "all stands where it stood"
            rows = Bias(0.3, places.seen).rows(places.queries)
            assert [*map(list, rows)] == standing(recipe, own, seen).weights
            nearest = [row[seen.index(frame)] for row, frame in zip(rows, own, strict=True)]
            assert nearest == [0.0] * frames, "nothing is added where a query meets its own frame"


def test_a_bias_by_hand() -> None:
    assert Bias(0.5, (7, 4, 9)).rows((8, 9)) == ((-0.5, -2.0, 0.5), (-1.0, -2.5, 0.0))
    assert Bias(0.1, (2**40,)).rows((2**40 + 3,)) == ((0.1 * -3,),), "as exact far out"
    assert Bias(0.0, (7, 4, 9)).rows((8, 9)) == () == NO_BIAS.rows((1,)), "not even 0 is added"


def test_a_slope_stands_in_the_name_of_a_recipe_unless_it_is_0() -> None:
    base = altered(RECIPE, slope=0.0)
    assert (base, base.digest) == (RECIPE, RECIPE.digest) and "slope" not in base.plain()
    assert altered(RECIPE, slope=0.1).plain() == RECIPE.plain() | {"slope": 0.1}
    assert len({altered(RECIPE, slope=slope).digest for slope in (0.0, 0.1, 0.2)}) == 3


@pytest.mark.parametrize("slope", [-0.1, 10.1, math.inf, math.nan])
def test_a_slope_is_none_or_goes_down_and_not_too_steep(slope: float) -> None:
    with pytest.raises(InvalidField, match="a number from 0 to 10"):
        Positions(slope=slope)


@pytest.mark.parametrize(("frames", "window", "sinks"), WINDOWS)
def test_listed_is_absolute_until_a_frame_leaves(frames: int, window: int, sinks: int) -> None:
    graph = Graph(altered(RECIPE, frames=frames, window_frames=window, sink_frames=sinks))
    for block in range(window // frames):
        assert graph.places(block).queries == tuple(graph.blocks.own(block))
        assert graph.places(block).read == tuple(range(graph.window.count(block)))
    for block in range(-(-window // frames), 30):
        at = graph.places(block)
        assert sorted(at.read) == list(range(window)), "each place is taken once"
        assert at.queries == tuple(range(window - frames, window)), "the block itself is the newest"
        assert at.read[:sinks] == tuple(range(sinks)), "and the sinks are the oldest"


def test_only_listed_places_change_the_name_of_a_recipe_and_absolute_ones_do_not() -> None:
    absolute, cyclic = Positions(), Positions(stream=Cyclic(cyclic=8))
    base = altered(RECIPE, sink_frames=0)
    made = [altered(base, positions=each) for each in (absolute, cyclic, Positions(stream=Cyclic(cyclic=9)), LISTED)]
    assert len({recipe.digest for recipe in made}) == 4
    assert made[0].plain()["positions"] == "absolute", "as it always was"


def test_a_period_is_one_frame_or_more() -> None:
    with pytest.raises(InvalidField, match="1 or more"):
        Cyclic(cyclic=0)
