"""The autoencoder's decoder for a GPU: 2-D convolutions over all frames, and one kernel for what lies between two.

Theory of operation. On a GPU the convolutions take most of the time and memory traffic nearly all of the rest, so

- the three taps in time of a 3-D convolution are laid side by side as channels of a 2-D one, for which cuDNN has its
  fastest kernels at every width (at 96 channels 4.8 ms in place of 9.8 ms for a block at 480x832 on an H100);
- norm, SiLU, the frames carried from the block before and the laying out of the taps are one kernel, which also adds
  the bias that the convolution before it left out; the sum with the shortcut is another, which adds the second one's.

Weights are laid out once, and nothing waits for the device. The results are the plain decoder's but for rounding, and
depend on how many frames come at once, as cuDNN does: a stream is decoded block by block, the same blocks every time.
Shape suffixes as in workers.models.wan.causal_conv, and T 3 times the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.models.api import CarriedState
from workers.models.compiling import compiled
from workers.models.wan.causal_conv import CausalConv3d, Conv1x1, Conv2d, Norm, SiLU, Tape, TimeConv
from workers.models.wan.vae import Attention, Residual, Upsample, WanDecoder

_CHANNELS = 8
"""The fastest kernels write channels in multiples of this."""
_LEAST_LENGTH = 1e-12
"""What the length of a channel vector is taken for if it is less, as torch's normalize does."""

Step = Callable[[Tensor, Tape], Tensor]
"""A part of the network: what it makes of a chunk, while it takes the carried frames that it needs off the tape."""


class FusedDecoder:
    """A WanDecoder as a LatentDecoder whose kernels are fused."""

    def __init__(self, plain: WanDecoder) -> None:
        """Lay out the weights; those of `plain` must not change any more."""
        self._plain = plain
        kernels = _Kernels()
        self._steps = [_step(part, kernels) for part in _parts(plain)]

    @property
    def device(self) -> torch.device:
        """See LatentDecoder."""
        return self._plain.device

    @property
    def dtype(self) -> torch.dtype:
        """See LatentDecoder."""
        return self._plain.dtype

    @property
    def channels(self) -> int:
        """See LatentDecoder."""
        return self._plain.channels

    @property
    def receptive_frames(self) -> int:
        """See LatentDecoder."""
        return self._plain.receptive_frames

    def state_shapes(self, batch: int, height: int, width: int) -> list[tuple[int, ...]]:
        """See LatentDecoder."""
        return self._plain.state_shapes(batch, height, width)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """See LatentDecoder."""
        return self._plain.initial_state(batch, height, width)

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        """See LatentDecoder."""
        tape = Tape(state)
        y_BFHWC = self._run(self._steps, z_BCFHW, tape)
        tape.finish()
        return y_BFHWC.permute(0, 4, 1, 2, 3)

    def advance(self, z_BCFHW: Tensor, state: CarriedState, later_frames: int) -> None:
        """See LatentDecoder."""
        tape = Tape(state)
        self._run(self._steps[: self._plain.depth(later_frames)], z_BCFHW, tape)  # steps are parts, but for the last
        tape.skip_rest()
        tape.finish()

    def _run(self, steps: list[Step], z_BCFHW: Tensor, tape: Tape) -> Tensor:
        x_BFHWC: Tensor = self._plain.conv2(z_BCFHW.permute(0, 2, 3, 4, 1))
        for step in steps:
            x_BFHWC = step(x_BFHWC, tape)
        return x_BFHWC


class _Kernels:
    """What is fused, compiled once for all parts."""

    def __init__(self) -> None:
        self.activated = compiled(activated)
        self.joined = compiled(joined)
        self.spread = compiled(spread)


def activated(past_BFHWC: Tensor, x_BFHWC: Tensor, bias_C: Tensor, gain_C: Tensor) -> tuple[Tensor, Tensor]:
    """Norm and SiLU of x + bias, its frames side by side as taps [B, F, H, W, T], and its last two frames.

    Each tap is written down as a tensor of its own, so that they become one kernel: what several others are made of is
    written to memory first.
    """
    square_BFHW1 = (x_BFHWC.float() + bias_C).square().sum(-1, keepdim=True)
    inverse_BFHW1 = torch.rsqrt(square_BFHW1.clamp_min(_LEAST_LENGTH**2))

    def shown(frames: slice) -> Tensor:
        unit_BFHWC = (x_BFHWC[:, frames].float() + bias_C) * inverse_BFHW1[:, frames]
        return F.silu(unit_BFHWC * gain_C).to(x_BFHWC.dtype)

    count = x_BFHWC.shape[1]

    def from_frame(start: int, frames: int) -> Tensor:
        """So many frames from number `start` of the two past ones and those of x."""
        past = past_BFHWC[:, start : min(2, start + frames)]
        left = frames - past.shape[1]
        first = max(0, start - 2)
        return torch.cat([past, shown(slice(first, first + left))], 1) if left else past.clone()

    taps_BFHWT = torch.cat([from_frame(t, count) for t in range(3)], -1)
    return taps_BFHWT, from_frame(count, 2).contiguous()


def joined(y_BFHWC: Tensor, bias_C: Tensor, shortcut_BFHWC: Tensor) -> Tensor:
    """The sum of two branches and what their convolutions left out."""
    return (y_BFHWC.float() + bias_C + shortcut_BFHWC.float()).to(y_BFHWC.dtype)


def spread(y_BFHWC: Tensor, bias_C: Tensor) -> Tensor:
    """Four pixels of each, whose channels lie one after the other: rows first."""
    b, f, h, w, _ = y_BFHWC.shape
    four = y_BFHWC.view(b, f, h, w, 2, 2, -1) + bias_C
    return four.transpose(3, 4).reshape(b, f, 2 * h, 2 * w, -1)


def _usual(x: Tensor) -> Tensor:
    """The same tensor with the strides that follow from its shape, where it has others for dimensions of size 1.

    They mean nothing, but other strides are another tensor to the compiler, which would make its kernels anew.
    """
    return x.reshape(-1).view(x.shape)


def _taps(extended_BFHWC: Tensor) -> Tensor:
    last = extended_BFHWC.shape[1] - 2
    return torch.cat([extended_BFHWC[:, t : t + last] for t in range(3)], -1)


class _Planes:
    """A convolution of every frame by itself, 3x3, without its bias."""

    def __init__(self, weight: Tensor) -> None:
        self._channels = len(weight)
        missing = -self._channels % _CHANNELS  # else cuDNN pads what goes in and out at every call
        weight = F.pad(weight.detach(), (0, 0, 0, 0, 0, 0, 0, missing))
        self._weight = weight.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def over_taps(conv: CausalConv3d) -> _Planes:
        return _Planes(conv.weight.transpose(1, 2).flatten(1, 2))

    def __call__(self, x_BFHWC: Tensor) -> Tensor:
        y_NCHW = F.conv2d(x_BFHWC.flatten(0, 1).permute(0, 3, 1, 2), self._weight, None, padding=1)
        y_NHWC = y_NCHW.permute(0, 2, 3, 1)[..., : self._channels]
        return y_NHWC.view(*x_BFHWC.shape[:2], *y_NHWC.shape[1:])


class _Activation:
    """Norm and SiLU before a causal convolution, and that convolution without its bias."""

    def __init__(self, norm: Norm, conv: CausalConv3d, kernels: _Kernels) -> None:
        self._gain_C = (norm.gamma.detach().float() * norm.scale).flatten()
        self._conv = _Planes.over_taps(conv)
        self._activated = kernels.activated
        self._nothing_C = torch.zeros_like(self._gain_C)  # as large as a bias, so that it needs no kernel of its own
        self.left_out_C = conv.bias.detach().float()

    def __call__(self, x_BFHWC: Tensor, tape: Tape, left_out_C: Tensor | None = None) -> Tensor:
        """`left_out_C` is the bias that was left out of x."""
        bias_C = self._nothing_C if left_out_C is None else left_out_C
        x_BFHWC = _usual(x_BFHWC)
        return self._conv(tape.advance(lambda past: self._activated(_usual(past), x_BFHWC, bias_C, self._gain_C)))


class _FusedResidual:
    def __init__(self, residual: Residual, kernels: _Kernels) -> None:
        norm1, _, conv1, norm2, _, _, conv2 = residual.residual
        assert isinstance(norm1, Norm) and isinstance(norm2, Norm)
        assert isinstance(conv1, CausalConv3d) and isinstance(conv2, CausalConv3d)
        self._first, self._second = _Activation(norm1, conv1, kernels), _Activation(norm2, conv2, kernels)
        self._left_out_C = self._second.left_out_C
        self._shortcut_OI: Tensor | None = None
        if isinstance(residual.shortcut, Conv1x1):
            self._shortcut_OI = residual.shortcut.weight.detach().flatten(1)
            self._left_out_C = self._left_out_C + residual.shortcut.bias.detach().float()
        self._joined = kernels.joined

    def __call__(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        y_BFHWC = self._second(self._first(x_BFHWC, tape), tape, self._first.left_out_C)
        shortcut = x_BFHWC if self._shortcut_OI is None else F.linear(x_BFHWC, self._shortcut_OI)
        return self._joined(_usual(y_BFHWC), self._left_out_C, _usual(shortcut))


class _FusedUpsample:
    def __init__(self, upsample: Upsample, kernels: _Kernels) -> None:
        conv = upsample.resample[1]
        assert isinstance(conv, Conv2d)
        self._planes, self._bias_C = _Planes(conv.doubled_weight()), conv.bias.detach()
        self._spread = kernels.spread
        self._time = upsample.time_conv

    def __call__(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        if self._time is not None:
            x_BFHWC = Upsample.double_frames(partial(_over_time, self._time), x_BFHWC, tape)
        return self._spread(_usual(self._planes(x_BFHWC)), self._bias_C)


def _over_time(conv: TimeConv, extended_BFHWC: Tensor) -> Tensor:
    return F.linear(_taps(extended_BFHWC), conv.weight.transpose(1, 2).flatten(1), conv.bias)


def _attended(attention: Attention, x_BFHWC: Tensor, _: Tape) -> Tensor:
    """One head of attention among the pixels of each frame, all frames at once."""
    to_qkv, proj = attention.to_qkv, attention.proj
    qkv_BFHWC = F.linear(attention.norm(x_BFHWC), to_qkv.weight.flatten(1), to_qkv.bias)
    q, k, v = (t.unsqueeze(1) for t in qkv_BFHWC.flatten(2, 3).flatten(0, 1).chunk(3, -1))
    seen = F.scaled_dot_product_attention(q, k, v).reshape(x_BFHWC.shape)
    return x_BFHWC + F.linear(seen, proj.weight.flatten(1), proj.bias)


def _first(conv: CausalConv3d, x_BFHWC: Tensor, tape: Tape) -> Tensor:
    return conv.taps_as_inputs(tape.extend(x_BFHWC))


def _parts(plain: WanDecoder) -> list[nn.Module]:
    """The network's parts in order; those at its end that belong together are one."""
    *parts, norm, silu, conv = plain.order()
    assert isinstance(silu, SiLU)
    return [*parts, nn.Sequential(norm, conv)]


def _step(part: nn.Module, kernels: _Kernels) -> Step:
    match part:
        case CausalConv3d():
            return partial(_first, part)
        case Residual():
            return _FusedResidual(part, kernels)
        case Attention():
            return partial(_attended, part)
        case Upsample():
            return _FusedUpsample(part, kernels)
        case nn.Sequential():
            return _last(part, kernels)
    raise TypeError(f"a decoder has no {type(part).__name__}")


def _last(part: nn.Sequential, kernels: _Kernels) -> Step:
    """The norm, SiLU and convolution that make the pictures."""
    norm, conv = part
    assert isinstance(norm, Norm) and isinstance(conv, CausalConv3d)
    activation = _Activation(norm, conv, kernels)
    return lambda x_BFHWC, tape: activation(x_BFHWC, tape) + conv.bias
