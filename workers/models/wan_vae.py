"""The causal video autoencoder of Wan2.1, streaming: any chunking of a clip gives the same bits.

Shape legend: B batch, F frames (latent or picture, as the name says), C channels, H rows, W columns. Inside, activations lie
as BFHWC: a frame is one item of a 2-D convolution's batch, which on a CPU is about ten times faster than a 3-D convolution.
Parameter names are those of Wan2.1_VAE.pth: conv1, encoder (WanEncoder) and conv2, decoder (WanDecoder).
Architecture: Wan2.1 technical report (arXiv 2503.20314), section 4.1.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PICTURE_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WanVAEConfig:
    """Architecture of encoder and decoder; the defaults are Wan2.1's."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temporal_downsample: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other (ValueError)."""
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            msg = (
                f"temporal_downsample has {len(self.temporal_downsample)} entries,"
                f" allowed: {len(self.dim_mult) - 1} (one less than dim_mult {self.dim_mult})"
            )
            raise ValueError(msg)
        if self.dim % 2:
            msg = f"dim {self.dim}, allowed: an even number (every upsampling halves the channels)"
            raise ValueError(msg)

    @property
    def spatial_stride(self) -> int:
        """Picture rows per latent row (and columns per column)."""
        return 1 << len(self.temporal_downsample)

    @property
    def temporal_stride(self) -> int:
        """Pictures per latent frame, for all but the first latent frame, which is one picture."""
        return 1 << sum(self.temporal_downsample)


@dataclass(slots=True)
class CarriedState:
    """What one stream's decoder (or encoder) carries from chunk to chunk: a constant number of bytes, all zero at the start.

    history_BFHWC: for each temporal convolution, in execution order, the last frames of its input.
    started: whether the first latent frame (first picture) has been seen; it skips the temporal resampling.
    """

    history_BFHWC: list[Tensor]
    started: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of all carried tensors."""
        return sum(h.numel() * h.element_size() for h in self.history_BFHWC)

    def clone(self) -> "CarriedState":
        """An independent copy (cut from any autograd graph)."""
        return CarriedState([h.detach().clone() for h in self.history_BFHWC], self.started)

    def to(self, device: torch.device | str) -> "CarriedState":
        """The same state on another device."""
        return CarriedState([h.to(device) for h in self.history_BFHWC], self.started)


DecoderState = CarriedState


class _Tape:
    """Walks a CarriedState in execution order while a chunk passes through the network."""

    def __init__(self, state: CarriedState) -> None:
        self.started = state.started
        self._history = state.history_BFHWC
        self._next = 0

    def extend(self, x_BFHWC: Tensor) -> Tensor:
        """Put the carried frames in front of `x` and carry its last frames instead."""
        past = self._history[self._next]
        extended = torch.cat([past, x_BFHWC], 1)
        # A copy: a view would keep the whole chunk alive for as long as the stream lives.
        self._history[self._next] = extended[:, extended.shape[1] - past.shape[1] :].clone()
        self._next += 1
        return extended

    def skip(self) -> None:
        """Leave the carried frames of the next convolution as they are."""
        self._next += 1

    def finish(self) -> None:
        """Check that the walk met as many convolutions as the state has entries (ValueError otherwise)."""
        if self._next != len(self._history):
            msg = f"carried state has {len(self._history)} entries, allowed: {self._next} for this network"
            raise ValueError(msg)


class _Kernel(nn.Module):
    """Weight and bias of a convolution, initialised like torch's own; how it is applied is the subclass's matter."""

    def __init__(self, c_in: int, c_out: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, *size))
        self.bias = nn.Parameter(torch.empty(c_out))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(c_in * math.prod(size))
        nn.init.uniform_(self.bias, -bound, bound)


def _conv2d(x_BFHWC: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """2-D convolution of every frame by itself; the result of a frame does not depend on how many there are."""
    frames = x_BFHWC.shape[0] * x_BFHWC.shape[1]
    x_NCHW = x_BFHWC.flatten(0, 1).permute(0, 3, 1, 2)
    if frames == 1 and x_NCHW.device.type == "cpu":
        # torch takes another algorithm (and rounding) for a batch of one on a CPU.
        x_NCHW = x_NCHW.expand(2, -1, -1, -1)
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    y_NCHW = F.conv2d(x_NCHW, weight.contiguous(memory_format=torch.channels_last), bias, stride, padding)
    return y_NCHW[:frames].permute(0, 2, 3, 1).reshape(*x_BFHWC.shape[:2], *y_NCHW.shape[2:], -1)


def _pointwise(x_BFHWC: Tensor, weight_OI: Tensor, bias: Tensor) -> Tensor:
    """Linear map of channels, frame by frame: a matrix product's rounding may depend on its number of rows."""
    frames = [F.linear(x_HWC, weight_OI, bias) for x_HWC in x_BFHWC.flatten(0, 1)]
    return torch.stack(frames).reshape(*x_BFHWC.shape[:-1], -1)


class _Conv1x1(_Kernel):
    """A convolution of size 1 in all directions; `dims` is how many its stored weight has."""

    def __init__(self, c_in: int, c_out: int, dims: int) -> None:
        super().__init__(c_in, c_out, (1,) * dims)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        return _pointwise(x_BFHWC, self.weight.flatten(1), self.bias)


class _Conv2d(_Kernel):
    """A 3x3 convolution within each frame."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, (3, 3))
        self.stride = stride

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        if self.stride == 1:
            return _conv2d(x_BFHWC, self.weight, self.bias, 1, 1)
        # Padded below and to the right only.
        return _conv2d(F.pad(x_BFHWC, (0, 0, 0, 1, 0, 1)), self.weight, self.bias, self.stride, 0)


class _CausalConv3d(_Kernel):
    """3x3x3 convolution that sees the frame itself and the two before it."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, (3, 3, 3))

    def forward(self, x_BFHWC: Tensor, tape: _Tape) -> Tensor:
        frames = x_BFHWC.shape[1]
        x_BFHWC = tape.extend(x_BFHWC)
        if x_BFHWC.device.type != "cpu":
            y_BCFHW = F.conv3d(x_BFHWC.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=(0, 1, 1))
            return y_BCFHW.permute(0, 2, 3, 4, 1).contiguous()
        # The three taps side by side as channels make it one 2-D convolution.
        taps = torch.cat([x_BFHWC[:, t : t + frames] for t in range(3)], -1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        return _conv2d(taps, weight, self.bias, 1, 1)


class _TimeConv(_Kernel):
    """Convolution of 3 taps over time only; `stride` 2 halves the frame rate."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(c_in, c_out, (3, 1, 1))
        self.stride = stride

    def forward(self, extended_BFHWC: Tensor) -> Tensor:
        last = extended_BFHWC.shape[1] - 2
        taps = torch.cat([extended_BFHWC[:, t : t + last : self.stride] for t in range(3)], -1)
        return _pointwise(taps, self.weight.transpose(1, 2).flatten(1), self.bias)


class _Norm(nn.Module):
    """Channel vector scaled to length sqrt(C), times gamma; `dims` trailing ones are in the stored shape."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * dims))
        self.scale = math.sqrt(channels)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        return F.normalize(x_BFHWC, dim=-1) * (self.gamma.flatten() * self.scale)


class _Residual(nn.Module):
    """Norm, SiLU, causal convolution, twice, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        # The places are part of the checkpoint's names; number 5 was a dropout.
        self.residual = nn.Sequential(
            _Norm(c_in, 3),
            nn.SiLU(),
            _CausalConv3d(c_in, c_out),
            _Norm(c_out, 3),
            nn.SiLU(),
            nn.Identity(),
            _CausalConv3d(c_out, c_out),
        )
        self.shortcut = _Conv1x1(c_in, c_out, 3) if c_in != c_out else nn.Identity()

    def forward(self, x_BFHWC: Tensor, tape: _Tape) -> Tensor:
        return _run(self.residual, x_BFHWC, tape) + cast(Tensor, self.shortcut(x_BFHWC))


class _Attention(nn.Module):
    """One head of attention among the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _Norm(channels, 2)
        self.to_qkv = _Conv1x1(channels, channels * 3, 2)
        self.proj = _Conv1x1(channels, channels, 2)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x_BFHWC)).flatten(2, 3)
        q_BFPC, k_BFPC, v_BFPC = qkv.chunk(3, -1)
        y_BFPC = F.scaled_dot_product_attention(q_BFPC, k_BFPC, v_BFPC)
        return x_BFHWC + cast(Tensor, self.proj(y_BFPC.reshape(x_BFHWC.shape)))


class _Upsample(nn.Module):
    """Doubles rows and columns and halves the channels; with `temporal` first makes two frames of each but the very first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), _Conv2d(channels, channels // 2))
        self.time_conv = _TimeConv(channels, channels * 2, 1) if temporal else None

    def forward(self, x_BFHWC: Tensor, tape: _Tape) -> Tensor:
        if self.time_conv is not None:
            x_BFHWC = self._double_frames(self.time_conv, x_BFHWC, tape)
        b, f, h, w, c = x_BFHWC.shape
        nearest = x_BFHWC[:, :, :, None, :, None].expand(b, f, h, 2, w, 2, c).reshape(b, f, h * 2, w * 2, c)
        return cast(Tensor, self.resample(nearest))

    @staticmethod
    def _double_frames(time_conv: _TimeConv, x_BFHWC: Tensor, tape: _Tape) -> Tensor:
        # The first latent frame stays one picture, and the frames after it see zeros in its place.
        lone = 0 if tape.started else 1
        rest = x_BFHWC[:, lone:]
        if rest.shape[1] == 0:
            tape.skip()
            return x_BFHWC
        pairs = time_conv(tape.extend(rest)).unflatten(-1, (2, -1))
        doubled = pairs.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
        return torch.cat([x_BFHWC[:, :lone], doubled], 1)


class _Downsample(nn.Module):
    """Halves rows and columns; with `temporal` then makes one frame of every two but the very first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), _Conv2d(channels, channels, stride=2))
        self.time_conv = _TimeConv(channels, channels, 2) if temporal else None

    def forward(self, x_BFHWC: Tensor, tape: _Tape) -> Tensor:
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
    return nn.Sequential(_Norm(c_in, 3), nn.SiLU(), _CausalConv3d(c_in, c_out))


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(_Residual(channels, channels), _Attention(channels), _Residual(channels, channels))


def _decoder_stages(config: WanVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = [config.dim * m for m in reversed(config.dim_mult)]
    temporal = config.temporal_downsample[::-1]
    c_in, scale = widths[0], 1.0 / config.spatial_stride * 2
    for i, c_out in enumerate(widths):
        for _ in range(config.num_res_blocks + 1):
            layers.append(_Residual(c_in, c_out))
            c_in = c_out
            if scale in config.attn_scales:
                layers.append(_Attention(c_out))
        if i < len(temporal):
            layers.append(_Upsample(c_out, temporal[i]))
            c_in, scale = c_out // 2, scale * 2
    return nn.Sequential(*layers)


def _encoder_stages(config: WanVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    c_in, scale = config.dim, 1.0
    for i, c_out in enumerate(config.dim * m for m in config.dim_mult):
        for _ in range(config.num_res_blocks):
            layers.append(_Residual(c_in, c_out))
            c_in = c_out
            if scale in config.attn_scales:
                layers.append(_Attention(c_out))
        if i < len(config.temporal_downsample):
            layers.append(_Downsample(c_out, config.temporal_downsample[i]))
            scale /= 2
    return nn.Sequential(*layers)


class _DecoderTrunk(nn.Module):
    """conv1, middle, upsamples, head."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        deepest = config.dim * config.dim_mult[-1]
        self.conv1 = _CausalConv3d(config.z_dim, deepest)
        self.middle = _middle(deepest)
        self.upsamples = _decoder_stages(config)
        self.head = _head(config.dim * config.dim_mult[0], PICTURE_CHANNELS)


class _EncoderTrunk(nn.Module):
    """conv1, downsamples, middle, head."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        deepest = config.dim * config.dim_mult[-1]
        self.conv1 = _CausalConv3d(PICTURE_CHANNELS, config.dim)
        self.downsamples = _encoder_stages(config)
        self.middle = _middle(deepest)
        self.head = _head(deepest, config.z_dim * 2)


class WanDecoder(nn.Module):
    """Latents to pictures; parameters `conv2.*` and `decoder.*`."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.conv2 = _Conv1x1(config.z_dim, config.z_dim, 3)
        self.decoder = _DecoderTrunk(config)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """The state of a stream that has seen nothing; `height` and `width` are those of a latent frame."""
        return _initial_state(self._order(), self.conv2.weight, batch, (height, width))

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        """Decode the next latent frames of a stream and advance its state in place.

        z_BCFHW: latents already multiplied by std and shifted by mean, any number of frames > 0.
        Returns pixels_BCFHW before the clamp to [-1, 1]: temporal_stride pictures for each latent frame, but one for the
        stream's first. A whole clip in one call gives the same bits as frame by frame. Differentiable.
        """
        return _stream(self._order(), self.conv2(z_BCFHW.permute(0, 2, 3, 4, 1)), state)

    def forward(self, z_BCFHW: Tensor) -> Tensor:
        """Decode a whole clip (see decode)."""
        return self.decode(z_BCFHW, self.initial_state(z_BCFHW.shape[0], z_BCFHW.shape[3], z_BCFHW.shape[4]))

    def _order(self) -> list[nn.Module]:
        trunk = self.decoder
        return [trunk.conv1, *trunk.middle, *trunk.upsamples, *trunk.head]


class WanEncoder(nn.Module):
    """Pictures to the posterior of latents; parameters `conv1.*` and `encoder.*`."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _EncoderTrunk(config)
        self.conv1 = _Conv1x1(config.z_dim * 2, config.z_dim * 2, 3)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """The state of a stream that has seen nothing; `height` and `width` are those of a picture.

        ValueError if they are not multiples of the spatial stride.
        """
        stride = self.config.spatial_stride
        if height % stride or width % stride:
            msg = f"height x width {height}x{width}, allowed: multiples of {stride}"
            raise ValueError(msg)
        return _initial_state(self._order(), self.conv1.weight, batch, (height, width))

    def encode(self, pixels_BCFHW: Tensor, state: CarriedState) -> tuple[Tensor, Tensor]:
        """Encode the next pictures of a stream, values in [-1, 1], and advance its state in place.

        The number of pictures is a multiple of temporal_stride, plus one for the chunk that opens the stream; else ValueError.
        Returns mean_BCFHW and logvar_BCFHW of the latents before they are normalised. Differentiable.
        """
        stride, frames = self.config.temporal_stride, pixels_BCFHW.shape[2]
        lone = 0 if state.started else 1
        if frames < 1 or (frames - lone) % stride:
            msg = f"number of pictures {frames}, allowed: a multiple of {stride} plus {lone}"
            raise ValueError(msg)
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


def _run(modules: Iterable[nn.Module], x_BFHWC: Tensor, tape: _Tape) -> Tensor:
    for module in modules:
        if isinstance(module, _CausalConv3d | _Residual | _Upsample | _Downsample):
            x_BFHWC = module(x_BFHWC, tape)
        else:
            x_BFHWC = module(x_BFHWC)
    return x_BFHWC


def _stream(modules: list[nn.Module], x_BFHWC: Tensor, state: CarriedState) -> Tensor:
    tape = _Tape(state)
    y_BFHWC = _run(modules, x_BFHWC, tape)
    tape.finish()
    state.started = True
    return y_BFHWC.permute(0, 4, 1, 2, 3)


def _initial_state(
    modules: list[nn.Module], like: Tensor, batch: int, size: tuple[int, int]
) -> CarriedState:
    shapes: list[tuple[int, ...]] = []
    _history_shapes(modules, batch, size, shapes)
    return CarriedState([torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in shapes])


def _history_shapes(
    modules: Iterable[nn.Module], batch: int, size: tuple[int, int], shapes: list[tuple[int, ...]]
) -> tuple[int, int]:
    """Append the shape of every carried tensor in execution order; returns the rows and columns after the modules."""
    for module in modules:
        match module:
            case _CausalConv3d():
                shapes.append((batch, 2, *size, module.weight.shape[1]))
            case _Residual():
                _history_shapes(module.residual, batch, size, shapes)
            case _Upsample():
                if module.time_conv is not None:
                    shapes.append((batch, 2, *size, module.time_conv.weight.shape[1]))
                size = (size[0] * 2, size[1] * 2)
            case _Downsample():
                size = (size[0] // 2, size[1] // 2)
                if module.time_conv is not None:
                    shapes.append((batch, 1, *size, module.time_conv.weight.shape[1]))
    return size
