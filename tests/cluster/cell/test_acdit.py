"""ACDiT through the real engine: its fused write, ours beside the next block's first step, and one after the other."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from torch import Tensor

from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.recipes import shipped
from tests.cluster.cell.all_at_once import PROMPTS, alone
from tests.cluster.cell.world import Hashes, expected_hashes
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model
from tests.workers.oracle import ContiguousLanes
from tests.workers.oracle_acdit import generate_prepended
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, sdpa
from workers.models.text import load_text_encoder
from workers.start import probe

PROMPT, BLOCKS = PROMPTS[0], 6
ACDIT = shipped()["acdit"].recipe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


async def served(model: Path, recipe: Recipe, *, fused: bool) -> Hashes:
    pictures = model_info().geometry.divided(recipe.blocks).first_picture(BLOCKS)
    return await alone(model, recipe, pictures, limits=Limits(fused_passes=fused))


def by_the_paper(model: Path) -> list[str]:
    """The loop that writes a block's K/V with the forward that begins the next."""
    info = replace(weights.load_info(model), recipe=ACDIT, geometry=model_info().geometry.divided(ACDIT.blocks))
    denoiser = weights.load_denoiser(model, info, Compute())
    text = load_text_encoder(model, info, Compute()).encode(PROMPT).features_TC.unsqueeze(0)
    lanes = ContiguousLanes(denoiser, ACDIT.window_frames, 0, sdpa)

    def noise(block: int, draw: int) -> Tensor:
        return normal(7, block, draw, info.geometry.shape_of(block)).unsqueeze(0)

    made = generate_prepended(denoiser, ACDIT, text, noise, BLOCKS, lanes)
    return [sha256(tensor_to_bytes(x[0])).hexdigest() for x in made]


async def test_a_write_beside_the_next_first_step_is_one_by_itself_and_that_of_the_paper_to_the_bit(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "MIN_GAIN", -10.0)  # every batch pays; those that are not exact are still refused
    right = by_the_paper(model)
    assert right == expected_hashes(model, {0: PROMPT}, 7, BLOCKS, ACDIT), "as one after the other"
    fused, apart = await served(model, ACDIT, fused=True), await served(model, ACDIT, fused=False)
    assert fused.of("s") == apart.of("s") == right
    assert apart.mixed == 0 < fused.mixed
    assert len(fused.batches) == len(apart.batches) - fused.mixed


async def test_blocks_that_begin_when_the_one_before_is_finished_are_those_too(model: Path) -> None:
    recipe = altered(ACDIT, level=Level.STAGGERED, lag=ACDIT.step_count)
    assert (await served(model, recipe, fused=False)).of("s") == by_the_paper(model)
