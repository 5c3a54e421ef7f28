"""Attention over the keys in parts, put together by their log-sum-exp: fills a GPU that one call leaves half idle.

Theory of operation. A kernel gives each processor of a GPU one tile of 128 queries of one head, so 4,680 queries in 12
heads are 444 tiles, which 132 processors do in 4 rounds where 3.4 would do. Over the keys in two parts they are 888, in
7 rounds of half the length: 96 % in place of 84 % are busy. And cuDNN is 9 % faster where keys are whole tiles of 128,
so the parts are cut to whole tiles, and what is left over is a short part of its own.

The result is the attention over all keys but for rounding, once a part, to the type of the queries. How many parts
there are follows from sizes alone, and each batch item is computed by itself, so it has the same bits alone and in a
batch. The two operators that return the log-sum-exp have no public names in torch.

Shape suffixes as in workers.models.api, and P part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.models.api import sdpa
from workers.models.compiling import compiled

TILE = 128
"""Queries, and keys, that a kernel takes at once."""
_MOST_PARTS = 3
_LEAST_KEYS = 16 * TILE
"""A part of fewer keys is not worth a call."""
_PART_COST = 0.02
"""What one more part costs, as a share of the whole: writing it, reading it again, and a part of a call."""


def parts_for(tiles: int, processors: int) -> int:
    """Into how many parts to cut the keys when so many tiles are given to so many processors."""

    def cost(parts: int) -> float:
        return math.ceil(tiles * parts / processors) / parts * (1 + _PART_COST * (parts - 1))

    return min(range(1, _MOST_PARTS + 1), key=cost)


def with_log_sum(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor) -> tuple[Tensor, Tensor]:
    """Attention [B, N, L, D] and the logarithm [B, N, L] of the sum of its exponentials, float32."""
    q, k, v = (x.transpose(1, 2) for x in (q_BLND, k_BSND, v_BSND))
    if q.is_cuda:
        out, log_sum, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
    else:
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return out, log_sum.reshape(q.shape[:3]).float()


def merged(parts_PNLD: Tensor, log_sums_PNL: Tensor, rest_PNLD: Tensor, rest_log_sum_PNL: Tensor) -> Tensor:
    """Attention [L, N, D] over all keys, from equal parts and one more."""
    most_PNL = torch.maximum(log_sums_PNL.amax(0, keepdim=True), rest_log_sum_PNL)
    weights_PNL, rest_weight_PNL = torch.exp(log_sums_PNL - most_PNL), torch.exp(rest_log_sum_PNL - most_PNL)
    total_NL1 = (weights_PNL.sum(0) + rest_weight_PNL[0]).unsqueeze(-1)
    sum_NLD = (parts_PNLD.float() * weights_PNL.unsqueeze(-1)).sum(0)
    sum_NLD = sum_NLD + rest_PNLD[0].float() * rest_weight_PNL[0].unsqueeze(-1)
    return (sum_NLD / total_NL1).to(parts_PNLD.dtype).transpose(0, 1).contiguous()


@dataclass(frozen=True, slots=True)
class PartedAttention:
    """A kernel (workers.denoise.attention.AttentionKernel) that computes each item over its keys in `parts` parts."""

    parts: int
    merge: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = field(
        default_factory=lambda: compiled(merged), repr=False, compare=False
    )

    def __call__(self, q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor) -> Tensor:
        """See AttentionKernel."""
        keys = (k_BSND.shape[1] - 1) // (self.parts * TILE) * TILE  # something is always left over
        if keys < _LEAST_KEYS:
            return sdpa(q_BLND, k_BSND, v_BSND)
        made = [self._one(*item, keys) for item in zip(q_BLND, k_BSND, v_BSND, strict=True)]
        return torch.stack(made) if len(made) > 1 else made[0].unsqueeze(0)

    def _one(self, q_LND: Tensor, k_SND: Tensor, v_SND: Tensor, keys: int) -> Tensor:
        q_BLND = q_LND.unsqueeze(0)
        cut = self.parts * keys
        shape = (self.parts, keys, *k_SND.shape[1:])
        parts = with_log_sum(q_BLND.expand(self.parts, -1, -1, -1), k_SND[:cut].view(shape), v_SND[:cut].view(shape))
        rest = with_log_sum(q_BLND, k_SND[None, cut:], v_SND[None, cut:])
        return self.merge(*parts, *rest)
