"""Rotations in real numbers: the bits of the complex product, whether pairs are turned at once or apart."""

import platform
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workers.models.rotary import Rotation, rotate, rotate_fused, time_turn
from workers.models.wan.config import WanConfig
from workers.models.wan.dit import turns

CONFIG = WanConfig(
    dim=64, ffn_dim=64, num_heads=2, num_layers=1, in_dim=4, out_dim=4, freq_dim=16, text_dim=8, text_len=2
)
HEADS = [24, 32, 128]
"""Channels of a head: of the tests' network, of the pocket model and of Wan2.1."""
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
FRAMES = (0, 1, 5, 1023, 10**6 + 7, 2**40)
GRID = (2, 3)


def sized(head_dim: int) -> WanConfig:
    return replace(CONFIG, dim=2 * head_dim)


def keys(head_dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Keys [1, L, N, D] of the tokens of FRAMES."""
    torch.manual_seed(head_dim)
    return torch.randn(1, len(FRAMES) * 6, 2, head_dim).to(dtype)


def full_turn(head_dim: int, frames: tuple[int, ...] = FRAMES) -> Rotation:
    return turns(torch.tensor([frames]), GRID, sized(head_dim))


def as_complex_product(x: Tensor, turn: Rotation) -> Tensor:
    """Channels (2i, 2i + 1) rotated as one complex number: how keys and queries were rotated before."""
    factor = torch.complex(turn.cos[..., ::2].contiguous(), turn.sin[..., ::2].contiguous())
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * factor).flatten(-2).to(x.dtype)


def read_turned(x_BLND: Tensor, frames: tuple[int, ...]) -> Tensor:
    """Keys that have no time yet, turned by one factor a frame, as pages are."""
    pairs, head_dim = sized(x_BLND.shape[-1]).time_pairs, x_BLND.shape[-1]
    x_PLND = x_BLND.view(len(frames), -1, *x_BLND.shape[2:])
    return rotate(x_PLND, time_turn(torch.tensor(frames), pairs, head_dim)).view(x_BLND.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", HEADS)
def test_it_is_the_complex_product(head_dim: int, dtype: torch.dtype) -> None:
    x, turn = keys(head_dim, dtype), full_turn(head_dim)
    found, wanted = rotate(x, turn), as_complex_product(x, turn)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0 if dtype is torch.float32 else 0.01)
    if IS_X86 and head_dim != 24:  # whose 12 pairs leave a rest behind whole vectors, in which products are fused
        assert torch.equal(found, wanted), "weights that were served before would give other bits"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", HEADS)
def test_time_turned_at_read_has_the_bits_of_time_turned_at_write(head_dim: int, dtype: torch.dtype) -> None:
    x = keys(head_dim, dtype)
    stored = rotate(x, full_turn(head_dim, (0,) * len(FRAMES)))
    assert torch.equal(read_turned(stored, FRAMES), rotate(x, full_turn(head_dim)))
    assert not torch.equal(read_turned(stored, (1, *FRAMES[1:])), rotate(x, full_turn(head_dim)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", HEADS)
def test_a_turn_by_zero_is_none(head_dim: int, dtype: torch.dtype) -> None:
    x = keys(head_dim, dtype)
    assert torch.equal(read_turned(x, (0,) * len(FRAMES)), x)
    in_time = sized(head_dim).time_pairs * 2
    stored = rotate(x, full_turn(head_dim, (0,) * len(FRAMES)))
    assert torch.equal(stored[..., :in_time], x[..., :in_time])
    assert not torch.equal(stored, x), "rows and columns are turned all the same"


@pytest.mark.parametrize("head_dim", HEADS)
def test_what_compilers_are_given_is_the_same(head_dim: int) -> None:
    x, turn = keys(head_dim), full_turn(head_dim)
    assert torch.equal(rotate_fused(x, turn), rotate(x, turn))


def test_it_can_be_trained_through() -> None:
    turn, weight = full_turn(32), keys(32)
    gradients: list[Tensor] = []
    for rotation in (rotate, as_complex_product):
        x = keys(32).requires_grad_()
        gradients += torch.autograd.grad((rotation(x, turn) * weight).sum(), x)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)
