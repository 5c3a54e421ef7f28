"""The causal autoencoder as numbers (Wan2.1 technical report, section 4.1): two frames carried by every convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from longtake.core.recipe.geometry import Geometry


def _residual_weights(entering: int, leaving: int) -> int:
    """Of two convolutions behind their norms, and of the shortcut where it changes the width."""
    shortcut = entering * leaving + leaving if entering != leaving else 0
    return 27 * leaving * (entering + leaving) + 2 * leaving + entering + leaving + shortcut


def _stage_weights(entering: int, leaving: int, blocks: int) -> int:
    """Of the residual blocks of a stage."""
    return _residual_weights(entering, leaving) + (blocks - 1) * _residual_weights(leaving, leaving)


def _stage_channels(entering: int, leaving: int, blocks: int) -> int:
    """How many channels the convolutions of a stage carry frames of: two in every residual block."""
    return entering + leaving + (blocks - 1) * 2 * leaving


def _middle_weights(channels: int) -> int:
    """Of the two residual blocks and the attention between them, where pictures are smallest."""
    return 2 * _residual_weights(channels, channels) + 4 * channels * channels + 5 * channels


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """Sizes of the causal decoder (Wan2.1 technical report, section 4.1)."""

    dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_upsample: tuple[bool, ...]
    """For each of the doublings of rows and columns, whether frames are doubled too."""

    def _stages(self) -> Iterator[tuple[int, int, int]]:
        """Number, and channels that enter and leave, of each stage; the doubling between two stages halves them."""
        widths = [self.dim * factor for factor in (self.dim_mult[-1], *reversed(self.dim_mult))]
        for stage, (entering, leaving) in enumerate(pairwise(widths)):
            yield stage, entering if stage == 0 else entering // 2, leaving

    def weights(self, latent_channels: int) -> int:
        """Number of weights: residual blocks (of stages and middle), one attention, doublings and both ends."""

        deepest, last = self.dim * self.dim_mult[-1], self.dim * self.dim_mult[0]
        total = latent_channels**2 + latent_channels + 27 * latent_channels * deepest + deepest
        total += _middle_weights(deepest)
        for stage, channels, leaving in self._stages():
            total += _stage_weights(channels, leaving, self.num_res_blocks + 1)
            if stage < len(self.temporal_upsample):
                total += 9 * leaving * (leaving // 2) + leaving // 2
                total += (6 * leaving * leaving + 2 * leaving) * self.temporal_upsample[stage]
        return total + last + 27 * last * 3 + 3

    def widest_values(self, geometry: Geometry) -> int:
        """Numbers in the largest activation while a block is decoded: the channels of all its pictures."""
        return geometry.pictures(1) * geometry.height * geometry.width * self.dim * self.dim_mult[0]

    def state_values(self, geometry: Geometry) -> int:
        """Numbers that one stream carries from block to block: two frames before every causal convolution."""
        pixels, deepest = geometry.latent_height * geometry.latent_width, self.dim * self.dim_mult[-1]
        carried = pixels * (geometry.latent_channels + 4 * deepest)  # first convolution, two residual blocks
        for stage, channels, leaving in self._stages():
            carried += pixels * _stage_channels(channels, leaving, self.num_res_blocks + 1)
            if stage < len(self.temporal_upsample):
                carried += pixels * leaving * self.temporal_upsample[stage]
                pixels *= 4
        return 2 * (carried + pixels * self.dim * self.dim_mult[0])

    @property
    def receptive_frames(self) -> int:
        """Latent frames that the state of a stream depends on: each convolution over time looks back two frames, and
        behind a doubling of frames those are half as long."""
        behind, rate = Fraction(2 * (1 + 2 * 2)), 1  # first convolution, two residual blocks
        for stage, _, _ in self._stages():
            convolutions = 2 * (1 + self.num_res_blocks)
            doubles = stage < len(self.temporal_upsample) and self.temporal_upsample[stage]
            behind += Fraction(2 * (convolutions + doubles), rate)
            rate *= 2 if doubles else 1
        return math.ceil(behind + Fraction(2, rate))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """Sizes of the causal encoder, which makes latents of the pictures that clients give."""

    dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    """For each of the halvings of rows and columns, whether frames are halved too."""

    def _stages(self) -> Iterator[tuple[int, int, int]]:
        """Number, and channels that enter and leave, of each stage."""
        widths = [self.dim, *(self.dim * factor for factor in self.dim_mult)]
        for stage, (entering, leaving) in enumerate(pairwise(widths)):
            yield stage, entering, leaving

    def weights(self, latent_channels: int) -> int:
        """Number of weights; it makes mean and variance of every latent channel."""
        deepest, made = self.dim * self.dim_mult[-1], 2 * latent_channels
        total = 27 * 3 * self.dim + self.dim + _middle_weights(deepest)
        for stage, entering, leaving in self._stages():
            total += _stage_weights(entering, leaving, self.num_res_blocks)
            if stage < len(self.temporal_downsample):
                total += 9 * leaving * leaving + leaving
                total += (3 * leaving * leaving + leaving) * self.temporal_downsample[stage]
        return total + deepest + 27 * deepest * made + made + made * made + made

    def state_values(self, geometry: Geometry) -> int:
        """Numbers that it carries between two frames of a clip: two before every causal convolution, one where frames
        are halved."""
        pixels, deepest = geometry.height * geometry.width, self.dim * self.dim_mult[-1]
        carried = 2 * pixels * 3
        for stage, entering, leaving in self._stages():
            carried += 2 * pixels * _stage_channels(entering, leaving, self.num_res_blocks)
            if stage < len(self.temporal_downsample):
                pixels //= 4
                carried += pixels * leaving * self.temporal_downsample[stage]
        return carried + 2 * pixels * 5 * deepest  # two residual blocks, last convolution


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyDecoderSize:
    """Sizes of a second decoder that sessions may choose; every slot has room for the state of either."""

    weights: int
    state_values: int
