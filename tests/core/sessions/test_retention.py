"""Retention: what is kept of a stream, and from where it can be rebuilt."""

from __future__ import annotations

from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.sessions.retention import Floors, Retention
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import recipe


def test_the_oldest_block_by_hand() -> None:
    """OUTPUT, H = 2, two layers, decoder of two blocks: four blocks before a lane's boundary, at every step."""
    cell = ImageCell(recipe(Level.OUTPUT, window=12, sinks=3))
    kept = cell.scheduler.cell.fleet.retention(cell.graph)
    assert (kept.lane_blocks, kept.slot_blocks, cell.graph.sink_blocks) == (4, 2, 1)
    for latents, texts, oldest in (
        ((0, 0, 0, 0), 0, 0),
        ((1, 1, 1, 1), 1, 0),  # what was dropped is of a sink, and those are kept beside
        ((2, 0, 0, 0), 0, 6),
        ((9, 8, 7, 7), 6, 13),
        ((5, 5, 5, 5), 7, 11),  # of the blocks before 7 the prompts are forgotten
    ):
        assert kept.oldest_fork(Floors(latents=latents, texts=texts)) == oldest
    inputs = ImageCell(recipe(Level.INPUT))
    kept = inputs.scheduler.cell.fleet.retention(inputs.graph)
    assert kept.oldest_fork(Floors(latents=(0, 0, 0, 7), texts=0)) == 7 + 2, (
        "of finished latents only the decoder reads"
    )
    clean = ImageCell(recipe(Level.CLEAN))
    kept = clean.scheduler.cell.fleet.retention(clean.graph)
    assert kept.oldest_fork(Floors(latents=(9, 9, 9, 2), texts=0)) == 2 + 4, (
        "what passes between steps nobody reads again"
    )


def test_more_is_kept_from_now_on_when_a_server_is_told_so_and_nothing_is_made_again_for_that() -> None:
    cell = ImageCell(recipe(Level.OUTPUT))
    less = cell.scheduler.cell.fleet.retention(cell.graph)
    more = Retention(graph=less.graph, depths=less.depths, rewind_blocks=6)
    there = (((8, 12),),) * 4
    assert less.frontier(there, acknowledged=11) == more.frontier(there, acknowledged=11) == (12,) * 9
    assert more.found(there, (12,) * 9, acknowledged=11) == Floors(latents=(8,) * 4, texts=0)
    assert more.oldest_fork(more.found((((3, 12),),) * 4, (12,) * 9, acknowledged=11)) == 7


def test_finished_latents_that_are_missing_before_the_newest_end_the_frontier_at_level_input() -> None:
    """Nobody but the decoder reads them there, and it has not come to the gap."""
    cell = ImageCell(recipe(Level.INPUT))
    kept = cell.scheduler.cell.fleet.retention(cell.graph)
    whole, gap = ((0, 20),), ((0, 15), (16, 20))
    assert cell.graph.chains[cell.graph.decodes].kind is Kind.DECODE
    assert kept.frontier((whole, whole, whole, whole), acknowledged=13) == (20, 20, 20, 20, 14)
    assert max(kept.frontier((whole, whole, whole, gap), acknowledged=13)) == 15
