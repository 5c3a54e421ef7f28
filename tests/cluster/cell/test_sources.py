"""Recipes that say at which level the past is read, through the real engine: each stream is that of its own loop.

The weights are small and random; tests.identity has the pocket's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.render import in_process_engine, in_process_workers
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from tests.cluster.cell.world import Hashes, expected_hashes, stream
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model

PROMPT = "a red ball circling in the fog"
BLOCKS = 6
"""More than the window holds."""
CLEAN = altered(model_info().recipe, level=Level.CLEAN)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def right(model: Path, recipe: Recipe) -> list[str]:
    return expected_hashes(model, {0: PROMPT}, 7, BLOCKS, recipe)


async def served(model: Path, recipe: Recipe, denoise: int = 1) -> list[str]:
    """What the engine makes by a recipe."""
    made = NamedRecipe(name="it", recipe=recipe)
    workers = in_process_workers(model, model_info().recipe, denoise=denoise)
    workers = tuple(replace(spec, recipes=(recipe,)) for spec in workers)
    hashes, pictures = Hashes(recipe.step_count), model_info().geometry.first_picture(BLOCKS)
    async with in_process_engine(model, workers, recorder=hashes, recipes=[made]) as engine:
        hashes.listen(engine)
        await stream(engine, "s", PROMPT, recipe="it", picture_limit=pictures)
        engine.scheduler.check()
    return hashes.of("s")


NOISY: dict[str, dict[str, float]] = {
    "noise that the model is not told of": {"commit_step": 50, "commit_label": 0.0},
    "noise that it is told of": {"commit_step": 250},
    "no noise, and a label of its own": {"commit_label": -1.0},
}


@pytest.mark.parametrize("name", NOISY)
async def test_a_level_of_its_own_is_that_of_the_loop_and_no_other(model: Path, name: str) -> None:
    recipe = altered(CLEAN, **NOISY[name])
    made = await served(model, recipe)
    assert made == right(model, recipe)
    others = [altered(CLEAN, **fields) for other, fields in NOISY.items() if other != name]
    assert all(made[1:] != right(model, other)[1:] for other in (CLEAN, *others))
    assert made[0] == right(model, CLEAN)[0], "the first block has no past"


async def test_no_noise_that_is_told_as_none_is_clean_bit_for_bit(model: Path) -> None:
    assert await served(model, altered(CLEAN, commit_step=0, commit_label=0.0)) == right(model, CLEAN)
