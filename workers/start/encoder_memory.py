"""What encoding the pictures that clients give takes of a device's memory, besides what decoding does."""

from __future__ import annotations

import torch

from longtake.core.recipe.geometry import Geometry
from workers.models.api import LatentEncoder
from workers.start.probe import peak_bytes


def encode_peak_bytes(encoder: LatentEncoder, geometry: Geometry) -> int:
    """`peak_bytes` of encoding what is given of a stream."""
    if encoder.device.type != "cuda":
        return 0
    with torch.inference_mode():
        return peak_bytes(lambda: encode_trial(encoder, geometry), encoder.device)


def encoder_state_bytes(encoder: LatentEncoder, geometry: Geometry) -> int:
    """What is kept of a clip between two of its frames, beside whatever else runs then."""
    if encoder.device.type != "cuda":
        return 0
    state = encoder.initial_state(1, geometry.height, geometry.width)
    return sum(each.nbytes for each in state.history_BFHWC)


def encode_trial(encoder: LatentEncoder, geometry: Geometry) -> None:
    """Encode three latent frames of a black clip, picture sizes and chunks as they are served."""
    state = encoder.initial_state(1, geometry.height, geometry.width)
    for pictures in (1, geometry.stride_time, geometry.stride_time):
        shape = 1, 3, pictures, geometry.height, geometry.width
        encoder.encode(torch.zeros(shape, device=encoder.device, dtype=encoder.dtype), state)
