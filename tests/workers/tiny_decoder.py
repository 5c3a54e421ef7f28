"""Tiny decoders with random weights, as their publisher saves them, and model directories that have one."""

from __future__ import annotations

from pathlib import Path

import torch

from workers.convert.convert import add_tiny_decoder
from workers.convert.found import look
from workers.models.wan.config import TaehvConfig
from workers.models.wan.taehv import TaehvDecoder
from workers.models.weights import ModelInfo, load_info

FOUR = TaehvConfig(z_dim=4, widths=(8, 6, 4, 4), growth=(1, 2, 2))
"""For the small models of these tests, whose latents have four channels."""
SIXTEEN = TaehvConfig(z_dim=16, widths=(8, 6, 4, 4), growth=(1, 2, 2))
"""For Wan's latents."""


def write_taew(path: Path, config: TaehvConfig = FOUR, seed: int = 0) -> Path:
    """The published file, which holds the encoder beside the decoder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = TaehvDecoder(config).state_dict()
        encoder = {"encoder.0.weight": torch.randn(8, 3, 3, 3), "encoder.4.conv.0.bias": torch.randn(8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(encoder | decoder, path)
    return path


def with_tiny(folder: Path, scratch: Path) -> ModelInfo:
    """Add a tiny decoder to a model directory; its published file is put into `scratch`."""
    (found,) = look([write_taew(scratch / "taew2_1.pth")]).found
    assert add_tiny_decoder(found, folder, None, lambda *_: None)
    return load_info(folder)
