"""Figures of a plan with where each comes from: measured for this very model, or modelled from what was measured.

Theory of operation. The table (longtake.core.plan.measured) is of one model. A model of the same sizes whose window is
in the table has measured times; a forward of any other one takes its floating-point operations at the rate that the
measured full window reaches. A decode of the same decoder for other pictures takes time in proportion to their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from longtake.core.plan.measured import MEASURED, Measured
from longtake.core.plan.model import Model
from longtake.core.plan.presets import PRESETS
from longtake.core.recipe.graph import Graph


class Basis(StrEnum):
    """Where a figure comes from."""

    MEASURED = "measured"
    MODELLED = "modelled"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a plan, and where it comes from."""

    value: float
    basis: Basis
    how: str = ""

    def __str__(self) -> str:
        return f"{self.basis}: {self.how}" if self.how else self.basis


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTimes:
    """Seconds that a plan is made with."""

    forward: Figure
    """A forward with a full window, of a device."""
    decode: Figure | None
    """A decode of one block, of a device; None if it is not known."""
    encode: Figure
    """H.264 of one block, of a core."""


def times(model: Model, measured: Measured = MEASURED) -> PlanTimes:
    """What is known of a model without trying it."""
    return PlanTimes(
        forward=forward_s(model, measured), decode=decode_s(model, measured), encode=encode_s(model, measured)
    )


def forward_s(model: Model, measured: Measured = MEASURED) -> Figure:
    """Seconds of a forward with a full window, host time included: the mean of D and C as they occur in a block."""
    frames, like = model.recipe.window.size, PRESETS[measured.preset]
    same = (model.transformer, model.block_tokens) == (like.transformer, like.block_tokens)
    if same and frames in measured.denoise_s:
        forwards, denoises = Graph(model.recipe).forwards_per_block, model.recipe.usual_count
        ops_s = denoises * measured.denoise_s[frames] + (forwards - denoises) * measured.commit_s[frames]
        host = f"the mean of a block's D and C, and {1000 * measured.host_s:.1f} ms of host time"
        return Figure(ops_s / forwards + measured.host_s, Basis.MEASURED, host)
    flop_per_s = like.forward_flop / measured.denoise_s[like.recipe.page_count]
    reached = f"{_at(model, flop_per_s)}, as was measured, and {1000 * measured.host_s:.1f} ms of host time"
    return Figure(model.forward_flop / flop_per_s + measured.host_s, Basis.MODELLED, reached)


def forward_at(model: Model, flop_per_s: float) -> Figure:
    """The same by a rate that is given."""
    return Figure(model.forward_flop / flop_per_s, Basis.MODELLED, _at(model, flop_per_s))


def _at(model: Model, flop_per_s: float) -> str:
    return f"{model.forward_flop / 1e12:.3g} TFLOP at {flop_per_s / 1e12:.0f} TFLOP/s"


def decode_s(model: Model, measured: Measured = MEASURED) -> Figure | None:
    """Seconds of the device to decode one block; None for a decoder that is not like the measured one."""
    if model.decoder != PRESETS[measured.preset].decoder:
        return None
    return _by_pixels(model, measured.decode_s, measured)


def encode_s(model: Model, measured: Measured = MEASURED) -> Figure:
    """Seconds of one core to encode one block as H.264."""
    return _by_pixels(model, measured.encode_s, measured)


def _by_pixels(model: Model, seconds: float, measured: Measured) -> Figure:
    pixels, known = _pixels(model), _pixels(PRESETS[measured.preset])
    if pixels == known:
        return Figure(seconds, Basis.MEASURED)
    return Figure(seconds * pixels / known, Basis.MODELLED, f"{pixels / known:.3g} times the pixels that were measured")


def _pixels(model: Model) -> int:
    """Of one block."""
    geometry = model.geometry
    return geometry.width * geometry.height * geometry.pictures(1)
