"""Noise as a pure function of (session seed, block, draw): Philox4x32-10 words made normal by Box-Muller.

The words are integers, and the normals come from them by float64 sums, products, quotients and square roots
alone, which IEEE 754 fixes to the bit. So every machine draws the same float32 noise; library logarithms and
cosines, whose last bits differ between processors, would not promise that.

Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.device_work import upload

_Words = npt.NDArray[np.uint32]
_Reals = npt.NDArray[np.float64]

_WORD = 1 << 32
_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW_WORD = np.uint64(_WORD - 1)
_HIGH_WORD = np.uint64(32)

# 2 atanh(s) / s, sin(y) / y and cos(y) as polynomials in the squares of s (< 0.0295) and y (< 0.617), highest
# power first; the first term left out of each is below 1e-17.
_LOG = tuple(float(Fraction(2, 2 * n + 1)) for n in reversed(range(12)))
_SIN = tuple(float(Fraction((-1) ** n, math.factorial(2 * n + 1))) for n in reversed(range(9)))
_COS = tuple(float(Fraction((-1) ** n, math.factorial(2 * n))) for n in reversed(range(10)))
_LN2 = 0.6931471805599453
_SQRT_HALF = math.sqrt(0.5)
_RADIANS_PER_UNIT = 2 * math.pi / _WORD


def philox4x32(
    counter: tuple[_Words, _Words, _Words, _Words], key: tuple[int | _Words, int | _Words]
) -> tuple[_Words, ...]:
    """Philox4x32-10: the random words of each counter (four arrays of one shape) under its key of two words."""
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, np.uint64) for word in key)
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (product1 >> _HIGH_WORD) ^ c1 ^ k0
        c1 = product1 & _LOW_WORD
        c2 = (product0 >> _HIGH_WORD) ^ c3 ^ k1
        c3 = product0 & _LOW_WORD
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW_WORD, (k1 + _KEY_STEPS[1]) & _LOW_WORD
    return tuple(word.astype(np.uint32) for word in (c0, c1, c2, c3))


def _polynomial(coefficients: Sequence[float], x: _Reals) -> _Reals:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def _log(x: _Reals) -> _Reals:
    mantissa, exponent = np.frexp(x)  # x = mantissa 2^exponent, mantissa in [1/2, 1)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2, mantissa)
    exponent = exponent.astype(np.float64) - small
    s: _Reals = (mantissa - 1) / (mantissa + 1)
    return exponent * _LN2 + s * _polynomial(_LOG, s * s)


def _cos_sin(turn: _Words) -> tuple[_Reals, _Reals]:
    """Cosine and sine of 2 pi turn / 2^32, from the nearest quarter turn and the rest in [-pi/4, pi/4)."""
    shifted = turn + np.uint32(1 << 29)  # wraps around, as angles do
    quarter = shifted >> np.uint32(30)
    rest = (shifted & np.uint32((1 << 30) - 1)).astype(np.float64) - float(1 << 29)
    y = rest * _RADIANS_PER_UNIT
    square = y * y
    cos, sin = _polynomial(_COS, square), y * _polynomial(_SIN, square)
    odd = (quarter & np.uint32(1)).astype(bool)
    cos, sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    negative_cos = (quarter == 1) | (quarter == 2)
    negative_sin = quarter >= 2
    return np.where(negative_cos, -cos, cos), np.where(negative_sin, -sin, sin)


def _box_muller(word0: _Words, word1: _Words) -> tuple[_Reals, _Reals]:
    uniform = (word0.astype(np.float64) + 0.5) * (1.0 / _WORD)  # never 0, so the logarithm is finite
    radius = np.sqrt(-2.0 * _log(uniform))
    cos, sin = _cos_sin(word1)
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


def normals(draws: Sequence[Draw], shape: Sequence[int]) -> Tensor:
    """Standard normals [len(draws), *shape], float32 on the CPU; at least one draw.

    An element depends on (seed, block, draw, its flat index in its draw) alone, not on the draws beside it. Elements
    4i..4i+3 (row-major) of a draw come from the counter (i low, i high, draw, block).
    """
    for drawn in draws:
        for name, value, bits in (("seed", drawn.seed, 64), ("block", drawn.block, 32), ("draw", drawn.draw, 32)):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} {value} is not an unsigned number of {bits} bits")
    count = math.prod(shape)
    index = np.arange(-(-count // 4), dtype=np.uint64)
    size = (len(draws), len(index))
    low, high = ((index & _LOW_WORD).astype(np.uint32), (index >> _HIGH_WORD).astype(np.uint32))

    def column(values: Iterable[int]) -> _Words:
        return np.array(list(values), np.uint32)[:, None]

    counter = (
        np.broadcast_to(low, size),
        np.broadcast_to(high, size),
        np.broadcast_to(column(drawn.draw for drawn in draws), size),
        np.broadcast_to(column(drawn.block for drawn in draws), size),
    )
    key = (column(drawn.seed % _WORD for drawn in draws), column(drawn.seed // _WORD for drawn in draws))
    w0, w1, w2, w3 = philox4x32(counter, key)
    made = np.stack([*_box_muller(w0, w1), *_box_muller(w2, w3)], axis=-1)
    flat = made.reshape(len(draws), -1)[:, :count].astype(np.float32)
    return torch.from_numpy(flat).reshape(len(draws), *shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNoise:
    """The noise of blocks of one shape, on one device."""

    shape: tuple[int, ...]
    """(F, C, H, W)"""
    device: torch.device

    def of(self, draws: Sequence[Draw]) -> Tensor:
        """Standard normals [len(draws), F, C, H, W] of one draw or more; see `normals`."""
        return upload(self.device, normals(draws, self.shape))[0]
