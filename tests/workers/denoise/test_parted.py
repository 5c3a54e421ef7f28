"""Attention in parts: the attention over all keys, whatever their number, and the same bits alone and in a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.denoise.parted import TILE, PartedAttention, merged, parts_for, with_log_sum
from workers.models.api import sdpa

LEAST = 16 * TILE


def inputs(keys: int, *, batch: int = 1, queries: int = 37, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(keys)

    def normal(tokens: int) -> Tensor:
        return torch.randn(batch, tokens, 2, 16, generator=random).to(dtype)

    return 3 * normal(queries), 3 * normal(keys), normal(keys)


def parted(parts: int) -> PartedAttention:
    return PartedAttention(parts, merge=merged)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("beyond", [1, 127, 128, 129, 500])
def test_the_parts_make_the_whole(parts: int, beyond: int) -> None:
    q, k, v = inputs(parts * LEAST + beyond)
    exact = sdpa(q.double(), k.double(), v.double())
    torch.testing.assert_close(parted(parts)(q, k, v).double(), exact, atol=1e-5, rtol=0)


def test_no_part_is_left_out() -> None:
    q, k, v = inputs(2 * LEAST + 100)
    whole = parted(2)(q, k, v)
    for key in (0, LEAST - 1, LEAST, 2 * LEAST - 1, 2 * LEAST, 2 * LEAST + 99):
        other = v.clone()
        other[:, key] += 100
        assert not torch.equal(parted(2)(q, k, other), whole), f"key {key} counts"


def test_bfloat16_is_rounded_once_a_part() -> None:
    q, k, v = inputs(2 * LEAST + 300, dtype=torch.bfloat16)
    exact = sdpa(q.double(), k.double(), v.double())
    error = (parted(2)(q, k, v).double() - exact).norm() / exact.norm()
    assert parted(2)(q, k, v).dtype is torch.bfloat16
    assert error < 2 * (sdpa(q, k, v).double() - exact).norm() / exact.norm()


def test_an_item_has_the_same_bits_alone_and_in_a_batch() -> None:
    q, k, v = inputs(2 * LEAST + 60, batch=3)
    together = parted(2)(q, k, v)
    assert together.shape == q.shape
    for item in range(3):
        one = slice(item, item + 1)
        assert torch.equal(parted(2)(q[one], k[one], v[one]), together[one])


def test_a_window_that_is_short_is_computed_at_once() -> None:
    q, k, v = inputs(2 * LEAST)  # no key would be left over
    assert torch.equal(parted(2)(q, k, v), sdpa(q, k, v))


def test_logits_of_any_size_are_put_together() -> None:
    q, k, v = inputs(2 * LEAST + 10)
    q *= 60  # exponentials of these overflow by far
    assert torch.isfinite(parted(2)(q, k, v)).all()
    torch.testing.assert_close(parted(2)(q, k, v), sdpa(q, k, v), atol=1e-3, rtol=0)


def test_the_log_sum_is_that_of_the_exponentials() -> None:
    q, k, v = inputs(40)
    _, log_sum = with_log_sum(q, k, v)
    logits = torch.einsum("blnd,bsnd->bnls", q, k) / 4
    torch.testing.assert_close(log_sum, logits.logsumexp(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("tiles", "processors", "parts"),
    [
        (444, 132, 2),  # 3.36 rounds: 4, or 7 half ones
        (1480, 132, 2),  # 11.2 rounds: 12, or 23 half ones
        (132, 132, 1),  # all busy
        (66, 132, 2),  # half of them idle
        (44, 132, 3),
    ],
)
def test_parts_follow_from_sizes(tiles: int, processors: int, parts: int) -> None:
    assert parts_for(tiles, processors) == parts
