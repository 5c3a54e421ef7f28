"""A small model with random weights in a directory, for tests that serve one."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import load_file

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.wan.vae import WanEncoder
from workers.models.weights import ModelInfo, new_decoder, new_denoiser, save_model

DIT = WanConfig(
    dim=24,
    ffn_dim=32,
    num_heads=2,
    num_layers=2,
    in_dim=4,
    out_dim=4,
    freq_dim=8,
    text_dim=32,
    text_len=6,
)
VAE = WanVAEConfig(dim=4, z_dim=4, dim_mult=(1, 2, 2, 2), num_res_blocks=1)


def model_info(level: Level = Level.OUTPUT) -> ModelInfo:
    """32x32 pictures at 16 a second, two latent frames a block, a window of five frames with one sink."""
    recipe = Recipe(
        steps=StepPlan(ladder=(1000, 750, 500), shift=5.0),
        blocks=BlockPlan(frames=2),
        context=Context(level=level, window_frames=5, sink_frames=1, lag=2 * (level is Level.STAGGERED)),
    )
    return ModelInfo(
        name="random",
        geometry=Geometry(width=32, height=32, fps=Fraction(16), latent_channels=4, blocks=BlockPlan(frames=2)),
        recipe=recipe,
        dit=DIT,
        vae=VAE,
        latent_mean=(0.1, -0.2, 0.0, 0.3),
        latent_std=(1.0, 0.9, 1.1, 0.7),
        text_kind="pocket",
    )


def write_model(folder: Path, level: Level = Level.OUTPUT, seed: int = 0, *, layers: int = DIT.num_layers) -> ModelInfo:
    """Write a model directory; equal arguments give equal files."""
    info = replace(model_info(level), dit=replace(DIT, num_layers=layers))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dit, vae = new_denoiser(info), new_decoder(info)
    save_model(folder, info, dit.state_dict(), vae.state_dict())
    return info


def write_model_that_encodes(folder: Path, level: Level = Level.OUTPUT) -> ModelInfo:
    """The same with an encoder for pictures beside the decoder."""
    info = write_model(folder, level)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = WanEncoder(VAE)
    dit, vae = load_file(folder / "dit.safetensors"), load_file(folder / "vae.safetensors")
    save_model(folder, info, dit, vae | encoder.state_dict())
    return info
