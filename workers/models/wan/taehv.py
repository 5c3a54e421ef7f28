"""The tiny autoencoder TAEHV (taew2_1 for Wan2.1) as a decoder, streaming: any chunking of a clip gives the same bits.

Shape legend: B batch, F frames (latent frames or pictures), C channels, H rows, W columns. Parameter names are those of
the published file, whose numbers count the layers of one sequence: clamp, convolution, ReLU, then three stages of three
memory blocks, upsampling, time growth and convolution, then ReLU and convolution. After TAEHV by Ollin Boer Bohan
(github.com/madebyollin/taehv, MIT licence).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.models.api import CarriedState
from workers.models.wan.causal_conv import Conv1x1, Conv2d, Tape, count_reaching, reaches
from workers.models.wan.config import TaehvConfig

_PICTURE_CHANNELS = 3
_MEMORIES = 3
"""Memory blocks of a stage."""
_FIRST = 1
"""Number of the first convolution, behind the clamp."""
_REACH = 3.0
"""Latents are bent into the range from minus to plus this."""


class _Clamp(nn.Module):
    """Bends latents into a range: 3 tanh(x / 3)."""

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        return torch.tanh(x_BFHWC / _REACH) * _REACH


class _Conv(Conv2d):
    """A 3x3 convolution without a bias."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out)
        self.register_parameter("bias", None)


class _Memory(nn.Module):
    """Three convolutions over a frame and the one before it, beside a shortcut; before a stream's first is zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            Conv2d(2 * channels, channels), nn.ReLU(), Conv2d(channels, channels), nn.ReLU(), Conv2d(channels, channels)
        )
        self.channels = channels

    def forward(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        before_BFHWC = tape.extend(x_BFHWC)[:, :-1]
        return F.relu(x_BFHWC + cast(Tensor, self.conv(torch.cat([x_BFHWC, before_BFHWC], -1))))


class _Pointwise(Conv1x1):
    """A linear map of channels, without a bias."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 2)
        self.register_parameter("bias", None)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        weight_OI = self.weight.flatten(1)
        if x_BFHWC.device.type != "cpu":
            return F.linear(x_BFHWC, weight_OI)
        # Frame by frame and from fresh memory: on a CPU both the number of rows and the alignment change the rounding.
        frames = [F.linear(x_HWC.clone(), weight_OI) for x_HWC in x_BFHWC.flatten(0, 1)]
        return torch.stack(frames).reshape(*x_BFHWC.shape[:-1], -1)


class _Growth(nn.Module):
    """Makes `times` frames of each, whose channels lie side by side in one linear map, and doubles rows and columns.

    The published sequence doubles first; a map of single pixels gives the same either way, with a quarter of the work.
    """

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.conv = _Pointwise(channels, channels * times)
        self.times = times

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        b, f, h, w, c = x_BFHWC.shape
        grown = cast(Tensor, self.conv(x_BFHWC)).view(b, f, h, 1, w, 1, self.times, c)
        spread = grown.permute(0, 1, 6, 2, 3, 4, 5, 7).expand(b, f, self.times, h, 2, w, 2, c)
        return spread.reshape(b, f * self.times, 2 * h, 2 * w, c)


def _layers(config: TaehvConfig) -> nn.Sequential:
    """All layers at the places that the published names count."""
    widths = config.widths
    layers: list[nn.Module] = [_Clamp(), Conv2d(config.z_dim, widths[0]), nn.ReLU()]
    for width, times, after in zip(widths, config.growth, widths[1:], strict=False):
        layers += [*(_Memory(width) for _ in range(_MEMORIES)), nn.Identity(), _Growth(width, times)]
        layers.append(_Conv(width, after))
    return nn.Sequential(*layers, nn.ReLU(), Conv2d(widths[-1], _PICTURE_CHANNELS))


def _run(layers: Iterable[nn.Module], z_BCFHW: Tensor, tape: Tape) -> Tensor:
    x_BFHWC = z_BCFHW.permute(0, 2, 3, 4, 1)
    for layer in layers:
        x_BFHWC = layer(x_BFHWC, tape) if isinstance(layer, _Memory) else layer(x_BFHWC)
    return x_BFHWC


class TaehvDecoder(nn.Module):
    """Latents as the denoiser makes them, without mean or std, to pictures (LatentDecoder); parameters `decoder.*`."""

    def __init__(self, config: TaehvConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = _layers(config)

    @property
    def device(self) -> torch.device:
        """See LatentDecoder."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """See LatentDecoder."""
        return self._weight.dtype

    @property
    def channels(self) -> int:
        """See LatentDecoder."""
        return self.config.z_dim

    @property
    def receptive_frames(self) -> int:
        """See LatentDecoder."""
        return math.ceil(self._reaches[0])

    @cached_property
    def _reaches(self) -> list[Fraction]:
        """Of all layers. A memory looks back one frame, at the rate to which the stages before have grown."""
        behind, rate = [], 1
        for layer in self.decoder:
            behind.append(Fraction(1, rate) if isinstance(layer, _Memory) else Fraction(0))
            rate *= layer.times if isinstance(layer, _Growth) else 1
        return reaches(behind)

    def takes(self, name: str) -> bool:
        """All tensors of a file of its own are for the decoder."""
        return True

    def lay_out(self) -> None:
        """Put the weights into memory as a GPU's convolutions read them, once for all."""
        for layer in self.decoder.modules():
            if isinstance(layer, Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def state_shapes(self, batch: int, height: int, width: int) -> list[tuple[int, ...]]:
        """See LatentDecoder. One frame for each memory block, its input."""
        shapes: list[tuple[int, ...]] = []
        for layer in self.decoder:
            if isinstance(layer, _Memory):
                shapes.append((batch, 1, height, width, layer.channels))
            elif isinstance(layer, _Growth):
                height, width = 2 * height, 2 * width
        return shapes

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """See LatentDecoder."""
        return CarriedState([self._weight.new_zeros(shape) for shape in self.state_shapes(batch, height, width)])

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        """See LatentDecoder; the result is float32. A whole clip in one call gives the same bits as frame by frame."""
        tape = Tape(state)
        x_BFHWC = _run(self.decoder, z_BCFHW, tape)
        lead = 0 if tape.started else self.config.temporal_stride - 1  # of the first latent frame's, the last is shown
        tape.finish()
        return x_BFHWC[:, lead:].permute(0, 4, 1, 2, 3).float() * 2 - 1

    def advance(self, z_BCFHW: Tensor, state: CarriedState, later_frames: int) -> None:
        """See LatentDecoder."""
        tape = Tape(state)
        _run([*self.decoder][: count_reaching(self._reaches, later_frames)], z_BCFHW, tape)
        tape.skip_rest()
        tape.finish()

    def forward(self, z_BCFHW: Tensor) -> Tensor:
        """Decode a whole clip (see decode)."""
        return self.decode(z_BCFHW, self.initial_state(z_BCFHW.shape[0], z_BCFHW.shape[3], z_BCFHW.shape[4]))

    @property
    def _weight(self) -> Tensor:
        return cast(Conv2d, self.decoder[_FIRST]).weight
