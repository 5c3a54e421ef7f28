"""The op order: the edges of DESIGN section 5, no cycle, and what each level can pipeline."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from tests.core.support.parts import recipe
from tests.core.support.recipes import APART

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
        *((level, Op(V, 0, 5), {Op(D, 3, 5), Op(V, 0, 4)}) for level in APART),
        *((level, Op(V, 0, 0), {Op(D, 3, 0)}) for level in APART),
    ],
)
def test_an_op_waits_for_exactly_these(level: Level, op: Op, expected: set[Op]) -> None:
    assert set(Graph(recipe(level)).needs(op)) == expected


def span(level: Level, blocks: int) -> int:
    """Forwards on the critical path of a stream with as many devices as it can use."""

    graph = Graph(recipe(level))

    @cache
    def finish(op: Op) -> int:
        return int(op.kind is not V) + max((finish(need) for need in graph.needs(op)), default=0)

    return max(finish(graph.op(chain.number, blocks - 1)) for chain in graph.chains)


def test_a_pipelined_block_costs_two_forwards_at_output_level_and_five_at_clean() -> None:
    """hiar_spec 5.2: total S D + (N - 1)(D + C), plus the last commit; clean context cannot overlap its steps."""
    assert span(Level.OUTPUT, 27) == 4 + 26 * 2 + 1
    assert span(Level.CLEAN, 27) == 27 * 5
    assert span(Level.INPUT, 27) == 4 + 26


def test_only_clean_keeps_all_steps_in_one_lane() -> None:
    clean, output = Graph(recipe(Level.CLEAN)), Graph(recipe(Level.OUTPUT))
    assert {clean.chain_of(Op(D, step, 3)).lane for step in range(4)} == {0}
    assert [output.chain_of(Op(D, step, 3)).lane for step in range(4)] == [0, 1, 2, 3]
    assert clean.chain_of(Op(D, 1, 0)).input_is_in_lane
    assert not output.chain_of(Op(D, 1, 0)).input_is_in_lane


def test_the_ops_of_a_first_block_of_other_size_have_the_same_levels_over_its_own_frames() -> None:
    usual = recipe(Level.OUTPUT, sinks=4)
    for first in (1, 3, 5):
        graph = Graph(replace(usual, blocks=replace(usual.blocks, first_frames=first)))
        for chain in graph.chains:
            for block, frames in ((0, first), (1, 3), (7, 3)):
                times = graph.usual.times[chain.number].over(graph.blocks.made(block))
                assert times.timesteps == (chain.times.timesteps[0],) * frames
                assert (times.sigma, times.next_sigma) == (chain.times.sigma, chain.times.next_sigma)
                assert graph.shape(block)[0] == len(graph.places(block).queries) == frames
        assert graph.sink_blocks == {1: 2, 3: 2, 5: 1}[first], "four sinks are frames 0 to 3"


@pytest.mark.parametrize("level", APART)
def test_a_graph_says_who_reads_the_latents_that_enter_each_step(level: Level) -> None:
    graph = Graph(recipe(level))
    for chain in graph.chains:
        if chain.entered_step:
            readers = graph.readers(chain.entered_step)
            assert readers is not None and chain.number in (readers.further, readers.commit)
            inputs = [need for need in chain.needs if need.is_input]
            assert [graph.chains[need.chain].step + 1 for need in inputs] == [chain.entered_step]
    assert graph.readers(0) is None
    assert graph.forwards_per_block == {Level.OUTPUT: 8, Level.CLEAN: 5, Level.INPUT: 4}[level]
    assert [graph.sealing_op(lane, 7) for lane in range(graph.lane_count)] == {
        Level.OUTPUT: [Op(C, step, 7) for step in range(4)],
        Level.CLEAN: [Op(C, 0, 7)],
        Level.INPUT: [Op(D, step, 7) for step in range(4)],
    }[level]


@pytest.mark.parametrize("level", APART)
def test_what_is_done_wakes_whoever_may_have_waited_for_it_and_a_segment_that_leaves_wakes_all(level: Level) -> None:
    graph = Graph(recipe(level))
    for chain in graph.chains:
        woken = graph.woken_by(graph.op(chain.number, 4))
        waiting = [other for other in graph.chains for block in (4, 5)
                   if graph.op(chain.number, 4) in graph.needs(graph.op(other.number, block))]  # fmt: skip
        assert {graph.chains[number] for number in woken} >= set(waiting)
        assert len(woken) == (len(graph.chains) if chain.kind is V else len(set(waiting)))
