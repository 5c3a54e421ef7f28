"""The op order: the edges of DESIGN section 5, no cycle, and what each level can pipeline."""

from __future__ import annotations

from functools import cache

import pytest

from longtake.core.recipe.graph import Kind, Op, chains, input_is_in_lane, lane_of, needs
from longtake.core.recipe.recipe import Level, Recipe
from tests.core.support.world import recipe

D, C, V = Kind.DENOISE, Kind.COMMIT, Kind.DECODE


@pytest.mark.parametrize(
    ("level", "op", "expected"),
    [
        (Level.OUTPUT, Op(D, 2, 5), {Op(D, 1, 5), Op(C, 2, 4)}),
        (Level.OUTPUT, Op(D, 0, 0), set()),
        (Level.OUTPUT, Op(C, 2, 5), {Op(D, 2, 5), Op(C, 2, 4)}),
        (Level.CLEAN, Op(D, 2, 5), {Op(D, 1, 5), Op(C, 0, 4)}),
        (Level.CLEAN, Op(C, 0, 5), {Op(D, 3, 5)}),
        (Level.INPUT, Op(D, 2, 5), {Op(D, 1, 5), Op(D, 2, 4)}),
        *((level, Op(V, 0, 5), {Op(D, 3, 5), Op(V, 0, 4)}) for level in Level),
        *((level, Op(V, 0, 0), {Op(D, 3, 0)}) for level in Level),
    ],
)
def test_an_op_waits_for_exactly_these(level: Level, op: Op, expected: set[Op]) -> None:
    assert set(needs(op, recipe(level))) == expected


def span(made_for: Recipe, blocks: int) -> int:
    """Forwards on the critical path of a stream with as many devices as it can use."""

    @cache
    def finish(op: Op) -> int:
        return int(op.kind is not V) + max((finish(need) for need in needs(op, made_for)), default=0)

    return max(finish(Op(kind, step, blocks - 1)) for kind, step in chains(made_for))


def test_a_pipelined_block_costs_two_forwards_at_output_level_and_five_at_clean() -> None:
    """hiar_spec 5.2: total S D + (N - 1)(D + C), plus the last commit; clean context cannot overlap its steps."""
    assert span(recipe(Level.OUTPUT), 27) == 4 + 26 * 2 + 1
    assert span(recipe(Level.CLEAN), 27) == 27 * 5
    assert span(recipe(Level.INPUT), 27) == 4 + 26


def test_only_clean_keeps_all_steps_in_one_lane() -> None:
    assert {lane_of(Op(D, step, 3), recipe(Level.CLEAN)) for step in range(4)} == {0}
    assert [lane_of(Op(D, step, 3), recipe(Level.OUTPUT)) for step in range(4)] == [0, 1, 2, 3]
    assert input_is_in_lane(Op(D, 1, 0), recipe(Level.CLEAN))
    assert not input_is_in_lane(Op(D, 1, 0), recipe(Level.OUTPUT))
