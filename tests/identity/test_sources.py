"""Recipes whose past is read at a level of its own, in every layout: the latents are those of their own loops."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.simulated_streams import small_pictures
from cluster.launch.plan import POCKET, model_path
from tests.identity.__main__ import LAYOUTS, SIMULATED, Layout, Row, can_be, expected, matrix
from workers.models import weights

NAMES = ("ca2-vdm", "lag-2", "cmdm", "rolling")
TOGETHER = NAMES[1:]
BY_HAND = [layout for layout in LAYOUTS if layout.split == 1]
COMPUTED = ("sequential", "layer split 2", "swapped", "moved, fused, layer split 2", "batched 8")
right = cache(expected)


@pytest.fixture(scope="module")
def simulated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    weights.save_info(folder, small_pictures(weights.load_info(model_path(POCKET))))
    return folder


def row_of(layout: Layout, model: Path, device: str, seeds: tuple[int, ...], blocks: int) -> Row:
    (row,) = matrix([layout], model, device, right(model, device, seeds, blocks, layout.recipe))
    return row


@pytest.mark.parametrize("layout", BY_HAND, ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", NAMES)
def test_by_hand_they_are_as_computed(name: str, layout: Layout, simulated_model: Path) -> None:
    layout = replace(layout, recipe=name)
    if not can_be(layout, simulated_model):
        pytest.skip("such streams cannot be forked")
    blocks = 1000 if layout.moved else 24  # lanes move when the clock ticks, and simulated blocks take no time
    row = row_of(layout, simulated_model, SIMULATED, (3, 11), blocks)
    assert not row.wrong, row
    assert row.seen.loaded > 0 or not (layout.swapped or layout.moved), row
    live = 0 if name not in TOGETHER else 3 if name == "lag-2" else 5
    assert row.seen.largest_batch >= live, row


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each.name in COMPUTED], ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", NAMES)
def test_the_pocket_model_is_that_of_the_loop(name: str, layout: Layout) -> None:
    row = row_of(replace(layout, recipe=name), model_path(POCKET), "cpu", (3, 11), 8 if name in NAMES[:2] else 14)
    assert not row.wrong, row


@pytest.mark.parametrize("name", NAMES)
def test_two_pages_that_change_places_are_noticed(name: str, simulated_model: Path) -> None:
    layout = Layout(name="broken", recipe=name, broken=True)
    assert row_of(layout, simulated_model, SIMULATED, (3,), 24).wrong
