"""How a video looks, in numbers that move before a verdict does: hue, area, outline, chroma, background.

Theory of operation. The judge says right or wrong, and says right long after colours have begun to wander. Here the
same pixels give five numbers, each made so that what moves one leaves the others where they are. Hue and chroma are
those of the object's core, away from its outline. Each pixel is a mixture of the core's colour and the background's:
the area is where the first is a half or more, however soft the outline is, and the outline's width is the local range
of its share over its steepness, whatever the size. The background is that of the corners, which no object reaches. All
are means over whole periods of the motion, so that the phase does not count, and are told as deviations from the same
numbers of the world's own pictures of the same scene.

Shapes: T pictures, H rows, W columns, C = 3 colour channels.
"""

from __future__ import annotations

import colorsys
from dataclasses import astuple, dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocket import world
from pocket.judge import Pictures, object_cover
from pocket.world import Clip
from workers.models.pocket_text import Scene

PIECE_PICTURES: Final = 2 * world.PERIOD_PICTURES
"""Pictures that are looked at together: whole periods."""
_EVERY: Final = 3
"""One picture in so many is measured: it divides the period, and meets every picture of a latent frame."""
_LEAST: Final = 25
"""Pixels of an object that is to be seen."""
_CORNER, _SIDE = 4, 2
"""Pixels."""
_NEAR: Final = 3
"""So far to each side, in pixels, the cover's range at an outline is looked for."""

_Floats = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """Means over the pictures of a piece of video."""

    hue_deg: float
    area_px: float
    edge_px: float
    """Width of the outline."""
    chroma: float
    """Of the object's core, in 0..1."""
    background: float
    """Level of the corners, in 0..255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How a piece looks, less how the world's own pictures of its scene look."""

    hue_deg: float
    area_percent: float
    edge_percent: float
    """Positive: the outline is wider, so the picture is softer."""
    chroma_percent: float
    background_levels: float
    """Of 255."""


MEASURES: Final = tuple(Deviation.__dataclass_fields__)


def look_at(pictures_THWC: Pictures) -> Appearance | None:
    """Appearance of a piece, uint8 [T, 64, 64, 3] of whole periods; None if most of its pictures show no object."""
    chosen_THWC = pictures_THWC[::_EVERY]
    rgb_THWC = chosen_THWC.astype(np.float32) / 255
    mask_THW = object_cover(chosen_THWC) > 0.5
    seen = np.flatnonzero(mask_THW.sum((1, 2)) >= _LEAST)
    if 2 * len(seen) < len(chosen_THWC):
        return None
    sides_THWC = np.concatenate([rgb_THWC[:, :, :_SIDE], rgb_THWC[:, :, -_SIDE:]], axis=2)
    back_H1C = np.median(sides_THWC, axis=(0, 2))[:, None]
    cores = [rgb_THWC[at][_core(mask_THW[at])] for at in seen]
    colours = [core.mean(0) for core in cores]
    covers = [_cover(rgb_THWC[at], colour, back_H1C) for at, colour in zip(seen, colours, strict=True)]
    return Appearance(
        hue_deg=360 * colorsys.rgb_to_hsv(*map(float, np.mean(colours, axis=0)))[0],
        area_px=float(np.mean([_area_px(cover) for cover in covers])),
        edge_px=float(np.mean([_edge_px(cover) for cover in covers])),
        chroma=float(np.mean([(core.max(1) - core.min(1)).mean() for core in cores])),
        background=_corners(chosen_THWC),
    )


def deviation(seen: Appearance, scene: Scene) -> Deviation:
    """How far `seen` is from the world's own pictures of `scene`."""
    own = _of_world(scene)
    return Deviation(
        hue_deg=(seen.hue_deg - own.hue_deg + 180) % 360 - 180,
        area_percent=100 * (seen.area_px / own.area_px - 1),
        edge_percent=100 * (seen.edge_px / own.edge_px - 1),
        chroma_percent=100 * (seen.chroma / own.chroma - 1),
        background_levels=seen.background - own.background,
    )


def mean(deviations: list[Deviation]) -> Deviation:
    """The mean of each measure, of one or more."""
    return Deviation(**dict(zip(MEASURES, np.mean([astuple(each) for each in deviations], axis=0), strict=True)))


@cache
def _of_world(scene: Scene) -> Appearance:
    """The look of the world's own pictures; the phase does not matter."""
    own = look_at((world.render(Clip(scene=scene, phase=0.5), PIECE_PICTURES) * 255).round().astype(np.uint8))
    assert own is not None, "every scene of the world has an object"
    return own


def _core(mask_HW: _Mask) -> _Mask:
    """The inside of an object, as far from its outline as leaves enough: a small ring is thin."""
    for by in (2, 1):
        inside_HW = _eroded(mask_HW, by)
        if inside_HW.sum() >= _LEAST:
            return inside_HW
    return mask_HW


def _cover(rgb_HWC: _Floats, colour_C: _Floats, back_H1C: _Floats) -> _Floats:
    """How much of each pixel is the object's colour and how much the background's, by least squares: the former.

    A shadow leaves less of the background, and light more or less of the object.
    """
    with_object_HW, with_back_HW = rgb_HWC @ colour_C, (rgb_HWC * back_H1C).sum(-1)
    back_H1, both_H1 = (back_H1C**2).sum(-1), back_H1C @ colour_C
    apart_H1 = back_H1 * (colour_C @ colour_C) - both_H1**2
    return np.asarray((back_H1 * with_object_HW - both_H1 * with_back_HW) / np.maximum(apart_H1, 1e-6))


def _area_px(cover_HW: _Floats) -> float:
    """Pixels that are the object's by a half or more; those about there count in part."""
    return float(np.clip(2 * cover_HW - 0.5, 0, 1).sum())


def _edge_px(cover_HW: _Floats) -> float:
    """Width of the outline: the range of the cover near it over its steepness there, in pixels."""
    down_HW, right_HW = np.gradient(cover_HW)
    steep_HW = np.hypot(down_HW, right_HW)
    inside_HW = cover_HW > 0.5
    outline_HW = inside_HW & ~_eroded(inside_HW, 1)
    outline_HW |= _grown(inside_HW, 1) & ~inside_HW
    range_HW = _near(cover_HW, np.maximum, _NEAR) - _near(cover_HW, np.minimum, _NEAR)
    steepness = float((steep_HW[outline_HW] / np.maximum(range_HW[outline_HW], 1e-3)).mean())
    return 1 / max(steepness, 1e-3)


def _corners(pictures_THWC: Pictures) -> float:
    """Mean level of the four corners, of each the median over time."""
    ends = (slice(0, _CORNER), slice(-_CORNER, None))
    levels = [
        np.median(pictures_THWC[:, rows, columns].mean((1, 2, 3), dtype=np.float64))
        for rows in ends
        for columns in ends
    ]
    return float(np.mean(levels))


def _eroded(mask_HW: _Mask, by: int) -> _Mask:
    """Pixels whose neighbours up to `by` away, to each side and diagonally, are all in the mask."""
    return ~_grown(~mask_HW, by)


def _grown(mask_HW: _Mask, by: int) -> _Mask:
    return np.asarray(_near(mask_HW, np.logical_or, by), dtype=np.bool_)


def _near(values: NDArray[np.generic], best: np.ufunc, by: int) -> NDArray[np.float32]:
    """`best` over a square of 2 by + 1 pixels about each, the picture's border repeated beyond it."""
    for axis in (-2, -1):
        width = [(0, 0)] * values.ndim
        width[axis] = (by, by)
        padded = np.pad(values, width, mode="edge")
        lanes = np.moveaxis(padded, axis, 0)
        lines = len(lanes) - 2 * by
        best_so_far = lanes[:lines]
        for start in range(1, 2 * by + 1):
            best_so_far = best(best_so_far, lanes[start : start + lines])
        values = np.moveaxis(best_so_far, 0, axis)
    return np.asarray(values)
