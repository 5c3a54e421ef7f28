"""The same workers on a CUDA device in bfloat16: close to the CPU in float32, and the same bits on every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from longtake.core.work import DecoderKind
from tests.gpu.rendering import rendered
from tests.workers.model_dir import write_model
from tests.workers.tiny_decoder import with_tiny
from workers.denoise.noise import Draw, normals, where_to_draw
from workers.models.api import Compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; none is here"),
]

CPU = Compute()
PICTURES = 41


async def pictures(model: Path, decoder: DecoderKind, compute: Compute = CPU) -> NDArray[np.int16]:
    """All pictures of a short stream, as one flat array."""
    return await rendered(model, compute, count=PICTURES, decoder=decoder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    with_tiny(tmp_path / "model", tmp_path)
    return tmp_path / "model"


@pytest.mark.parametrize("decoder", list(DecoderKind))
async def test_cuda_float32_shows_the_pictures_of_the_cpu(model: Path, decoder: DecoderKind) -> None:
    on_cpu, on_gpu = await pictures(model, decoder), await pictures(model, decoder, Compute(device="cuda"))
    assert on_cpu.shape == on_gpu.shape
    assert np.abs(on_cpu - on_gpu).mean() < 1.0


@pytest.mark.parametrize("decoder", list(DecoderKind))
async def test_cuda_bfloat16_gives_the_same_bits_twice_and_stays_near_float32(
    model: Path, decoder: DecoderKind
) -> None:
    first = await pictures(model, decoder, Compute(device="cuda", dtype="bfloat16"))
    second = await pictures(model, decoder, Compute(device="cuda", dtype="bfloat16"))
    assert np.array_equal(first, second)
    assert np.abs(first - await pictures(model, decoder)).mean() < 25


def test_noise_is_drawn_on_the_device_with_the_bits_of_the_cpu() -> None:
    assert where_to_draw(torch.device("cuda")) == torch.device("cuda")
    draws = [Draw(2**64 - 1, 2**32 - 1, 4), Draw(3, 1, 2), Draw(1 << 40, 4800, 0)]
    for shape in ((3, 16, 60, 104), (7,)):
        assert torch.equal(normals(draws, shape, torch.device("cuda")).cpu(), normals(draws, shape))
