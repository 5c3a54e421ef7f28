"""Sources: whose K/V an op reads, and that what it waits for follows from it."""

from __future__ import annotations

import pytest

from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from longtake.core.recipe.sources import sealing, source
from tests.core.support.parts import recipe
from tests.core.support.recipes import altered

D, C = Kind.DENOISE, Kind.COMMIT


@pytest.mark.parametrize(
    ("level", "op", "read"),
    [
        (Level.OUTPUT, Op(D, 2, 5), Op(C, 2, 4)),
        (Level.OUTPUT, Op(C, 2, 5), Op(C, 2, 4)),
        (Level.CLEAN, Op(D, 2, 5), Op(C, 0, 4)),
        (Level.CLEAN, Op(C, 0, 5), Op(C, 0, 4)),
        (Level.INPUT, Op(D, 2, 5), Op(D, 2, 4)),
    ],
)
def test_an_op_reads_of_the_block_before_what_this_one_left(level: Level, op: Op, read: Op) -> None:
    assert source(recipe(level), op, 4) == read


@pytest.mark.parametrize("level", list(Level))
def test_whatever_an_op_reads_is_done_before_it_and_what_seals_is_read_for_ever(level: Level) -> None:
    made = recipe(level)
    graph = Graph(made)

    def before(op: Op) -> set[Op]:
        """All that must be done before an op, at whatever remove."""
        found: set[Op] = set()
        left = [op]
        while left:
            new = set(graph.needs(left.pop())) - found
            found |= new
            left += new
        return found

    for chain in graph.chains:
        if chain.kind is not Kind.DECODE:
            op = graph.op(chain.number, 6)
            assert {source(made, op, past) for past in range(6)} <= before(op), op
            assert source(made, op, 0) == sealing(made, chain.lane or 0) == graph.sealing_op(chain.lane or 0, 0)


@pytest.mark.parametrize(("steps", "lag"), [(steps, lag) for steps in range(1, 6) for lag in range(1, steps + 1)])
def test_what_is_kept_between_two_iterations_is_all_that_is_read_of_finished_blocks(steps: int, lag: int) -> None:
    made = recipe(Level.STAGGERED, sinks=2, steps=steps, window=12)
    graph = Graph(altered(made, lag=lag))
    window, joint = graph.window, graph.joint
    assert joint is not None
    for iteration in range(30 * lag):
        next_block = joint.begun(iteration, 0)
        kept = window.kept_slots(next_block)
        riders = graph.taking_part(iteration, None)
        for _, block in riders:
            frames = [frame for frame in window.frames(block) if graph.blocks.block_of(frame) < riders[0][1]]
            assert {window.slot(frame) for frame in frames} <= set(kept), f"{iteration}: {frames}"
