"""What one worker runs of the model: all of it, or the part that `workers.denoise.layer_split` makes of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from longtake.core.recipe.ops import Kind
from workers.models.api import Denoiser, Inputs


class ModelStage(Protocol):
    """The way of one batch through what a worker holds of the model."""

    def takes_latents(self, kind: Kind) -> bool:
        """Whether ops of this kind need their latents here; else the shape of the latents is all that counts."""
        ...

    def denoise(self, inputs: Inputs) -> Tensor | None:
        """Flow [B, F, C, H, W]; None if it comes out of another worker."""
        ...

    def commit(self, inputs: Inputs) -> None:
        """Write the K/V of the layers that are held."""
        ...


class WholeModel:
    """The stage of a worker that holds all layers."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser

    def takes_latents(self, kind: Kind) -> bool:
        """See ModelStage."""
        return True

    def denoise(self, inputs: Inputs) -> Tensor:
        """See ModelStage."""
        return self._denoiser.denoise(inputs)

    def commit(self, inputs: Inputs) -> None:
        """See ModelStage."""
        self._denoiser.commit(inputs)
