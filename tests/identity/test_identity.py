"""Every layout leaves the very latents of the sequential oracle; and one page in the wrong place is noticed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.simulated_streams import small_pictures
from cluster.launch.plan import POCKET, model_path
from tests.identity.__main__ import Row, matrix
from tests.identity.layouts import LAYOUTS, Layout
from tests.identity.streams import SIMULATED, Right
from tests.samples import first
from workers.models import weights

SEEDS = (3, 11, 5, 8)
BLOCKS = 5
"""More than the window holds: pages are used again."""
BY_HAND_BLOCKS = 16
BY_HAND = [layout for layout in LAYOUTS if layout.split == 1]
"""Simulated workers hold no layers that could be shared out."""


@pytest.fixture(scope="module")
def simulated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    weights.save_info(folder, small_pictures(weights.load_info(model_path(POCKET))))
    return folder


right = cache(Right)
"""The oracle computes once what all layouts are held against."""


def row_of(layout: Layout, model: Path, device: str, blocks: int) -> Row:
    (row,) = matrix([layout], right(model, device, "", blocks), SEEDS)
    return row


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_small_model_is_the_oracles(layout: Layout, small_model: Path) -> None:
    row = row_of(layout, small_model, "cpu", BLOCKS)
    assert row.is_right, row


@pytest.mark.parametrize("layout", first(1, reversed(LAYOUTS)), ids=lambda layout: layout.name)
def test_the_pocket_model_is_the_oracles(layout: Layout) -> None:
    row = row_of(layout, model_path(POCKET), "cpu", BLOCKS)
    assert row.is_right, row


@pytest.mark.parametrize("layout", BY_HAND, ids=lambda layout: layout.name)
def test_the_model_that_is_computed_by_hand_is_as_computed(layout: Layout, simulated_model: Path) -> None:
    row = row_of(layout, simulated_model, SIMULATED, BY_HAND_BLOCKS)
    assert row.is_right, row
    # And the layout did what it is named after.
    assert (row.seen.largest_batch > 1) is (row.seen.mixed > 0) is (layout.batch_limit > 1), row
    assert (row.seen.fused > 0) is layout.fused or layout.forked, row
    assert (len(row.seen.forks) == len(SEEDS)) is layout.forked, row


@pytest.mark.parametrize("layout", BY_HAND, ids=lambda layout: layout.name)
def test_two_pages_that_change_places_are_noticed(layout: Layout, simulated_model: Path) -> None:
    assert row_of(replace(layout, broken=True), simulated_model, SIMULATED, BY_HAND_BLOCKS).wrong


@pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if layout.split > 1 or (layout.workers == 1 and layout.batch_limit in (1, 8, 16))],
    ids=lambda layout: layout.name,
)
def test_two_pages_that_change_places_are_noticed_where_layers_are_shared_out_too(
    layout: Layout, small_model: Path
) -> None:
    assert row_of(replace(layout, broken=True), small_model, "cpu", BLOCKS).wrong
