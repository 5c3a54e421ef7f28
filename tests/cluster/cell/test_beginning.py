"""Streams whose first blocks are read as they are when finished, through the real engine: the oracle's, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from cluster.render import in_process_engine, in_process_workers
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from tests.cluster.cell.world import Hashes, stream
from tests.samples import covering
from tests.workers.model_dir import model_info, write_model
from tests.workers.oracle import ContiguousLanes
from tests.workers.oracle_beginning import Beginning, generate_from
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, sdpa
from workers.models.text import load_text_encoder

PROMPT = "a red ball circling in the fog"
BLOCKS = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def right(model: Path, recipe: Recipe, beginning: Beginning, seed: int = 7) -> list[str]:
    """What a stream must be by the oracle, block by block."""
    torch.set_num_threads(1)
    info = weights.load_info(model)
    info = replace(info, recipe=recipe, geometry=info.geometry.divided(recipe.blocks))
    denoiser = weights.load_denoiser(model, info, Compute())
    text = load_text_encoder(model, info, Compute()).encode(PROMPT).features_TC.unsqueeze(0)
    made = generate_from(
        denoiser,
        recipe,
        {0: text},
        lambda block, draw: normal(seed, block, draw, info.geometry.shape_of(block)).unsqueeze(0),
        BLOCKS,
        ContiguousLanes(denoiser, recipe.window_frames, recipe.sink_frames, attention=sdpa),
        beginning,
    )
    return [sha256(tensor_to_bytes(x0_BFCHW[0])).hexdigest() for x0_BFCHW in made]


def started(start: int, **blocks: int) -> Recipe:
    own = model_info().recipe
    return replace(
        own, context=replace(own.context, start_blocks=start), blocks=replace(own.blocks, **blocks)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "denoise"),
    covering([started(1), started(2), started(5), started(2, first_frames=1)], [1, 3], together=1),
)
async def test_a_hybrid_start_is_the_oracles(model: Path, recipe: Recipe, denoise: int) -> None:
    named, hashes = NamedRecipe(name="begun", recipe=recipe), Hashes(recipe.step_count)
    workers = in_process_workers(model, recipe, denoise=denoise, sessions=2)
    geometry = model_info().geometry.divided(recipe.blocks)
    async with in_process_engine(model, workers, recorder=hashes, recipes=[named]) as engine:
        hashes.listen(engine)
        await stream(engine, "s", PROMPT, recipe="begun", picture_limit=geometry.first_picture(BLOCKS))
        engine.scheduler.check()
    expected = right(model, recipe, Beginning(start_blocks=recipe.context.start_blocks))
    assert hashes.of("s") == expected
    plain = right(model, replace(recipe, context=replace(recipe.context, start_blocks=0)), Beginning())
    differ = [block for block in range(BLOCKS) if plain[block] != expected[block]]
    assert differ == list(range(1, BLOCKS)), "the first block reads nothing, all others read another past"
