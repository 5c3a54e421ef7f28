"""Tensor arithmetic between the forwards of a rectified-flow model: clean estimate, re-noising, ODE step.

Sigmas are the noise levels of a recipe, in [0, 1], one per batch item; x = (1 - sigma) x0 + sigma noise, and
the model predicts flow = noise - x0. Shape suffixes: B item, F latent frame, C channel, H row, W column.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def _per_item(sigmas: Sequence[float], like_BFCHW: Tensor, dtype: torch.dtype) -> Tensor:
    if len(sigmas) != like_BFCHW.shape[0]:
        raise ValueError(f"{len(sigmas)} sigmas for {like_BFCHW.shape[0]} batch items")
    return torch.tensor(sigmas, dtype=dtype, device=like_BFCHW.device).view(-1, 1, 1, 1, 1)


def predict_x0(x_BFCHW: Tensor, flow_BFCHW: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Clean estimate x - sigma flow in float32, computed in float64 as HiAR does."""
    sigma = _per_item(sigmas, x_BFCHW, torch.float64)
    return (x_BFCHW.double() - sigma * flow_BFCHW.double()).float()


def renoise(x0_BFCHW: Tensor, noise_BFCHW: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The clean estimate taken back to noise level sigma: (1 - sigma) x0 + sigma noise, in float32."""
    sigma = _per_item(sigmas, x0_BFCHW, torch.float32)
    return (1 - sigma) * x0_BFCHW.float() + sigma * noise_BFCHW.float()


def ode_step(x_BFCHW: Tensor, flow_BFCHW: Tensor, sigmas: Sequence[float], next_sigmas: Sequence[float]) -> Tensor:
    """The latent moved along the flow, x + flow (next_sigma - sigma), in float32; needs no noise."""
    change = _per_item(next_sigmas, x_BFCHW, torch.float32) - _per_item(sigmas, x_BFCHW, torch.float32)
    return x_BFCHW.float() + flow_BFCHW.float() * change
