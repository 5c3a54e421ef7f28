"""Convolutions over space and time that see only the past, and the state they carry from chunk to chunk.

Shape legend: B batch, F frames, C channels (I in, O out), H rows, W columns. Activations lie as BFHWC: a
frame is one item of a 2-D convolution's batch, which on a CPU is about ten times faster than a 3-D convolution.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.models.api import CarriedState

# On a CPU, what does not fill a run of vector registers at the end of a tensor is rounded differently from the rest.
_VECTOR_ELEMENTS = 64

_LANES = 16
"""Numbers in a vector register of a CPU: a convolution of fewer outputs takes as long as one of so many."""

_PHASES = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
"""Where the taps of a doubled row (or column) fall in the small one, for even and odd rows: [phase][to][from]."""


class Tape:
    """Walks a CarriedState in execution order while a chunk passes through the network.

    The state changes only in `finish`, so a chunk that fails half-way leaves the stream where it was.
    """

    def __init__(self, state: CarriedState) -> None:
        self.started = state.started
        self._state = state
        self._next_BFHWC: list[Tensor] = []

    def extend(self, x_BFHWC: Tensor) -> Tensor:
        """Put the carried frames in front of `x` and carry its last frames instead."""

        def extended(past_BFHWC: Tensor) -> tuple[Tensor, Tensor]:
            both = torch.cat([past_BFHWC, x_BFHWC], 1)
            # A copy: a view would keep the whole chunk alive for as long as the stream lives.
            return both, both[:, both.shape[1] - past_BFHWC.shape[1] :].clone()

        return self.advance(extended)

    def advance(self, make: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """What `make` makes of the carried frames; the second that it returns is carried instead."""
        made, kept = make(self._carried())
        self._next_BFHWC.append(kept)
        return made

    def skip(self) -> None:
        """Leave the carried frames of the next convolution as they are."""
        self._next_BFHWC.append(self._carried())

    def skip_rest(self) -> None:
        """Leave those of all convolutions that the chunk has not come to as they are."""
        self._next_BFHWC += self._state.history_BFHWC[len(self._next_BFHWC) :]

    def finish(self) -> None:
        """Advance the state (ValueError if the network has fewer temporal convolutions than the state has entries)."""
        met, entries = len(self._next_BFHWC), len(self._state.history_BFHWC)
        if met != entries:
            raise ValueError(f"carried state has {entries} entries, allowed: {met} for this network")
        self._state.history_BFHWC = self._next_BFHWC
        self._state.started = True

    def _carried(self) -> Tensor:
        return self._state.history_BFHWC[len(self._next_BFHWC)]


def reaches(behind: Sequence[Fraction]) -> list[Fraction]:
    """How many latent frames back the state of each part of a network, and of those behind it, depends on what enters
    that part, if each looks back so far itself."""
    return [*accumulate(reversed(behind))][::-1]


def count_reaching(reach: Sequence[Fraction], later_frames: int) -> int:
    """The number of parts, from the first on, that frames must pass through after which `later_frames` come."""
    return sum(frames > later_frames for frames in reach)


class Kernel(nn.Module):
    """Weight and bias of a convolution, initialised like torch's own; subclasses apply them."""

    def __init__(self, c_in: int, c_out: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, *size))
        self.bias = nn.Parameter(torch.empty(c_out))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(c_in * math.prod(size))
        nn.init.uniform_(self.bias, -bound, bound)


def _conv2d(x_BFHWC: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """2-D convolution of every frame by itself; a frame's result does not depend on how many there are."""
    frames = x_BFHWC.shape[0] * x_BFHWC.shape[1]
    x_NCHW = x_BFHWC.flatten(0, 1).permute(0, 3, 1, 2)
    if frames == 1 and x_NCHW.device.type == "cpu":
        # torch takes another algorithm (and rounding) for a batch of one on a CPU.
        x_NCHW = x_NCHW.expand(2, -1, -1, -1)
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    y_NCHW = F.conv2d(x_NCHW, weight.contiguous(memory_format=torch.channels_last), bias, stride, padding)
    return y_NCHW[:frames].permute(0, 2, 3, 1).reshape(*x_BFHWC.shape[:2], *y_NCHW.shape[2:], -1)


def _pointwise(x_BFHWC: Tensor, weight_OI: Tensor, bias: Tensor) -> Tensor:
    """Linear map of channels, frame by frame: a product's rounding may depend on its number of rows."""
    frames = [F.linear(x_HWC, weight_OI, bias) for x_HWC in x_BFHWC.flatten(0, 1)]
    return torch.stack(frames).reshape(*x_BFHWC.shape[:-1], -1)


class Conv1x1(Kernel):
    """A convolution of size 1 in all directions; `dims` is how many its stored weight has."""

    def __init__(self, c_in: int, c_out: int, dims: int) -> None:
        super().__init__(c_in, c_out, (1,) * dims)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        return _pointwise(x_BFHWC, self.weight.flatten(1), self.bias)


class Conv2d(Kernel):
    """A 3x3 convolution within each frame."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, (3, 3))
        self.stride = stride

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        if self.stride == 1:
            return _conv2d(x_BFHWC, self.weight, self.bias, 1, 1)
        # Padded below and to the right only.
        return _conv2d(F.pad(x_BFHWC, (0, 0, 0, 1, 0, 1)), self.weight, self.bias, self.stride, 0)

    def doubled(self, x_BFHWC: Tensor) -> Tensor:
        """The convolution of the frame with every pixel repeated twice in both directions.

        Each pixel of the small frame gives four, each of them a convolution of its own over the small frame, in which
        taps that fall on copies of one pixel are added up: a quarter of the pixels, and no copies.
        """
        y_BFHWC = _conv2d(x_BFHWC, self.doubled_weight(), self.bias.repeat(4), 1, 1)
        b, f, h, w, _ = y_BFHWC.shape
        four = y_BFHWC.view(b, f, h, w, 2, 2, -1).transpose(3, 4)
        return four.reshape(b, f, 2 * h, 2 * w, -1)

    def doubled_weight(self) -> Tensor:
        """The weights [4 O, I, 3, 3] of `doubled`: for each of four pixels, rows first, one convolution."""
        phase = torch.tensor(_PHASES, dtype=self.weight.dtype, device=self.weight.device)
        return torch.einsum("pyh,qxw,oihw->pqoiyx", phase, phase, self.weight).flatten(0, 2)


class CausalConv3d(Kernel):
    """3x3x3 convolution that sees the frame itself and the two before it."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, (3, 3, 3))

    def forward(self, x_BFHWC: Tensor, tape: Tape) -> Tensor:
        extended = tape.extend(x_BFHWC)
        return self.frame_by_frame(extended) if x_BFHWC.device.type == "cpu" else self.all_at_once(extended)

    def frame_by_frame(self, extended_BFHWC: Tensor) -> Tensor:
        """As 2-D convolutions, in the form that suits the widths; faster on a CPU."""
        if 3 * self.weight.shape[0] <= _LANES:
            return self.taps_as_outputs(extended_BFHWC)
        return self.taps_as_inputs(extended_BFHWC)

    def taps_as_inputs(self, extended_BFHWC: Tensor) -> Tensor:
        """The three taps side by side as channels of one convolution."""
        last = extended_BFHWC.shape[1] - 2
        taps = torch.cat([extended_BFHWC[:, t : t + last] for t in range(3)], -1)
        return _conv2d(taps, self.weight.transpose(1, 2).flatten(1, 2), self.bias, 1, 1)

    def taps_as_outputs(self, extended_BFHWC: Tensor) -> Tensor:
        """What a frame adds to itself and to the two after it, from one convolution: fills vectors."""
        last = extended_BFHWC.shape[1] - 2
        weight = self.weight.permute(2, 0, 1, 3, 4).flatten(0, 1)
        bias = torch.cat([self.bias.new_zeros(2 * len(self.bias)), self.bias])
        parts = _conv2d(extended_BFHWC, weight, bias, 1, 1).chunk(3, -1)
        return parts[0][:, :last] + parts[1][:, 1 : 1 + last] + parts[2][:, 2:]

    def all_at_once(self, extended_BFHWC: Tensor) -> Tensor:
        """The same as one 3-D convolution, without the copies; for a GPU."""
        y_BCFHW = F.conv3d(extended_BFHWC.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=(0, 1, 1))
        return y_BCFHW.permute(0, 2, 3, 4, 1).contiguous()


class TimeConv(Kernel):
    """Convolution of 3 taps over time only; `stride` 2 halves the frame rate."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(c_in, c_out, (3, 1, 1))
        self.stride = stride

    def forward(self, extended_BFHWC: Tensor) -> Tensor:
        last = extended_BFHWC.shape[1] - 2
        taps = torch.cat([extended_BFHWC[:, t : t + last : self.stride] for t in range(3)], -1)
        return _pointwise(taps, self.weight.transpose(1, 2).flatten(1), self.bias)


class Norm(nn.Module):
    """Channel vector scaled to length sqrt(C), times gamma; `dims` trailing ones are in the stored shape."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * dims))
        self.scale = math.sqrt(channels)

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        return F.normalize(x_BFHWC, dim=-1) * (self.gamma.flatten() * self.scale)


class SiLU(nn.Module):
    """x * sigmoid(x); the result of a frame does not depend on how many there are."""

    def forward(self, x_BFHWC: Tensor) -> Tensor:
        if x_BFHWC[0, 0].numel() % _VECTOR_ELEMENTS == 0:
            return F.silu(x_BFHWC)
        return torch.stack([F.silu(x_HWC) for x_HWC in x_BFHWC.flatten(0, 1)]).reshape(x_BFHWC.shape)
