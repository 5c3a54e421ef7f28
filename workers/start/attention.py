"""Which attention a worker uses on its device, by a rule that any worker on such a device follows alike.

What torch itself would take can depend on which cuDNN a machine's library path shows first, and differs in speed by a
factor of two without a word. So the order is set here, the choice is named, and what is slower than it should be is
told.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.denoise.attention import AttentionBackend, AttentionKernel, SdpaBackend
from workers.denoise.parted import TILE, PartedAttention, parts_for
from workers.models.api import Compute, sdpa
from workers.models.compiling import compiled
from workers.models.rotary import rotate, rotate_fused
from workers.models.weights import ModelInfo

LEAST_SHARE = 0.6
"""Attention that is slower than this share of a matrix product's rate has found a wrong kernel: cuDNN reaches 0.69 on
an H100, the second best 0.39."""
_ORDER = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
_NAMES = {
    SDPBackend.CUDNN_ATTENTION: "cudnn",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.MATH: "math",
}
_FLASH_3 = "flash_attn_interface"
"""The module of FlashAttention 3, which is on no package index."""
_SIDE = 4096
_ROUNDS = 5

_log = logging.getLogger("longtake.worker")
_chosen_for_good = contextlib.ExitStack()
"""Holds the order of kernels for the rest of the process: to set it around every forward would be seen by the threads
that compute beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The attention of one op with a full window."""

    queries: int
    keys: int
    heads: int
    head_dim: int

    @staticmethod
    def of(info: ModelInfo) -> Extent:
        """That of a model."""
        tokens = info.geometry.tokens_per_frame
        return Extent(
            queries=tokens * info.recipe.blocks.frames,
            keys=tokens * info.recipe.window.size,
            heads=info.dit.num_heads,
            head_dim=info.dit.head_dim,
        )

    @property
    def flop(self) -> float:
        """Floating-point operations of one layer; a multiplication and an addition are two."""
        return 4.0 * self.queries * self.keys * self.heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenAttention:
    """How attention is computed."""

    backend: AttentionBackend
    name: str
    """The kernel, and in how many parts: results depend on both."""


def choose(extent: Extent, compute: Compute) -> ChosenAttention:
    """The attention for ops of this size on this device; warns of one that is slow (milliseconds on a GPU)."""
    device = compute.torch_device
    if device.type == "cuda":
        _set_order()
    inputs = _inputs(extent, compute)
    name = kernel_name(*inputs)
    kernel: AttentionKernel = sdpa
    if name == "cudnn" and compute.fuses:
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        tiles = math.ceil(extent.queries / TILE) * extent.heads
        kernel = PartedAttention(parts_for(tiles, processors))
        name = f"cudnn, keys in {kernel.parts} parts"
    if device.type == "cuda":
        told = slowness(name, extent.flop / _seconds(kernel, *inputs), _product_rate(compute))
        _log.log(logging.WARNING if told else logging.INFO, "attention: %s", told or name)
    turned = compiled(rotate_fused) if compute.fuses else rotate
    return ChosenAttention(backend=SdpaBackend(kernel, turned), name=name)


def kernel_name(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor) -> str:
    """What torch takes for such tensors: cudnn, flash 3, flash, efficient or math."""
    asked: Any = torch._fused_sdp_choice
    chosen = SDPBackend(asked(*(x.transpose(1, 2) for x in (q_BLND, k_BSND, v_BSND))))
    name = _NAMES.get(chosen, chosen.name.lower())
    return "flash 3" if name == "flash" and q_BLND.is_cuda and _has_flash_3() else name


def slowness(name: str, attention_flop_per_s: float, product_flop_per_s: float) -> str:
    """What is wrong with an attention of this rate beside matrix products of that; empty if nothing is."""
    share = attention_flop_per_s / product_flop_per_s
    if share >= LEAST_SHARE:
        return ""
    return (
        f"{name} runs at {attention_flop_per_s / 1e12:.0f} TFLOP/s, {share:.0%} of the "
        f"{product_flop_per_s / 1e12:.0f} of matrix products; {LEAST_SHARE:.0%} is usual. A system CUDA in "
        "LD_LIBRARY_PATH can hide the cuDNN that came with torch"
    )


def _set_order() -> None:
    """Prefer cuDNN, then FlashAttention (3 where it is installed), for the rest of this process."""
    if _has_flash_3():
        activate: Any = torch.nn.attention.activate_flash_attention_impl
        activate("FA3")
    _chosen_for_good.close()
    _chosen_for_good.enter_context(sdpa_kernel(list(_ORDER), set_priority=True))


def _has_flash_3() -> bool:
    return importlib.util.find_spec(_FLASH_3) is not None


def _inputs(extent: Extent, compute: Compute) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries [1, L, N, D], keys and values [1, S, N, D]."""
    device = compute.torch_device
    random = torch.Generator(device).manual_seed(0)

    def normal(tokens: int) -> Tensor:
        size = (1, tokens, extent.heads, extent.head_dim)
        return torch.randn(size, generator=random, device=device, dtype=compute.torch_dtype)

    return normal(extent.queries), normal(extent.keys), normal(extent.keys)


def _product_rate(compute: Compute) -> float:
    """Floating-point operations a second of a matrix product."""
    a, b = (torch.randn(_SIDE, _SIDE, device=compute.torch_device, dtype=compute.torch_dtype) for _ in range(2))
    return 2 * _SIDE**3 / _seconds(lambda a, b: a @ b, a, b)


def _seconds(call: Callable[..., object], *inputs: Tensor) -> float:
    """The least time of a few calls, after one that warms up."""
    times = []
    with torch.inference_mode():
        for _ in range(1 + _ROUNDS):
            torch.cuda.synchronize()
            began_s = time.perf_counter()
            call(*inputs)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began_s)
    return min(times[1:])
