"""Streams that recache, through the real engine over small random weights: each is the oracle's, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CueChange, CuePolicy, CueRule
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from tests.cluster.cell.all_at_once import PROMPTS, all_at_once, cued
from tests.cluster.cell.world import Hashes
from tests.samples import first
from tests.workers.model_dir import model_info, write_model
from tests.workers.recache_oracle import Recaching
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute
from workers.models.text import load_text_encoder

BLOCKS = 9
TURNS = (2, 5, 6)
"""Inside the window, past it, and one right behind the other."""


def made(rule: CueRule, level: Level = Level.CLEAN, *, sinks: int = 0, keep: bool | None = None) -> Recipe:
    """Blocks of 2 frames in a window of 6."""
    info = model_info()
    return replace(
        info.recipe,
        blocks=BlockPlan(frames=2),
        context=Context(level=level, window_frames=6, sink_frames=sinks),
        cues=CuePolicy(change=rule, keep_sinks=keep),
        block_limit=BLOCKS if rule is CueRule.FULL else None,
    )


RECIPES = {
    "window": made(CueRule.WINDOW),
    "window-kept": made(CueRule.WINDOW, sinks=2, keep=True),
    "window-moved": made(CueRule.WINDOW, sinks=2, keep=False),
    "joint": made(CueRule.JOINT),
    "joint-kept": made(CueRule.JOINT, sinks=2, keep=True),
    "joint-moved": made(CueRule.JOINT, sinks=2, keep=False),
    "full": made(CueRule.FULL),
    "output": made(CueRule.WINDOW, Level.OUTPUT),
    "output-kept": made(CueRule.WINDOW, Level.OUTPUT, sinks=2, keep=True),
    "input-moved": made(CueRule.WINDOW, Level.INPUT, sinks=2, keep=False),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def oracle(model: Path, recipe: Recipe, seed: int = 7) -> tuple[Recaching, dict[int, Tensor]]:
    """The oracle of a recipe, and the texts by the blocks they apply from."""
    torch.set_num_threads(1)
    info = replace(weights.load_info(model), recipe=recipe)
    encoder = load_text_encoder(model, info, Compute())
    blocks = (0, *TURNS)
    found = {block: encoder.encode(PROMPTS[turn % 3]).features_TC.unsqueeze(0) for turn, block in enumerate(blocks)}
    return Recaching(weights.load_denoiser(model, info, Compute()), recipe), found


@cache
def right(model: Path, recipe: Recipe, recaches: tuple[int, ...] = TURNS, seed: int = 7) -> list[str]:
    """What a stream must be."""
    plain, texts = oracle(model, recipe)
    shape = model_info().geometry.divided(recipe.blocks).block_shape
    latents = plain.generate(texts, recaches, lambda block, draw: normal(seed, block, draw, shape)[None], BLOCKS)
    return [sha256(tensor_to_bytes(block_BFCHW[0])).hexdigest() for block_BFCHW in latents]


async def served(model: Path, denoise: int, change: CueChange | None = None) -> Hashes:
    """A stream of each recipe, all at once over the same workers."""
    cues = cued(TURNS, dict.fromkeys(TURNS, change))
    return await all_at_once(model, RECIPES, cues, blocks=BLOCKS, denoise=denoise)


@pytest.mark.parametrize("denoise", first(1, [3, 1]))
async def test_every_recache_is_the_oracles(model: Path, denoise: int) -> None:
    hashes = await served(model, denoise)
    for name, recipe in RECIPES.items():
        assert hashes.of(name) == right(model, recipe), name
    assert len({tuple(hashes.of(name)) for name in RECIPES}) == len(RECIPES), "no two do the same"


async def test_a_cue_that_swaps_leaves_what_is_remembered(model: Path) -> None:
    hashes = await served(model, 1, CueChange.SWAP)
    for name, recipe in RECIPES.items():
        swapped = right(model, replace(recipe, cues=CuePolicy()), ())
        assert hashes.of(name) == swapped != right(model, recipe), name


def test_a_full_recache_is_a_fresh_prefill_and_one_of_the_window_is_that_in_its_first_layer_alone(model: Path) -> None:
    """Latents of a stream whose prompt never changed, committed by the new one: in place, and in lanes that are new."""

    def held(recipe: Recipe) -> list[Tensor]:
        plain, texts = oracle(model, recipe)
        shape = model_info().geometry.divided(recipe.blocks).block_shape
        plain.generate({0: texts[0]}, (), lambda block, draw: normal(7, block, draw, shape)[None], 6)
        with torch.inference_mode():
            plain.recache(6, plain.model.encode_text(texts[2]))
        return [plain.held(0, layer)[:, :, -4 * 4 :] for layer in range(2)]

    full, window, joint = (held(RECIPES[name]) for name in ("full", "window", "joint"))
    plain, texts = oracle(model, RECIPES["full"])
    shape = model_info().geometry.divided(plain.recipe.blocks).block_shape
    plain.generate({0: texts[0]}, (), lambda block, draw: normal(7, block, draw, shape)[None], 6)
    fresh = Recaching(plain.model, plain.recipe, entered=plain.entered)
    with torch.inference_mode():
        fresh.recache(6, plain.model.encode_text(texts[2]))
    assert all(torch.equal(one, fresh.held(0, layer)[:, :, -16:]) for layer, one in enumerate(full))
    assert torch.equal(full[0], window[0]) and torch.equal(full[0], joint[0])
    assert not torch.allclose(full[1], window[1]) and not torch.allclose(window[1], joint[1])


def test_listed_places_are_recached_too() -> None:
    """Places of a recache are those of what it reads, in the order of time."""
    recipe = replace(RECIPES["joint-kept"], positions=Positions(stream=Numbering.LISTED))
    made = recipe.renewing.renewal(5, 1)
    assert made.reads(4) == [0, 1, 6, 7, 8, 9]
    assert recipe.positions.of(made.window, 4, made.reads(4)).queries == (4, 5)
