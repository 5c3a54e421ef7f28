"""The models that published recipes are for, at their true sizes and without weights."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.synthetic_checkpoint import WAN_1_3B
from longtake.core.plan.presets import SIZE_480P
from longtake.core.recipe.published import PUBLISHED, Base
from workers.models.wan.config import WanVAEConfig
from workers.models.wan.sizes import LATENT_MEAN, LATENT_STD
from workers.models.weights import ModelInfo

WAN_14B = replace(WAN_1_3B, dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)


def info_of(recipe: str) -> ModelInfo:
    """The model that the recipe is for at 832x480, as `longtake convert` writes it."""
    return ModelInfo(
        name=recipe,
        geometry=SIZE_480P,
        recipe=PUBLISHED[recipe].recipe,
        dit=WAN_14B if PUBLISHED[recipe].base is Base.LARGE else WAN_1_3B,
        vae=WanVAEConfig(),
        latent_mean=LATENT_MEAN,
        latent_std=LATENT_STD,
        text_kind="umt5",
    )
