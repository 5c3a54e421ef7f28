"""LongLive's infinite attention through the real engine: its own latents and keys, and that a mistake would show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from tests.cluster.cell.golden_cell import GoldenRun, golden_run
from tests.core.support.recipes import altered
from tests.workers.golden_pair import ABSENT
from tests.workers.longlive import ATOL, GOLDENS, INFINITE, LongLiveGolden

if INFINITE not in GOLDENS:
    pytest.skip(ABSENT, allow_module_level=True)

GOLDEN = LongLiveGolden.load(INFINITE)
RUN = "no_switch"
"""The one without a cue: what happens at one is not this file's matter."""
MISTAKES: dict[str, Recipe] = {
    "a window of one frame more": altered(GOLDEN.recipe, window_frames=13),
    "no sinks": altered(GOLDEN.recipe, sink_frames=0),
    "frame numbers for places": altered(GOLDEN.recipe, positions=Positions()),
    "places that come round": altered(GOLDEN.recipe, sink_frames=0, positions=Positions(stream=Cyclic(cyclic=12))),
}


async def made(folder: Path, recipe: Recipe | None = None) -> GoldenRun:
    return await golden_run(GOLDEN, folder, GOLDEN.block_count, recipe=recipe)


async def test_it_is_the_references(tmp_path: Path) -> None:
    assert GOLDEN.places_are_slots and GOLDEN.recipe.positions.stream is Numbering.LISTED
    run = await made(tmp_path)
    blocks = range(GOLDEN.block_count)
    torch.testing.assert_close(run.out(blocks), GOLDEN.out(RUN, blocks), atol=ATOL, rtol=0)
    turned = [block for block in blocks if GOLDEN.recipe.window.oldest(block) > GOLDEN.recipe.sink_frames]
    assert len(turned) == 6, "in most blocks frames have left the window"
    compared = 0
    for name, block in (("switch.before", 5), ("early_switch.before", 1)):  # the caches before anything else happens
        found = run.pages(block)
        for layer in GOLDEN.layers_of(name):
            for slot, frame in enumerate(sorted(found)):  # the sinks, then the others by age
                page = found[frame][layer]
                torch.testing.assert_close(page, GOLDEN.page(name, layer, slot), atol=ATOL, rtol=0)
                compared += 1
    assert compared == 3 * 12 + 2 * 6


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_shows(mistake: str, tmp_path: Path) -> None:
    run = await made(tmp_path, MISTAKES[mistake])
    blocks = range(GOLDEN.block_count)
    apart = (run.out(blocks) - GOLDEN.out(RUN, blocks)).abs()
    assert apart[: 3 * 4].max() <= ATOL or run.recipe.sink_frames == 0, (
        "until the window is full there is no difference"
    )
    assert apart.max() > 500 * ATOL, f"{apart.max()}"
