"""Noise as a pure function of (session seed, block, draw): Philox4x32-10 words made normal by Box-Muller.

The words are integers, and the normals come from them by float64 sums, products, quotients and square roots
alone, which IEEE 754 fixes to the bit. So every machine and device draws the same float32 noise; library logarithms and
cosines, whose last bits differ between processors, would not promise that. For the same reason each is an operation of
its own here: a compiler that puts a product and a sum into one rounds once instead of twice.

Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Words are int64 tensors
with values of 32 bits, because torch has few operations on unsigned ones.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from longtake.core.errors import InvalidField
from workers.device_work import upload

_WORD = 1 << 32
_LOW = _WORD - 1
_ROUNDS = 10
_MULTIPLIERS = torch.tensor([0xD2511F53, 0xCD9E8D57]).view(2, 1, 1)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_CPU = torch.device("cpu")
_log = logging.getLogger("longtake.worker")

# 2 atanh(s) / s, sin(y) / y and cos(y) as polynomials in the squares of s (< 0.0295) and y (< 0.617), highest
# power first; the first term left out of each is below 1e-17.
_LOG = tuple(float(Fraction(2, 2 * n + 1)) for n in reversed(range(12)))
_SIN = tuple(float(Fraction((-1) ** n, math.factorial(2 * n + 1))) for n in reversed(range(9)))
_COS = tuple(float(Fraction((-1) ** n, math.factorial(2 * n))) for n in reversed(range(10)))
_LN2 = 0.6931471805599453
_SQRT_HALF = math.sqrt(0.5)
_RADIANS_PER_UNIT = 2 * math.pi / _WORD


def philox4x32(even: Tensor, odd: Tensor, keys: Tensor, multipliers: Tensor = _MULTIPLIERS) -> tuple[Tensor, Tensor]:
    """Philox4x32-10: the random words of counters under the keys of `key_schedule`.

    `even` [2, key, counter] are the words 0 and 2 of each counter, `odd` its words 1 and 3, and so are the results.
    `multipliers` are on the device of the rest.
    """
    for key in keys:
        # A product of 64 bits wraps around into the sign, which is shifted into its upper half: hence the mask.
        product = (even * multipliers).flip(0)
        even = (product >> 32).bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(_LOW)
        odd = product.bitwise_and_(_LOW)
    return even, odd


def key_schedule(seeds: Sequence[int]) -> Tensor:
    """The keys of all rounds for seeds of 64 bits: int64 [round, 2, seed, 1] on the CPU."""
    words = torch.tensor([[seed & _LOW for seed in seeds], [seed >> 32 for seed in seeds]])
    steps = torch.arange(_ROUNDS)[:, None] * torch.tensor(_KEY_STEPS)
    return (words + steps[:, :, None])[..., None] & _LOW


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value.mul_(x).add_(coefficient)
    return value


def _logarithm(x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(x)  # x = mantissa 2^exponent, mantissa in [1/2, 1)
    small = mantissa < _SQRT_HALF
    mantissa = torch.where(small, mantissa * 2, mantissa)
    exponent = exponent.double().sub_(small.double())
    s = (mantissa - 1) / (mantissa + 1)
    return exponent * _LN2 + s * _polynomial(_LOG, s * s)


def square_root(x: Tensor) -> Tensor:
    """Correctly rounded, which torch's own is not on a CPU: MKL's last bit may be another."""
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


def _cos_sin(turn: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi turn / 2^32, from the nearest quarter turn and the rest in [-pi/4, pi/4)."""
    shifted = (turn + (1 << 29)).bitwise_and_(_LOW)  # wraps around, as angles do
    quarter = shifted >> 30
    y = (shifted & (1 << 30) - 1).double().sub_(1 << 29).mul_(_RADIANS_PER_UNIT)
    square = y * y
    cos, sin = _polynomial(_COS, square), y * _polynomial(_SIN, square)
    odd, negative_sin = (quarter & 1).bool(), quarter >= 2
    cos, sin = torch.where(odd, sin, cos), torch.where(odd, cos, sin)
    return torch.where(odd ^ negative_sin, -cos, cos), torch.where(negative_sin, -sin, sin)


def _box_muller(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent normals from two independent words."""
    uniform = even.double().add_(0.5).mul_(1.0 / _WORD)  # never 0, so the logarithm is finite
    radius = square_root(_logarithm(uniform).mul_(-2.0))
    cos, sin = _cos_sin(odd)
    return radius * cos, radius * sin


class Draw(NamedTuple):
    """Which noise: `seed` has 64 unsigned bits, `block` and `draw` 32."""

    seed: int
    block: int
    draw: int
    """Draw 0 is the initial noise of the block; draw s + 1 is what is added after step s."""


def normal(seed: int, block: int, draw: int, shape: Sequence[int]) -> Tensor:
    """Standard normals of one draw; see `normals`."""
    return normals([Draw(seed, block, draw)], shape)[0]


def normals(draws: Sequence[Draw], shape: Sequence[int], device: torch.device = _CPU) -> Tensor:
    """Standard normals [len(draws), *shape], float32 on the device, which is not waited for; at least one draw.

    An element depends on (seed, block, draw, its flat index in its draw) alone, not on the draws beside it. Elements
    4i..4i+3 (row-major) of a draw come from the counter (i low, i high, draw, block).
    """
    for drawn in draws:
        for name, value, bits in (("seed", drawn.seed, 64), ("block", drawn.block, 32), ("draw", drawn.draw, 32)):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} {value} is not an unsigned number of {bits} bits")
    return _unrounded(draws, math.prod(shape), device).float().view(len(draws), *shape)


def _unrounded(draws: Sequence[Draw], count: int, device: torch.device) -> Tensor:
    """The first `count` normals of some draws in float64, [draw, element]."""
    keys, fixed, multipliers = upload(
        device,
        key_schedule([drawn.seed for drawn in draws]),
        torch.tensor([[drawn.draw for drawn in draws], [drawn.block for drawn in draws]])[..., None],
        _MULTIPLIERS,
    )
    index = torch.arange(-(-count // 4), device=device)
    low, high, number, block = (word.expand(len(draws), len(index)) for word in (index & _LOW, index >> 32, *fixed))
    pairs = _box_muller(*philox4x32(torch.stack((low, number)), torch.stack((high, block)), keys, multipliers))
    made = torch.stack(pairs, dim=-1)  # [word pair, draw, counter, normal of the pair]
    return made.permute(1, 2, 0, 3).reshape(len(draws), -1)[:, :count]


_KNOWN = Draw(0x0123456789ABCDEF, 4800, 1)
_KNOWN_COUNT = 1 << 16
_KNOWN_SHA256 = "3ad9c6234fa19778860f92ff62338c98b7cc7cd46481ceb567dde6256209a0e2"
"""Of the first so many normals of a draw before they are rounded to float32, little-endian: more than must be equal."""


def draws_exactly(device: torch.device) -> bool:
    """Whether a device draws the noise that all others draw."""
    drawn = _unrounded([_KNOWN], _KNOWN_COUNT, device).cpu().numpy().astype("<f8")
    return hashlib.sha256(drawn.tobytes()).hexdigest() == _KNOWN_SHA256


@cache
def where_to_draw(device: torch.device) -> torch.device:
    """Where the noise for a device is drawn: there, or on the CPU if it does not do that exactly.

    InvalidField if the CPU does not either.
    """
    if draws_exactly(device):
        return device
    if not draws_exactly(_CPU):
        allowed = "a machine that computes in float64 as IEEE 754 says; this one draws noise that is no other one's"
        raise InvalidField("model.device", str(device), allowed)
    _log.warning("%s does not compute in float64 as IEEE 754 says, so a core draws its noise", device)
    return _CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNoise:
    """The noise of blocks whose latent frames are of one shape, on one device."""

    shape: tuple[int, ...]
    """Of a frame: (C, H, W)."""
    device: torch.device
    drawn_on: torch.device
    """See `where_to_draw`."""

    @staticmethod
    def on(device: torch.device, shape: tuple[int, ...]) -> BlockNoise:
        """That of a device, drawn where it is exact; `shape` is that of a latent frame."""
        return BlockNoise(shape=shape, device=device, drawn_on=where_to_draw(device))

    def of(self, draws: Sequence[Draw], frames: int) -> Tensor:
        """Standard normals [len(draws), F, C, H, W] of one draw or more, of so many frames; see `normals`."""
        drawn = normals(draws, (frames, *self.shape), self.drawn_on)
        return drawn if self.drawn_on == self.device else upload(self.device, drawn)[0]
