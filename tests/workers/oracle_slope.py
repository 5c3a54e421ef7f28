"""The oracle of slopes: attention over contiguous keys whose logits change with the distance between two frames.

Written from FAR (arXiv 2503.19325, FlexRoPE): a query of frame i and a key of frame j get slope (j - i) more. Shape
suffixes as in oracle.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import ContiguousLanes, LanePass
from workers.models.api import Inputs, TextKV, sdpa


def masked(weights: Sequence[Sequence[float]], tokens: int) -> Tensor:
    """What is added to the logits [1, 1, L, S], token by token; all frames have as many of these."""
    rows = [[weight for weight in row for _ in range(tokens)] for row in weights for _ in range(tokens)]
    return torch.tensor([[rows]], dtype=torch.float32)


def weighed(weights: Sequence[Sequence[float]], q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor) -> Tensor:
    """Attention with these weights of each own frame for each frame that is read; without a mask if there are none."""
    if not weights:
        return sdpa(q_BLND, k_BSND, v_BSND)
    return sdpa(q_BLND, k_BSND, v_BSND, masked(weights, q_BLND.shape[1] // len(weights)))


@dataclass
class SlopedLanes(ContiguousLanes):
    """Lanes of frames that stand by their numbers, with the bits of a server."""

    slope: float = 0.0

    @staticmethod
    def of(model: object, recipe: Recipe) -> SlopedLanes:
        """Those of a recipe."""
        slope = recipe.positions.slope
        return SlopedLanes(model, recipe.window_frames, recipe.sink_frames, attention=sdpa, slope=slope)  # type: ignore[arg-type]

    def inputs(self, lane: str, first: int, x_BFCHW: Tensor, timestep: float, text: TextKV) -> Inputs:
        """See ContiguousLanes."""
        made = super().inputs(lane, first, x_BFCHW, timestep, text)
        one = cast(LanePass, made.attention)
        weights = [[self.slope * (j - i) for j in one.visible] for i in one.own]
        one.attention = lambda q_BLND, k_BSND, v_BSND: weighed(weights, q_BLND, k_BSND, v_BSND)
        return made
