"""Replicas that are chains of workers: how many dispatches they hold, where their ops start from, and their layers."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.endings import Ending
from longtake.core.errors import InvalidField
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.layers import LayerTimes, balanced_ranges
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import FromLane, FromLatent, FromNoise, Ticket, WorkerId
from tests.core.support.parts import geometry, recipe
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, forwards_of

WORKER = WorkerId("denoise-0")


@pytest.mark.parametrize(("length", "held"), [(1, 2), (2, 3), (4, 5)])
def test_a_chain_holds_one_dispatch_for_each_worker_and_one_more(length: int, held: int) -> None:
    cell = Cell(recipe(), denoisers=1, chain_length=length)
    for number in range(6):
        cell.open(f"s{number}")
    cell.answer()
    assert len(cell.queues[WORKER]) == held
    cell.steps(40)
    assert len(cell.queues[WORKER]) == held
    views = {view.worker: view.ability.chain_length for view in cell.scheduler.workers()}
    assert views == {"denoise-0": length, "decode-0": 1}


@pytest.mark.parametrize("level", APART)
def test_no_op_of_a_chain_starts_from_what_a_worker_has_kept(level: Level) -> None:
    """The world checks besides that the latents have arrived, and are still there, whenever an op starts from them."""
    cell = Cell(recipe(level), denoisers=2, chain_length=3)
    for number in range(3):
        cell.open(f"s{number}", pictures=90)
    cell.run()
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values()) and len(cell.closed) == 3
    for work in forwards_of(cell):
        if work.kind is Kind.DENOISE and work.step == 0:
            assert work.input == FromNoise()
            continue
        assert isinstance(work.input, FromLatent)
        entered = work.step if work.kind is Kind.DENOISE else work.step + 1 if level is Level.OUTPUT else 4
        assert (work.input.ref.block, work.input.ref.step) == (work.block, entered)


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("length", [1, 2])
def test_latents_are_kept_for_as_long_as_a_rebuild_may_need_them_and_no_longer(level: Level, length: int) -> None:
    cell = Cell(recipe(level), denoisers=1, chain_length=length)
    session = cell.open("s", pictures=geometry().first_picture(30), window=2)
    retention = cell.scheduler.cell.fleet.retention(cell.graph)
    kept = []
    for _ in range(100_000):
        cell.answer()
        if not cell.busy:
            break
        cell.finish_and_acknowledge(cell.busy[0])
        kept.append(len(cell.kept.latents))
    assert session in cell.closed and not cell.kept.latents
    reach = retention.lane_blocks, retention.slot_blocks
    assert reach == (2 * 2, 2), "two past blocks and two layers; four latent frames of three in a block"
    steps = 1 if level is Level.CLEAN else 4
    assert max(kept) <= retention.most_latents(2), "what admission counts with"
    assert max(kept) >= steps * max(reach) if level is not Level.INPUT else max(kept) >= 3 * 4
    inputs = {type(work.input) for work in forwards_of(cell)}
    assert (FromLane in inputs) == (length == 1 and level is not Level.INPUT)


def test_the_way_through_a_chain_counts_where_a_deadline_is_near() -> None:
    def deadline_s(length: int) -> float:
        cell = Cell(recipe(), denoisers=1, chain_length=length)
        session = cell.open("live", pace=Pace.REALTIME)
        cell.answer()
        for _ in range(30):
            cell.finish_and_acknowledge(cell.busy[0]) if cell.busy[0] != WORKER else cell.finish(WORKER, seconds=0.01)
        record = cell.session(session)
        record.flow = record.flow.played(0, now_s=0.0, geometry=record.geometry)
        return cell.scheduler.cell.urgency(cell.scheduler.cell, Ticket(session, Op(Kind.DENOISE, 0, 50))).deadline_s

    # Three more denoise ops follow the first, each through two workers in place of one.
    assert deadline_s(1) - deadline_s(2) == pytest.approx(3 * 0.01)


def test_ranges_by_hand() -> None:
    even = LayerTimes(embed_s=0.0, layer_s=1.0, head_s=0.0)
    assert balanced_ranges(even, 4, 1) == (range(4),)
    assert balanced_ranges(even, 4, 2) == (range(2), range(2, 4))
    assert balanced_ranges(even, 5, 2) == (range(2), range(2, 5)), "of equals the last takes the odd one"
    assert balanced_ranges(even, 4, 4) == tuple(range(n, n + 1) for n in range(4))
    # 30 layers of 10 ms; embedding 2 ms, head 25 ms: 0.082, 0.08, 0.08, 0.085.
    wan = LayerTimes(embed_s=0.002, layer_s=0.010, head_s=0.025)
    assert balanced_ranges(wan, 30, 4) == (range(8), range(8, 16), range(16, 24), range(24, 30))
    # A head as dear as three layers leaves the last worker the least it may have.
    dear = LayerTimes(embed_s=1.0, layer_s=1.0, head_s=3.0)
    assert balanced_ranges(dear, 6, 3) == (range(2), range(2, 5), range(5, 6))


@given(
    embed_s=st.floats(0, 5), layer_s=st.floats(0.1, 5), head_s=st.floats(0, 5),
    layers=st.integers(1, 9), length=st.integers(1, 5),
)  # fmt: skip
def test_no_other_ranges_have_a_faster_slowest_worker(
    embed_s: float, layer_s: float, head_s: float, layers: int, length: int
) -> None:
    times = LayerTimes(embed_s=embed_s, layer_s=layer_s, head_s=head_s)
    if length > layers:
        with pytest.raises(InvalidField, match=rf"cluster.layer_split: {length} is not .* 1 to {layers} workers"):
            balanced_ranges(times, layers, length)
        return

    def slowest_s(counts: list[int]) -> float:
        last = length - 1
        return max(
            embed_s * (rank == 0) + count * layer_s + head_s * (rank == last) for rank, count in enumerate(counts)
        )

    found = balanced_ranges(times, layers, length)
    assert [layer for held in found for layer in held] == list(range(layers))
    every = (
        [stop - start for start, stop in pairwise((0, *cuts, layers))]
        for cuts in combinations(range(1, layers), length - 1)
    )
    assert slowest_s([len(held) for held in found]) == min(slowest_s(counts) for counts in every)


def test_times_that_no_clock_measures_are_refused() -> None:
    with pytest.raises(InvalidField, match=r"layer_times\.head_s: nan"):
        LayerTimes(embed_s=0.0, layer_s=1.0, head_s=float("nan"))
