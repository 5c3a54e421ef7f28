"""Recipes whose past is read at a level of its own, or made again at a cue, in every layout: the oracle's latents."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.simulated_streams import small_pictures
from cluster.launch.plan import POCKET, model_path
from tests.identity.__main__ import Row, can_be, matrix
from tests.identity.layouts import LAYOUTS, Layout
from tests.identity.streams import SIMULATED, Right
from tests.samples import covering, first
from workers.models import weights

NAMES = ("ca2-vdm", "lag-2", "cmdm", "rolling", "longlive", "infinite-recached", "hiar-recached", "hybrid-cyclic")
BY_HAND = [layout for layout in LAYOUTS if layout.split == 1]
COMPUTED = ("sequential", "layer split 2", "swapped", "moved, fused, layer split 2", "given, moved")
LONG = ("cmdm", "rolling")
"""Blocks of one frame: the window is full later."""
right = cache(Right)


def computed(*before: str) -> list[Layout]:
    """The layouts of networks, those of these names before the others."""
    found = [each for each in LAYOUTS if each.name in COMPUTED]
    return sorted(found, key=lambda layout: before.index(layout.name) if layout.name in before else len(before))


def named(value: object) -> str:
    return value.name if isinstance(value, Layout) else str(value)


@pytest.fixture(scope="module")
def simulated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    weights.save_info(folder, small_pictures(weights.load_info(model_path(POCKET))))
    return folder


def row_of(layout: Layout, model: Path, device: str, seeds: tuple[int, ...], blocks: int) -> Row:
    if not can_be(layout, model):
        pytest.skip("no such streams by this recipe")
    (row,) = matrix([layout], right(model, device, layout.recipe, blocks), seeds)
    return row


@pytest.mark.parametrize(("name", "layout"), covering(NAMES, BY_HAND, together=1), ids=named)
def test_by_hand_they_are_as_computed(name: str, layout: Layout, simulated_model: Path) -> None:
    row = row_of(replace(layout, recipe=name), simulated_model, SIMULATED, (3, 11), 14)
    assert row.is_right, row


@pytest.mark.parametrize("layout", first(2, computed("sequential", "moved, fused, layer split 2")), ids=named)
@pytest.mark.parametrize("name", NAMES)
def test_a_small_model_is_that_of_the_loop(name: str, layout: Layout, small_model: Path) -> None:
    row = row_of(replace(layout, recipe=name), small_model, "cpu", (3, 11), 14 if name in LONG else 8)
    assert row.is_right, row


@pytest.mark.slow
@pytest.mark.parametrize("layout", computed(), ids=named)
@pytest.mark.parametrize("name", NAMES)
def test_the_pocket_model_is_that_of_the_loop(name: str, layout: Layout) -> None:
    row = row_of(replace(layout, recipe=name), model_path(POCKET), "cpu", (3, 11), 14 if name in LONG else 8)
    assert row.is_right, row


@pytest.mark.parametrize("layout", [each for each in BY_HAND if each.name in COMPUTED], ids=named)
@pytest.mark.parametrize("name", NAMES)
def test_two_pages_that_change_places_are_noticed(name: str, layout: Layout, simulated_model: Path) -> None:
    layout = replace(layout, recipe=name, broken=True)
    assert row_of(layout, simulated_model, SIMULATED, (3, 11), 14).wrong
