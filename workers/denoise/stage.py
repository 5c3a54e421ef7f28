"""What one worker runs of the model: all of it, or the part that `workers.layer_split` makes of it.

Shape suffixes: B batch item, F latent frame, C channel, H row, W column.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from longtake.core.recipe.graph import Kind
from workers.models.wan.dit import SelfAttention, TextKV, WanModel


class Stage(Protocol):
    """The way of one batch through what a worker holds of the model; its arguments are those of WanModel.forward."""

    def takes_latents(self, kind: Kind) -> bool:
        """Whether ops of this kind need their latents here; else the shape of `x_BFCHW` is all that counts."""
        ...

    def denoise(
        self, x_BFCHW: Tensor, timestep_BF: Tensor, position_BF: Tensor, text: TextKV, attention: SelfAttention
    ) -> Tensor | None:
        """Flow [B, F, C, H, W]; None if it comes out of another worker."""
        ...

    def commit(
        self, x_BFCHW: Tensor, timestep_BF: Tensor, position_BF: Tensor, text: TextKV, attention: SelfAttention
    ) -> None:
        """Write the K/V of the layers that are held."""
        ...


class WholeModel:
    """The stage of a worker that holds all layers."""

    def __init__(self, model: WanModel) -> None:
        self._model = model

    def takes_latents(self, kind: Kind) -> bool:
        """See Stage."""
        return True

    def denoise(
        self, x_BFCHW: Tensor, timestep_BF: Tensor, position_BF: Tensor, text: TextKV, attention: SelfAttention
    ) -> Tensor | None:
        """See Stage."""
        flow_BFCHW: Tensor = self._model(x_BFCHW, timestep_BF, position_BF, text, attention)
        return flow_BFCHW

    def commit(
        self, x_BFCHW: Tensor, timestep_BF: Tensor, position_BF: Tensor, text: TextKV, attention: SelfAttention
    ) -> None:
        """See Stage."""
        self._model.commit(x_BFCHW, timestep_BF, position_BF, text, attention)
