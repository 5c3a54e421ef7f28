"""The causal video autoencoder of Wan2.1, streaming: any chunking of a clip gives the same bits.

Shape legend: B batch, F frames (latent frames or pictures), C channels, H rows, W columns, P pixels of a frame.
Parameter names are those of Wan2.1_VAE.pth: conv1, encoder (WanEncoder) and conv2, decoder (WanDecoder).
Architecture: Wan2.1 technical report (arXiv 2503.20314), section 4.1.
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtake.core.errors import InvalidField
from workers.models.api import CarriedState
from workers.models.wan.causal_conv import (
    CausalConv3d,
    Conv1x1,
    Conv2d,
    Norm,
    SiLU,
    Tape,
    TimeConv,
    count_reaching,
    reaches,
)
from workers.models.wan.config import WanVAEConfig

PICTURE_CHANNELS = 3
_OF_ENCODER = ("conv1.", "encoder.")


class Residual(nn.Module):
    """Norm, SiLU, causal convolution, twice, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        # The places are part of the checkpoint's names; number 5 was a dropout.
        self.residual = nn.Sequential(
            Norm(c_in, 3),
            SiLU(),
            CausalConv3d(c_in, c_out),
            Norm(c_out, 3),
            SiLU(),
            nn.Identity(),
            CausalConv3d(c_out, c_out),
        )
        self.shortcut = Conv1x1(c_in, c_out, 3) if c_in != c_out else nn.Identity()

    def forward(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        return _run(self.residual, x_BFHWC, tape) + cast(Tensor, self.shortcut(x_BFHWC))


class Attention(nn.Module):
    """One head of attention among the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels, 2)
        self.to_qkv = Conv1x1(channels, channels * 3, 2)
        self.proj = Conv1x1(channels, channels, 2)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        qkv_BFHWC = self.to_qkv(self.norm(x_BFHWC))
        # One frame at a time and from fresh memory: on a CPU both the batch and the alignment can change the rounding.
        frames = [
            F.scaled_dot_product_attention(*(t.contiguous() for t in qkv_PC[None, None].chunk(3, -1)))
            for qkv_PC in qkv_BFHWC.flatten(2, 3).flatten(0, 1)
        ]
        return x_BFHWC + cast(Tensor, self.proj(torch.cat(frames).reshape(x_BFHWC.shape)))


class Upsample(nn.Module):
    """Doubles rows and columns, halves the channels; if `temporal`, first doubles all frames but the very first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), Conv2d(channels, channels // 2))
        self.time_conv = TimeConv(channels, channels * 2, 1) if temporal else None

    def forward(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        if self.time_conv is not None:
            x_BFHWC = self.double_frames(self.time_conv, x_BFHWC, tape)
        return cast(Conv2d, self.resample[1]).doubled(x_BFHWC)

    @staticmethod
    def double_frames(time_conv: Callable[[Tensor], Tensor], x_BFHWC: Tensor, tape: Tape) -> Tensor:
        """Pairs of frames, which `time_conv` makes of each frame and the two before it."""
        # The first latent frame stays one picture, and the frames after it see zeros in its place.
        lone = 0 if tape.started else 1
        rest = x_BFHWC[:, lone:]
        if rest.shape[1] == 0:
            tape.skip()
            return x_BFHWC
        made = time_conv(tape.extend(rest))
        pairs = made.view(*made.shape[:-1], 2, -1)
        doubled = pairs.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
        return torch.cat([x_BFHWC[:, :lone], doubled], 1)


class _Downsample(nn.Module):
    """Halves rows and columns; if `temporal`, then makes one frame of two, but for the very first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), Conv2d(channels, channels, stride=2))
        self.time_conv = TimeConv(channels, channels, 2) if temporal else None

    def forward(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        x_BFHWC = self.resample(x_BFHWC)
        if self.time_conv is None:
            return x_BFHWC
        extended = tape.extend(x_BFHWC)
        if tape.started:
            return cast(Tensor, self.time_conv(extended))
        # The first picture is a latent frame of its own (carried: one frame, not yet real, before it).
        if x_BFHWC.shape[1] == 1:
            return x_BFHWC
        return torch.cat([x_BFHWC[:, :1], self.time_conv(extended[:, 1:])], 1)


def _head(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(Norm(c_in, 3), SiLU(), CausalConv3d(c_in, c_out))


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels, channels), Attention(channels), Residual(channels, channels))


def _decoder_stages(config: WanVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = [config.dim * m for m in reversed(config.dim_mult)]
    temporal = config.temporal_downsample[::-1]
    c_in, scale = widths[0], 1.0 / config.spatial_stride * 2
    for i, c_out in enumerate(widths):
        for _ in range(config.num_res_blocks + 1):
            layers.append(Residual(c_in, c_out))
            c_in = c_out
            if scale in config.attn_scales:
                layers.append(Attention(c_out))
        if i < len(temporal):
            layers.append(Upsample(c_out, temporal[i]))
            c_in, scale = c_out // 2, scale * 2
    return nn.Sequential(*layers)


def _encoder_stages(config: WanVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    c_in, scale = config.dim, 1.0
    for i, c_out in enumerate(config.dim * m for m in config.dim_mult):
        for _ in range(config.num_res_blocks):
            layers.append(Residual(c_in, c_out))
            c_in = c_out
            if scale in config.attn_scales:
                layers.append(Attention(c_out))
        if i < len(config.temporal_downsample):
            layers.append(_Downsample(c_out, config.temporal_downsample[i]))
            scale /= 2
    return nn.Sequential(*layers)


class _DecoderTrunk(nn.Module):
    """conv1, middle, upsamples, head."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        deepest = config.dim * config.dim_mult[-1]
        self.conv1 = CausalConv3d(config.z_dim, deepest)
        self.middle = _middle(deepest)
        self.upsamples = _decoder_stages(config)
        self.head = _head(config.dim * config.dim_mult[0], PICTURE_CHANNELS)


class _EncoderTrunk(nn.Module):
    """conv1, downsamples, middle, head."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        deepest = config.dim * config.dim_mult[-1]
        self.conv1 = CausalConv3d(PICTURE_CHANNELS, config.dim)
        self.downsamples = _encoder_stages(config)
        self.middle = _middle(deepest)
        self.head = _head(deepest, config.z_dim * 2)


class WanDecoder(nn.Module):
    """Latents to pictures (LatentDecoder); parameters `conv2.*` and `decoder.*`."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.conv2 = Conv1x1(config.z_dim, config.z_dim, 3)
        self.decoder = _DecoderTrunk(config)

    @property
    def device(self) -> torch.device:
        """See LatentDecoder."""
        return self.conv2.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """See LatentDecoder."""
        return self.conv2.weight.dtype

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
        """Of the parts in `order`. A convolution over time looks back as many frames as it carries, at its rate."""
        behind, rate = [], 1
        for part in self.order():
            behind.append(Fraction(0))
            for each in part.modules():
                if isinstance(each, CausalConv3d | TimeConv):
                    behind[-1] += Fraction(each.weight.shape[2] - 1, rate)
                if isinstance(each, TimeConv):
                    rate *= 2
        return reaches(behind)

    def takes(self, name: str) -> bool:
        """Whether a tensor of a file that may hold the encoder too is for the decoder."""
        return not name.startswith(_OF_ENCODER)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """See LatentDecoder."""
        shapes = self.state_shapes(batch, height, width)
        return CarriedState([self.conv2.weight.new_zeros(shape) for shape in shapes])

    def state_shapes(self, batch: int, height: int, width: int) -> list[tuple[int, ...]]:
        """See LatentDecoder."""
        return _history_shapes(self.order(), batch, (height, width))[0]

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        """Decode the next latent frames of a stream and advance its state in place.

        z_BCFHW: latents already multiplied by std and shifted by mean, any number of frames > 0.
        Returns pixels_BCFHW before the clamp to [-1, 1]: temporal_stride pictures for each latent frame, but one
        for the stream's first. A whole clip in one call gives the same bits as frame by frame. Differentiable.
        """
        return _stream(self.order(), self.conv2(z_BCFHW.permute(0, 2, 3, 4, 1)), state)

    def advance(self, z_BCFHW: Tensor, state: CarriedState, later_frames: int) -> None:
        """See LatentDecoder."""
        tape = Tape(state)
        _run(self.order()[: self.depth(later_frames)], self.conv2(z_BCFHW.permute(0, 2, 3, 4, 1)), tape)
        tape.skip_rest()
        tape.finish()

    def depth(self, later_frames: int) -> int:
        """How many of the parts in `order` anything depends on of frames after which so many come without pictures."""
        return count_reaching(self._reaches, later_frames)

    def forward(self, z_BCFHW: Tensor) -> Tensor:
        """Decode a whole clip (see decode)."""
        return self.decode(z_BCFHW, self.initial_state(z_BCFHW.shape[0], z_BCFHW.shape[3], z_BCFHW.shape[4]))

    def order(self) -> list[nn.Module]:
        """The parts of the network behind its first projection."""
        trunk = self.decoder
        return [trunk.conv1, *trunk.middle, *trunk.upsamples, *trunk.head]


class WanEncoder(nn.Module):
    """Pictures to the posterior of latents; parameters `conv1.*` and `encoder.*`."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _EncoderTrunk(config)
        self.conv1 = Conv1x1(config.z_dim * 2, config.z_dim * 2, 3)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.conv1.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Its floating-point format."""
        return self.conv1.weight.dtype

    def takes(self, name: str) -> bool:
        """Whether a tensor of a file that holds the decoder too is for the encoder."""
        return name.startswith(_OF_ENCODER)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """The state of a stream that has seen nothing; `height` and `width` are those of a picture.

        InvalidField if they are not multiples of the spatial stride.
        """
        stride = self.config.spatial_stride
        if height % stride or width % stride:
            raise InvalidField("picture size", f"{height}x{width}", f"multiples of {stride}")
        shapes, _ = _history_shapes(self._order(), batch, (height, width))
        return CarriedState([self.conv1.weight.new_zeros(shape) for shape in shapes])

    def encode(self, pixels_BCFHW: Tensor, state: CarriedState) -> tuple[Tensor, Tensor]:
        """Encode the next pictures of a stream, values in [-1, 1], and advance its state in place.

        The number of pictures is a multiple of temporal_stride, plus one for the chunk that opens the stream;
        else InvalidField.
        Returns mean_BCFHW and logvar_BCFHW of the latents before they are normalised. Differentiable.
        """
        stride, frames = self.config.temporal_stride, pixels_BCFHW.shape[2]
        lone = 0 if state.started else 1
        if frames < 1 or (frames - lone) % stride:
            raise InvalidField("number of pictures", frames, f"a multiple of {stride} plus {lone}")
        y_BCFHW = _stream([*self._order(), self.conv1], pixels_BCFHW.permute(0, 2, 3, 4, 1), state)
        mean, logvar = y_BCFHW.chunk(2, 1)
        return mean, logvar

    def forward(self, pixels_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a whole clip of 1 + k * temporal_stride pictures (see encode)."""
        b, _, _, h, w = pixels_BCFHW.shape
        return self.encode(pixels_BCFHW, self.initial_state(b, h, w))

    def _order(self) -> list[nn.Module]:
        trunk = self.encoder
        return [trunk.conv1, *trunk.downsamples, *trunk.middle, *trunk.head]


def _run(modules: Iterable[nn.Module], x_BFHWC: Tensor, tape: Tape) -> Tensor:
    for module in modules:
        if isinstance(module, CausalConv3d | Residual | Upsample | _Downsample):
            x_BFHWC = module(x_BFHWC, tape)
        else:
            x_BFHWC = module(x_BFHWC)
    return x_BFHWC


def _stream(modules: list[nn.Module], x_BFHWC: Tensor, state: CarriedState) -> Tensor:
    tape = Tape(state)
    y_BFHWC = _run(modules, x_BFHWC, tape)
    tape.finish()
    return y_BFHWC.permute(0, 4, 1, 2, 3)


def _history_shapes(
    modules: Iterable[nn.Module], batch: int, size: tuple[int, int]
) -> tuple[list[tuple[int, ...]], tuple[int, int]]:
    """Shapes of all carried tensors in execution order, and the rows and columns after the modules."""
    shapes: list[tuple[int, ...]] = []
    for module in modules:
        match module:
            case CausalConv3d():
                shapes.append((batch, 2, *size, module.weight.shape[1]))
            case Residual():
                shapes += _history_shapes(module.residual, batch, size)[0]
            case Upsample():
                if module.time_conv is not None:
                    shapes.append((batch, 2, *size, module.time_conv.weight.shape[1]))
                size = (size[0] * 2, size[1] * 2)
            case _Downsample():
                size = (size[0] // 2, size[1] // 2)
                if module.time_conv is not None:
                    shapes.append((batch, 1, *size, module.time_conv.weight.shape[1]))
    return shapes, size
