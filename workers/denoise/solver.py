"""What a rectified-flow model does between two forwards: the clean estimate, and the way back to the next noise level.

Sigmas are the noise levels of a recipe, in [0, 1], one per batch item; x = (1 - sigma) x0 + sigma noise, and
the model predicts flow = noise - x0. Shape suffixes: B item, F latent frame, C channel, H row, W column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from longtake.core.recipe.ops import Noised
from longtake.core.work import ForwardWork
from workers.denoise.noise import BlockNoise, Draw
from workers.device_work import items_of, upload


def _per_item(sigmas: Sequence[float], like_BFCHW: Tensor, dtype: torch.dtype) -> Tensor:
    if len(sigmas) != like_BFCHW.shape[0]:
        raise ValueError(f"{len(sigmas)} sigmas for {like_BFCHW.shape[0]} batch items")
    (sigma_B,) = upload(like_BFCHW.device, torch.tensor(sigmas, dtype=dtype))
    return sigma_B.view(-1, 1, 1, 1, 1)


def predict_x0(x_BFCHW: Tensor, flow_BFCHW: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Clean estimate x - sigma flow in float32, computed in float64 as HiAR does."""
    sigma = _per_item(sigmas, x_BFCHW, torch.float64)
    return (x_BFCHW.double() - sigma * flow_BFCHW.double()).float()


def renoise(x0_BFCHW: Tensor, noise_BFCHW: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The clean estimate taken back to noise level sigma: (1 - sigma) x0 + sigma noise, in float32."""
    sigma = _per_item(sigmas, x0_BFCHW, torch.float32)
    return (1 - sigma) * x0_BFCHW.float() + sigma * noise_BFCHW.float()


class KeyedRenoising:
    """x0 with the keyed noise of its block and of the step that it enters, so that any worker gives the same; x0 itself
    after the last step.

    It is a Solver.
    """

    def __init__(self, noise: BlockNoise) -> None:
        self._noise = noise

    def advance(self, x_BFCHW: Tensor, flow_BFCHW: Tensor, works: Sequence[ForwardWork]) -> Tensor:
        """See Solver."""
        x0_BFCHW = predict_x0(x_BFCHW, flow_BFCHW, [work.times.sigma for work in works])
        levels = {
            item: Noised(work.times.next_sigma, work.enters)
            for item, work in enumerate(works)
            if work.times.next_sigma is not None
        }
        return self._renoised(x0_BFCHW, works, levels)

    def noised(self, x_BFCHW: Tensor, works: Sequence[ForwardWork]) -> Tensor:
        """See Solver."""
        levels = {item: work.times.noised for item, work in enumerate(works) if work.times.noised is not None}
        return self._renoised(x_BFCHW, works, levels)

    def _renoised(self, x0_BFCHW: Tensor, works: Sequence[ForwardWork], levels: Mapping[int, Noised]) -> Tensor:
        """The batch, in which the items that have a level are taken there in place."""
        if levels:
            items = list(levels)
            draws = [Draw(works[item].noise.seed, works[item].noise.block, levels[item].draw) for item in items]
            noised_BFCHW = renoise(
                items_of(x0_BFCHW, items),
                self._noise.of(draws, x0_BFCHW.shape[1]),
                [level.sigma for level in levels.values()],
            )
            for item, noised_FCHW in zip(items, noised_BFCHW, strict=True):
                x0_BFCHW[item] = noised_FCHW
        return x0_BFCHW
