"""Folded memory through the real engine: each stream is the oracle's, bit for bit, in every layout and whatever befalls
it; or its client is told, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.launch.served import served_recipes
from longtake.core.effects import Dispatch
from longtake.core.errors import InvalidField
from longtake.core.events import CueRequest
from longtake.core.recipe.context import Level
from longtake.core.work import CueId, DecodeWork
from tests.cluster.cell.all_at_once import PROMPTS, alone
from tests.cluster.cell.world import expected_hashes
from tests.core.support.folded import folding
from tests.samples import covering
from tests.workers.model_dir import model_info, write_model

PROMPT, OTHER, _ = PROMPTS
RECIPES = {
    "input": folding(steps=3, sinks=1, memory=2, k=2, window=7, frames=2, first=1),
    "output": folding(Level.OUTPUT, sinks=1, memory=1, k=4, window=9, frames=3),
    "clean": folding(Level.CLEAN, sinks=0, memory=1, k=2, window=4, frames=1),
}
PICTURES = 1 + 4 * 17


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.mark.parametrize(("name", "denoise"), covering(RECIPES, [1, 3], together=1))
async def test_streams_that_fold_are_the_oracles_alone_and_batched_through_cues(
    model: Path, name: str, denoise: int
) -> None:
    recipe, cues = RECIPES[name], (CueRequest(cue=CueId("turn"), prompt=OTHER, block=3),)
    hashes = await alone(model, recipe, PICTURES, denoise=denoise, cues=cues)
    blocks = model_info().geometry.divided(recipe.blocks).blocks_for(PICTURES)
    assert hashes.of("s") == expected_hashes(model, {0: PROMPT, 3: OTHER}, 7, blocks, recipe)
    works = [each.work for each in hashes.effects if isinstance(each, Dispatch)]
    folds = [work for batch in works if not isinstance(batch, DecodeWork) for work in batch if work.folds]
    first = 1 + ((recipe.window_frames or 0) - recipe.blocks.lead) // recipe.blocks.frames
    assert len(folds) == recipe.lane_count * (blocks - first)


def test_a_recipe_whose_folds_do_not_divide_the_frames_of_a_model_is_not_served(tmp_path: Path) -> None:
    file = tmp_path / "thirds.toml"
    file.write_text(
        '[blocks]\nframes = 2\n[context]\nlevel = "clean"\nwindow_frames = 4\nmemory_frames = 1\n'
        '[positions]\nstream = "listed"\n[memory]\non_leave = "fold"\nfold_frames = 3\n'
    )
    with pytest.raises(InvalidField, match="a divisor of 4, the tokens of a latent frame"):
        served_recipes(model_info(), [str(file)], is_pocket=False)
