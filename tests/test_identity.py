"""Every layout leaves the very latents of the sequential oracle; and one page in the wrong place is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.simulated_streams import small_pictures
from cluster.launch import POCKET, model_path
from tests.identity import LAYOUTS, SIMULATED, Layout, matrix
from workers.models import weights

SEEDS = (3, 11)
BLOCKS = 6
"""More than the window of the pocket model holds: pages are used again."""
LAYOUTS_BY_NAME = {layout.name: layout for layout in LAYOUTS}


@pytest.fixture(scope="module")
def simulated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    weights.save_info(folder, small_pictures(weights.load_info(model_path(POCKET))))
    return folder


def differing(layout: Layout, model: Path, device: str, blocks: int) -> list[str]:
    return [line for line in matrix([layout], model, device, SEEDS, blocks) if not line.endswith("equal")]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_pocket_model_is_the_oracles(layout: Layout) -> None:
    assert not differing(layout, model_path(POCKET), "cpu", BLOCKS)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_model_that_is_computed_by_hand_is_as_computed(layout: Layout, simulated_model: Path) -> None:
    assert not differing(layout, simulated_model, SIMULATED, 60)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_two_pages_that_change_places_are_noticed(layout: Layout, simulated_model: Path) -> None:
    assert differing(replace(layout, broken=True), simulated_model, SIMULATED, 60)


def test_two_pages_that_change_places_are_noticed_in_the_pocket_model() -> None:
    assert differing(replace(LAYOUTS_BY_NAME["sequential"], broken=True), model_path(POCKET), "cpu", BLOCKS)
