"""Sizes of the pocket model and the recipe it is trained for."""

from typing import Final

from workers.models.wan.config import WanConfig, WanVAEConfig

LATENT_CHANNELS: Final = 8
FRAMES_PER_BLOCK: Final = 3
WINDOW_FRAMES: Final = 9

POCKET_DIT: Final = WanConfig(
    dim=128,
    ffn_dim=512,
    num_heads=4,
    num_layers=5,
    in_dim=LATENT_CHANNELS,
    out_dim=LATENT_CHANNELS,
    freq_dim=64,
    text_dim=64,
    text_len=8,
)
POCKET_DECODER: Final = WanVAEConfig(dim=12, z_dim=LATENT_CHANNELS, dim_mult=(1, 2, 3, 3), num_res_blocks=1)
# The encoder is needed for training only; it is smaller, because every training picture passes through it.
POCKET_ENCODER: Final = WanVAEConfig(dim=8, z_dim=LATENT_CHANNELS, dim_mult=(1, 2, 4, 4), num_res_blocks=1)
