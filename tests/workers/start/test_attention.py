"""The choice of attention: named, the same for the same sizes, and told where it is slow."""

from __future__ import annotations

import pytest
import torch

from workers.denoise.attention import SdpaBackend
from workers.models.api import Compute, sdpa
from workers.start.attention import Extent, choose, kernel_name, slowness

EXTENT = Extent(queries=30, keys=70, heads=2, head_dim=16)


def test_a_cpu_gets_torchs_attention_and_its_name() -> None:
    chosen = choose(EXTENT, Compute())
    assert chosen.backend == SdpaBackend(sdpa)
    assert chosen.name == "flash"


def test_what_no_kernel_takes_is_computed_step_by_step() -> None:
    q, k = torch.randn(1, 3, 2, 16, requires_grad=True), torch.randn(1, 5, 2, 16)
    assert kernel_name(q.to("meta"), k.to("meta"), k.to("meta")) == "math"


def test_operations_of_an_attention() -> None:
    assert EXTENT.flop == 2 * (2 * 30 * 70 * 16) * 2


def test_an_attention_that_is_slow_beside_products_is_told() -> None:
    assert slowness("cudnn", 545e12, 790e12) == ""
    told = slowness("flash", 310e12, 790e12)
    assert told.startswith("flash runs at 310 TFLOP/s, 39% of the 790 of matrix products")


@pytest.mark.parametrize("share", [0.59, 0.61])
def test_the_limit_of_slowness(share: float) -> None:
    assert bool(slowness("cudnn", share, 1.0)) == (share < 0.6)
