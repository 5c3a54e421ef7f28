"""A tiny model with random weights: 4 layers of width 64, 48 tokens a block. Not to be watched, but measured."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.weights import ModelInfo, new_decoder, new_denoiser, save_model

_DIT = WanConfig(
    dim=64,
    ffn_dim=256,
    num_heads=2,
    num_layers=4,
    in_dim=4,
    out_dim=4,
    freq_dim=32,
    text_dim=64,
    text_len=8,
)
_VAE = WanVAEConfig(dim=4, z_dim=4, dim_mult=(1, 2, 2, 2), num_res_blocks=1)


def tiny_info(level: Level = Level.OUTPUT) -> ModelInfo:
    """What the model is. Recipe and picture size are the pocket model's."""
    return ModelInfo(
        name="tiny",
        geometry=Geometry(width=64, height=64, fps=Fraction(16), latent_channels=4, blocks=BlockPlan(frames=3)),
        recipe=Recipe(
            steps=StepPlan(ladder=(1000, 750, 500, 250), shift=5.0),
            blocks=BlockPlan(frames=3),
            context=Context(level=level, window_frames=9),
        ),
        dit=_DIT,
        vae=_VAE,
        latent_mean=(0.0, 0.0, 0.0, 0.0),
        latent_std=(1.0, 1.0, 1.0, 1.0),
        text_kind="pocket",
    )


def write_tiny_model(folder: Path, level: Level = Level.OUTPUT, seed: int = 0) -> ModelInfo:
    """Write a model directory; equal arguments give equal files."""
    info = tiny_info(level)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dit, vae = new_denoiser(info), new_decoder(info)
    save_model(folder, info, dit.state_dict(), vae.state_dict())
    return info
