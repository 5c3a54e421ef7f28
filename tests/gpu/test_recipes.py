"""Recipes on a CUDA device: joint ops, recaches, keys that are turned as they are read, all by the device's kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from longtake.core.events import CueRequest
from longtake.core.work import CueId
from longtake.recipes import shipped
from tests.gpu.rendering import rendered
from tests.workers.model_dir import write_model
from workers.models.api import Compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; none is here"),
]

CPU, FLOAT32 = Compute(), Compute(device="cuda")
BFLOAT16 = Compute(device="cuda", dtype="bfloat16")
PICTURES = 73
CUE_BLOCK = 4
RECIPES = ["hiar-hybrid", "longlive", "longlive-infinite", "ca2-vdm", "rolling", "cmdm"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    return tmp_path / "model"


async def pictures(model: Path, recipe: str, compute: Compute) -> NDArray[np.int16]:
    """All pictures of a stream by a recipe that ships, with a cue once its window is full, as one flat array."""
    cue = CueRequest(cue=CueId("cue"), prompt="a blue box", block=CUE_BLOCK)
    return await rendered(model, compute, count=PICTURES, recipe=shipped()[recipe], cues=(cue,))


async def test_cuda_float32_shows_the_pictures_of_each_recipe_and_no_other(model: Path) -> None:
    on_cpu = {recipe: await pictures(model, recipe, CPU) for recipe in [*RECIPES, "clean"]}
    for recipe in RECIPES:
        on_gpu = await pictures(model, recipe, FLOAT32)
        apart = {each: float(np.abs(made - on_gpu).mean()) for each, made in on_cpu.items()}
        others = min(value for each, value in apart.items() if each != recipe)
        assert apart[recipe] < others / 4, f"{recipe}: {apart}"


@pytest.mark.timeout(600)  # kernels are made for each number of ops that go together
@pytest.mark.parametrize("recipe", ["longlive-infinite", "rolling"])
async def test_cuda_bfloat16_gives_the_same_bits_twice_and_stays_near_float32(model: Path, recipe: str) -> None:
    first, second = await pictures(model, recipe, BFLOAT16), await pictures(model, recipe, BFLOAT16)
    assert np.array_equal(first, second)
    assert np.abs(first - await pictures(model, recipe, CPU)).mean() < 25
