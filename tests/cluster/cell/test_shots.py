"""Stories through the real engine over small random weights: each is the oracle's, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.stories import Story
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CuePolicy
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.shelf import Shelf
from tests.cluster.cell.all_at_once import PROMPTS, all_at_once, cued
from tests.cluster.cell.world import Hashes
from tests.samples import first
from tests.workers.model_dir import model_info, write_model
from tests.workers.oracle import generate
from tests.workers.story_oracle import Telling
from tests.workers.unturned import UnturnedLanes, listed
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.models import weights
from workers.models.api import Compute, sdpa
from workers.models.text import load_text_encoder

BLOCKS = 13
STORY: dict[int, CueEffect] = {3: CueChange.CUT, 7: CueChange.CUT, 8: Back(0), 11: Back(1)}
"""A shot that ends inside the window, one that is longer than it, one of a block, and ways back from there."""


def made(
    level: Level = Level.CLEAN, *, window: int = 8, sinks: int = 0, shots: int = 2, offset: int = 0,
    stream: Numbering = Numbering.ABSOLUTE, cut: bool = True,
) -> Recipe:  # fmt: skip
    """Blocks of 2 frames."""
    return replace(
        model_info().recipe,
        blocks=BlockPlan(frames=2),
        context=Context(level=level, window_frames=window, sink_frames=sinks, shot_frames=shots),
        positions=Positions(stream=stream, shot_offset=offset),
        cues=CuePolicy(cut=cut),
    )


RECIPES = {
    "shot": made(),
    "sinks-and-shot": made(sinks=2, offset=8),
    "two-shots": made(shots=4, window=10, offset=3),
    "listed": made(sinks=2, stream=Numbering.LISTED),
    "listed-further": made(sinks=2, stream=Numbering.LISTED, offset=5),
    "no-window": made(window=4),
    "output": made(Level.OUTPUT, offset=2),
    "input": made(Level.INPUT, sinks=2),
}
BARE = made(shots=0, window=6, stream=Numbering.LISTED)
"""Nothing stays of a shot when it is over."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def told(story: Mapping[int, CueEffect]) -> Story:
    """The cuts, as the oracle takes them."""
    return [(block, effect.shot if isinstance(effect, Back) else None) for block, effect in story.items()]


def texts_of(model: Path, recipe: Recipe) -> dict[int, Tensor]:
    """The texts by the blocks they apply from."""
    encoder = load_text_encoder(model, replace(weights.load_info(model), recipe=recipe), Compute())
    blocks = enumerate((0, *STORY))
    return {block: encoder.encode(PROMPTS[turn % 3]).features_TC.unsqueeze(0) for turn, block in blocks}


def drawn(recipe: Recipe, block: int, draw: int) -> Tensor:
    """The noise of a stream."""
    return normal(7, block, draw, model_info().geometry.divided(recipe.blocks).block_shape)[None]


def hashes_of(latents: list[Tensor]) -> list[str]:
    return [sha256(tensor_to_bytes(block_BFCHW[0])).hexdigest() for block_BFCHW in latents]


def right(model: Path, recipe: Recipe, story: Mapping[int, CueEffect] = STORY) -> list[str]:
    """What a stream must be."""
    torch.set_num_threads(1)
    denoiser = weights.load_denoiser(model, replace(weights.load_info(model), recipe=recipe), Compute())
    plain = Telling(denoiser, recipe, told(story))
    return hashes_of(plain.generate(texts_of(model, recipe), lambda *of: drawn(recipe, *of), BLOCKS))


async def served(
    model: Path, recipes: Mapping[str, Recipe], *, denoise: int = 1, story: Mapping[int, CueEffect] = STORY
) -> Hashes:
    """A stream of each recipe, all at once over the same workers."""
    return await all_at_once(model, recipes, cued([*STORY], story), blocks=BLOCKS, denoise=denoise)


@pytest.mark.parametrize("denoise", first(1, [3, 1]))
async def test_every_story_is_the_oracles(model: Path, denoise: int) -> None:
    hashes = await served(model, RECIPES, denoise=denoise)
    for name, recipe in RECIPES.items():
        assert hashes.of(name) == right(model, recipe), name
    assert len({tuple(hashes.of(name)) for name in RECIPES}) == len(RECIPES), "no two do the same"


async def test_a_cut_of_which_nothing_stays_is_a_stream_that_begins_there(model: Path) -> None:
    """But for its numbers: places are listed, and the noise of its blocks is that of the blocks of the story."""
    story: dict[int, CueEffect] = {block: effect for block, effect in STORY.items() if effect is CueChange.CUT}
    hashes = await served(model, {"bare": BARE}, story=story)
    denoiser = weights.load_denoiser(model, replace(weights.load_info(model), recipe=BARE), Compute())
    lanes = UnturnedLanes(model=denoiser, window_frames=6, attention=sdpa, placing=listed)
    text = texts_of(model, BARE)[3]
    begun = generate(denoiser, BARE, text, lambda block, draw: drawn(BARE, block + 3, draw), 4, lanes)
    assert hashes.of("bare")[3:7] == hashes_of(list(begun))
    assert hashes.of("bare") == right(model, BARE, story)


async def test_a_story_without_a_cut_is_a_stream_of_the_recipe_without_shots(model: Path) -> None:
    """While it has one shot nothing stands further on, and a shelf with nothing on it is no part of what is read."""
    recipes = {"plain": made(window=6, shots=0, cut=False), "could": made(window=6, shots=0, offset=8)}
    recipes |= {"sinks": made(window=6, sinks=2, shots=0, cut=False), "sinks-could": made(window=8, sinks=2, offset=8)}
    hashes = await served(model, recipes, story={})
    assert hashes.of("plain") == hashes.of("could")
    assert hashes.of("sinks") == hashes.of("sinks-could")


async def test_an_offset_of_none_is_another_stream_than_one_of_some(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ignores the offset is not the oracle."""
    monkeypatch.setattr(Shelf, "shot_of", lambda *_: 0)
    hashes = await served(model, {"shot": RECIPES["shot"], "sinks-and-shot": RECIPES["sinks-and-shot"]})
    assert hashes.of("shot") == right(model, RECIPES["shot"])
    assert hashes.of("sinks-and-shot") != right(model, RECIPES["sinks-and-shot"])
