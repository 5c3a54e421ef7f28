"""What was measured on a GPU: the one table from which a plan takes every figure that it does not model.

`MEASURED` is the newest measurement; benchmarks/RESULTS.md says how it was made. A newer one replaces its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtake.core.plan.text_encoder import DeviceRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model on one card, in bfloat16, one op at a time: seconds of the device unless it says otherwise."""

    card: str
    torch: str
    commit: str
    preset: str
    """The model, a name in longtake.core.plan.presets."""
    denoise_s: Mapping[int, float]
    """D, by latent frames in the window, the own block included; the greatest is the full window."""
    commit_s: Mapping[int, float]
    """C, the same."""
    host_s: float
    """What a worker adds to each forward, the device idle meanwhile."""
    decode_s: float
    """V of one block."""
    encode_s: float
    """H.264 of one block, on one core."""
    decoder_workspace_bytes: int
    """What a decoder takes at its peak beside weights and slots."""
    slower_denoise: float
    """How many times longer forwards take while a decoder works on the same device, from a process of its own."""
    slower_decode: float
    """How many times longer a decode takes meanwhile."""
    rates: DeviceRates
    """What the card reaches in large matrix products, and in reading its memory."""

    def __str__(self) -> str:
        return f"{self.card}, torch {self.torch}, commit {self.commit}"


MEASURED = Measured(
    card="NVIDIA H200",
    torch="2.11.0+cu130",
    commit="6485520",
    preset="wan2.1-1.3b-480p",
    denoise_s={3: 0.0325, 6: 0.0392, 9: 0.0461, 12: 0.0532, 15: 0.0592, 18: 0.0660, 21: 0.0738},
    commit_s={3: 0.0318, 6: 0.0390, 9: 0.0461, 12: 0.0516, 15: 0.0594, 18: 0.0659, 21: 0.0721},
    host_s=0.001,  # a worker's block of HiAR, 4 D and 4 C, took 591 ms
    decode_s=0.1133,
    encode_s=0.105,
    decoder_workspace_bytes=7_270_000_000,
    slower_denoise=2.13,  # this and what follows on an H100, at 2303597
    slower_decode=2.19,
    rates=DeviceRates(flop_per_s=790e12, bytes_per_s=3.0e12),
)
CORE = DeviceRates(flop_per_s=157e9, bytes_per_s=40e9)
"""One core of a server in bfloat16: two of umT5's layers, measured with 30 tokens and with 512."""
