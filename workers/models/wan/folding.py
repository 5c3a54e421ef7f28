"""ConvKV: the keys and values of several frames become those of one (SoulX-LiveAct's convolution of its memory).

Theory of operation. The tokens of k frames, one frame after the other and each in raster order, are a sequence; a
depthwise convolution whose kernel and stride are k makes one token of each k neighbours, so the k T tokens of k frames
become T. The weights are one number for each channel and place in the kernel: `self_attn.memory_proj_k.weight` of a
checkpoint, [E, 1, k], and `memory_proj_v.weight` for values. Where there are only those of keys they serve both, as in
the released code; where there are none, each is 1 / k: the mean.

Keys are compressed as they were before any rotation. Pages hold them turned by row and column (and by place 0 in time),
so they are turned back first; what comes of them is turned as any token that lies where it will lie.

Products and sums are rounded one by one, in the order of the kernel, in float32: no library chooses an order.

Shape suffixes as in workers.models.wan.dit, and U 0 for keys, 1 for values; P page; K place in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from workers.models.rotary import Rotation, rotate

KEYS, VALUES = "memory_proj_k", "memory_proj_v"
"""The modules of a layer's self-attention that hold weights."""


def fold_pages(kv_UPLND: Tensor, weights: Sequence[Tensor | None], turn: Rotation) -> Tensor:
    """Keys and values [2, L, N, D] that stand for those of some pages.

    `weights` are those of keys and values, [E, 1, K] with as many places as there are pages, or None; `turn` [1, L, 1,
    D] is what the keys of a frame are turned by that stands at place 0. ValueError if a kernel has other places.
    """
    k_PLND, v_PLND = kv_UPLND.float()
    back = Rotation(turn.cos, -turn.sin)
    k_LND = one_of_each(rotate(k_PLND, back), weights[0])
    v_LND = one_of_each(v_PLND, weights[1])
    return torch.stack((rotate(k_LND.unsqueeze(0), turn)[0], v_LND)).to(kv_UPLND.dtype)


def one_of_each(x_PLND: Tensor, weight_E1K: Tensor | None) -> Tensor:
    """Tokens [L, N, D], one of each P neighbours among those of P pages."""
    pages, *_, heads, channels = x_PLND.shape
    groups_LKND = x_PLND.reshape(-1, pages, heads, channels)
    if weight_E1K is None:
        weights_KND = x_PLND.new_full((pages, 1, 1), 1 / pages)
    elif weight_E1K.shape[-1] == pages:
        weights_KND = weight_E1K.float()[:, 0].t().reshape(pages, heads, channels)
    else:
        raise ValueError(f"the model folds {weight_E1K.shape[-1]} frames into one, and the recipe {pages}")
    total_LND: Tensor = groups_LKND[:, 0] * weights_KND[0]
    for place in range(1, pages):
        total_LND = total_LND + groups_LKND[:, place] * weights_KND[place]
    return total_LND


def weights_of(attention: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Those of keys and of values that a layer's self-attention has."""
    of = {name: module.weight for name, module in attention.named_children() if isinstance(module, nn.Conv1d)}
    keys = of.get(KEYS)
    return keys, of.get(VALUES, keys)


def make_room(attentions: dict[int, nn.Module], shape_of: Callable[[str], tuple[int, ...] | None]) -> None:
    """Let self-attentions, by the number of their layers, have the weights that a checkpoint has for them.

    `shape_of` says of a tensor's name what its shape is, None if there is no such tensor.
    """
    for layer, attention in attentions.items():
        for name in (KEYS, VALUES):
            shape = shape_of(f"blocks.{layer}.self_attn.{name}.weight")
            if shape is not None and len(shape) == 3:
                width, _, kernel = shape
                attention.add_module(name, nn.Conv1d(width, width, kernel, kernel, groups=width, bias=False))
