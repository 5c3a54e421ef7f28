"""Step lists: which ops each block has, what they start from and put out, and that equal lists change nothing."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.effects import Effect, Emit
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op, Returns
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.work import ForwardWork, FromLane, FromLatent, FromNoise, SessionId
from tests.core.support.parts import recipe
from tests.core.support.recipes import altered
from tests.core.support.world import Cell, effects_of, forwards_of

LADDER = (1000, 750, 500, 250)
FIRST = {"first": LADDER, "first_blocks": 2}
TWO = altered(recipe(Level.CLEAN), usual=(1000, 500), **FIRST)
SHED = altered(recipe(Level.CLEAN), shed=((1000, 500), (1000,)), first=LADDER, first_blocks=1)
BLOCKS = 6


def made(of: Recipe, *, denoisers: int = 2, chain_length: int = 1) -> Cell:
    """A stream, run to its end."""
    cell = Cell(of, denoisers=denoisers, chain_length=chain_length)
    cell.open("s", pictures=12 * BLOCKS - 3, pace=Pace.FAST)
    cell.run()
    check_over(cell)
    return cell


def check_over(cell: Cell) -> None:
    """Every stream has come to its end, and left nothing behind."""
    cell.scheduler.check()
    assert not cell.scheduler.sessions() and not cell.kept.latents
    assert all(view.free == view.ability.capacity for view in cell.scheduler.workers())


def log(cell: Cell, session: str = "s") -> dict[int, list[ForwardWork]]:
    """The denoise ops of each block, in order."""
    found = defaultdict(list)
    for work in forwards_of(cell):
        if work.session == session and work.kind is Kind.DENOISE and work.returns is not Returns.NOTHING:
            found[work.block].append(work)
    return dict(found)


def told(cell: Cell, session: str = "s") -> dict[int, int]:
    """What clients are told of each block's steps."""
    return {emit.block: emit.steps for emit in effects_of(cell, Emit) if emit.session == session}


def test_a_block_takes_the_list_for_its_place_in_the_stream_and_for_its_load() -> None:
    steps = StepPlan(ladder=LADDER, shift=5.0, usual=(1000, 500), first=(1000, 750, 500), first_blocks=2,
                     shed=((1000,),))  # fmt: skip
    assert [steps.entries(block) for block in range(4)] == [(1000, 750, 500)] * 2 + [(1000, 500)] * 2
    assert [steps.entries(block, 1) for block in range(3)] == [(1000, 750, 500)] * 2 + [(1000,)]
    assert steps.indexes((1000, 500)) == (0, 2)
    assert steps.lists == ((1000, 750, 500), (1000, 500), (1000,)) and steps.most_load == 1


@pytest.mark.parametrize("chain_length", [1, 3])
def test_ops_keep_the_number_of_their_step_and_what_they_put_out_enters_the_next_of_the_block(
    chain_length: int,
) -> None:
    """By hand: a first block passes 0, 1, 2, 3, a later one 0 and 2; x0 enters step 4."""
    cell = made(TWO, denoisers=1, chain_length=chain_length)
    blocks = log(cell)
    assert list(blocks) == list(range(BLOCKS))
    for block, works in blocks.items():
        passed = [0, 1, 2, 3] if block < 2 else [0, 2]
        assert [work.step for work in works] == passed
        assert [work.enters for work in works] == [*passed[1:], 4]
        sigmas = TWO.sigmas
        assert [work.times.sigma for work in works] == [sigmas[step] for step in passed]
        assert [work.times.next_sigma for work in works] == [*(sigmas[step] for step in passed[1:]), None]
        assert isinstance(works[0].input, FromNoise)
        for work in works[1:]:
            if chain_length == 1:
                assert isinstance(work.input, FromLane)
            else:  # what travels is named after the step that it enters
                assert isinstance(work.input, FromLatent) and work.input.ref.step == work.step
        assert works[-1].returns.are_sent and all(work.returns.are_sent == (chain_length > 1) for work in works[:-1])
    commits = [work for work in forwards_of(cell) if work.kind is Kind.COMMIT]
    assert [work.block for work in commits] == list(range(BLOCKS - 1)) and {work.enters for work in commits} == {0}
    assert len(forwards_of(cell)) == 2 * 5 + 4 * 3 - 1, "the sum of steps + 1, but for the last commit"
    assert told(cell) == {block: 4 if block < 2 else 2 for block in range(BLOCKS)}


def plain(effects: list[Effect]) -> list[str]:
    return [repr(effect) for effect in effects]


@pytest.mark.parametrize("chain_length", [1, 2])
def test_lists_that_are_the_whole_ladder_are_none(chain_length: int) -> None:
    """The same digest, the same effects in the same order."""
    without = recipe(Level.CLEAN)
    equal = altered(without, usual=LADDER)
    assert equal.digest == without.digest and Graph(equal).skips is False
    first = altered(without, first=LADDER, first_blocks=3)
    assert first.digest != without.digest
    runs = [plain(made(of, chain_length=chain_length).effects) for of in (without, equal, first)]
    assert runs[0] == runs[1] == runs[2]


def test_costs_are_those_of_the_usual_list() -> None:
    assert [Graph(of).forwards_per_block for of in (recipe(Level.CLEAN), TWO, SHED)] == [5, 3, 5]
    graph = Graph(SHED)
    assert [graph.steps_of(5, load).forwards for load in range(3)] == [5, 3, 2]
    assert [graph.steps_of(0, load).forwards for load in range(3)] == [5, 5, 5]
    commit = graph.number_of(Op(Kind.COMMIT, 0, 0))
    assert [len(graph.steps_of(5, load).lanes_left[commit]) for load in range(3)] == [4, 2, 1]
    assert [len(graph.steps_of(5, load).lanes_left[graph.first]) for load in range(3)] == [3, 1, 0]


def drawn(seed: int) -> Callable[..., int]:
    """Loads at random, which change by any number."""
    draw = random.Random(seed)
    return lambda _cell, session, _block, _now_s: draw.randint(0, session.graph.recipe.steps.most_load)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), chain_length=st.sampled_from([1, 2]), batch_limit=st.sampled_from([1, 4]))
def test_whatever_the_loads_a_block_takes_what_is_told_of_it(seed: int, chain_length: int, batch_limit: int) -> None:
    cell = Cell(SHED, denoisers=2, chain_length=chain_length, batch_limit=batch_limit)
    cell.scheduler.cell.load_rule = drawn(seed)
    for name in ("s", "t"):
        cell.open(name, pictures=12 * BLOCKS - 3, pace=Pace.FAST)
    cell.run()
    check_over(cell)
    for name in ("s", "t"):
        blocks = log(cell, name)
        assert {block: len(works) for block, works in blocks.items()} == told(cell, name)
        for block, works in blocks.items():
            assert tuple(LADDER[work.step] for work in works) in (LADDER, (1000, 500), (1000,))
            assert block or len(works) == 4, "the first block has a list of its own"


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), turns=st.integers(1, 60))
def test_what_a_lost_worker_held_is_made_again_with_the_same_steps(seed: int, turns: int) -> None:
    """The outputs of each op are compared with those of the first time (Kept.put), whatever the loads are by then."""
    cell = Cell(SHED, denoisers=2)
    cell.scheduler.cell.load_rule = drawn(seed)
    cell.open("s", pictures=12 * BLOCKS - 3, pace=Pace.FAST)
    cell.answer()
    for _ in range(turns):
        if cell.busy:
            cell.finish_and_acknowledge(cell.busy[0])
    if cell.scheduler.sessions():
        before = {block: [work.step for work in works] for block, works in log(cell).items()}
        (lane,) = cell.session(SessionId("s")).place.lanes
        cell.lose(lane)
        cell.run()
        after = defaultdict(set)
        for block, works in log(cell).items():
            after[block] = {work.step for work in works}
        assert all(after[block] >= set(steps) for block, steps in before.items())
        steps = {block: len(taken) for block, taken in after.items()}
        assert steps == told(cell), "no block has taken a step of two lists"
    check_over(cell)
