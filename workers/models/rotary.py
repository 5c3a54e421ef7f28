"""Rotary positions: the channels of a head turned in pairs, by angles that grow with a frame's place.

Theory of operation. Channels (2i, 2i + 1) are one plane, turned by an angle of their own: (e, o) becomes
(e cos - o sin, o cos + e sin). Every pair is computed by itself, from products and one sum that are each rounded: so a
key whose rows and columns are turned when it is written and whose time is turned when it is read has the bits of one
that was turned all at once, and a turn by 0 leaves the bits as they are. A product of complex numbers, which computes
the same, promises neither: at the end of a vector, and where a factor is shared, parts of it may be rounded once
instead of twice.

Shape suffixes: R pair of channels, D channel of one head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LADDER_BASE = 10000.0


class Rotation(NamedTuple):
    """Angles that channels are turned by; both are [..., D] in float32, the number of a pair twice."""

    cos: Tensor
    sin: Tensor


def ladder(steps: int, device: torch.device) -> Tensor:
    """Frequencies [steps] in float64, falling from 1 to just above 1 / 10000."""
    exponent = torch.arange(steps, dtype=torch.float64, device=device) / -steps
    return torch.pow(_LADDER_BASE, exponent)


def axis(position: Tensor, pairs: int) -> Tensor:
    """Cosines and sines [2, ..., 2 pairs] of places [...] on one axis; float64 angles, so places have no limit."""
    angle = position.to(torch.float64).unsqueeze(-1) * ladder(pairs, position.device)
    return torch.stack((angle.cos().float(), angle.sin().float())).repeat_interleave(2, -1)


def time_turn(position_P: Tensor, pairs: int, head_dim: int) -> Rotation:
    """Turns [P, 1, 1, D] by places on the time axis alone, which has the first `pairs` pairs of a head."""
    cos_P11D = torch.ones(len(position_P), 1, 1, head_dim, device=position_P.device)
    sin_P11D = torch.zeros_like(cos_P11D)
    cos_P11D[:, 0, 0, : 2 * pairs], sin_P11D[:, 0, 0, : 2 * pairs] = axis(position_P, pairs)
    return Rotation(cos_P11D, sin_P11D)


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """Channels (2i, 2i + 1) of x [..., D] turned, in float32, returned in the type of x."""
    wide = x.float()
    # A quarter turn, (e, o) to (-o, e): the complex product with i is exact, and far faster than to move channels.
    pairs_R = torch.view_as_complex(wide.reshape(*wide.shape[:-1], -1, 2))
    quarter = torch.view_as_real(pairs_R * 1j).flatten(-2)
    return (wide * turn.cos).add_(quarter.mul_(turn.sin)).to(x.dtype)


def rotate_fused(x: Tensor, turn: Rotation) -> Tensor:
    """`rotate` without complex numbers, which no compiler fuses; slow where nothing does."""
    wide = x.float()
    even_R, odd_R = wide.reshape(*wide.shape[:-1], -1, 2).unbind(-1)
    quarter = torch.stack((-odd_R, even_R), -1).flatten(-2)
    return (wide * turn.cos + quarter * turn.sin).to(x.dtype)
