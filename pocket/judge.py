"""Tells from decoded pixels alone what a video shows: colour, shape, motion, background.

Shapes: T pictures, H rows, W columns, C = 3 colour channels.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocket import world
from pocket.world import Clip
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

Pictures = NDArray[np.uint8]
ATTRIBUTES: Final = ("colour", "shape", "motion", "background")
BORDER: Final = 3
_CHROMA: Final = 0.32


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a piece of video shows; None where nothing can be told."""

    colour: Colour | None
    shape: Shape | None
    motion: Motion | None
    background: Background | None

    def matches(self, scene: Scene) -> dict[str, bool]:
        """For each attribute, whether it is the scene's."""
        return {name: getattr(self, name) == getattr(scene, name) for name in ATTRIBUTES}


def object_cover(pictures_THWC: Pictures) -> NDArray[np.float32]:
    """How much of each pixel belongs to the object [T, H, W], 0..1: its chroma relative to the most colourful part."""
    rgb = pictures_THWC.astype(np.float32) / 255
    red, green, blue = np.moveaxis(rgb, -1, 0)  # an axis of three is slow to reduce
    chroma_THW = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    border = np.concatenate([chroma_THW[:, :BORDER], chroma_THW[:, -BORDER:]], axis=1)
    floor = np.median(border, axis=(1, 2))[:, None, None]
    top = np.maximum(np.quantile(chroma_THW.reshape(len(rgb), -1), 0.98, axis=1), _CHROMA)[:, None, None]
    return np.asarray(np.clip((chroma_THW - floor) / (top - floor + 1e-6), 0, 1), dtype=np.float32)


def classify(pictures_THWC: Pictures) -> Seen:
    """Colour, shape, motion and background of a piece of video, uint8 [T, 64, 64, 3]; motion wants 1.5 s or more."""
    cover_THW = object_cover(pictures_THWC)
    mask_THW = cover_THW > 0.5
    visible = mask_THW.sum((1, 2)) >= 25
    background = _background(pictures_THWC, mask_THW)
    if visible.mean() < 0.5:
        return Seen(colour=None, shape=None, motion=None, background=background)
    colour = _colour(pictures_THWC[visible], mask_THW[visible])
    shapes = [_shape(cover) for cover in cover_THW[visible][:: max(1, visible.sum() // 24)]]
    counted = [shapes.count(shape) for shape in Shape]
    return Seen(
        colour=colour,
        shape=list(Shape)[int(np.argmax(counted))],
        motion=_motion(cover_THW[visible] * mask_THW[visible]),
        background=background,
    )


def _background(pictures_THWC: Pictures, mask_THW: NDArray[np.bool_]) -> Background | None:
    """Nearest of the world's backgrounds by the mean colours of the top and the bottom border."""
    rgb = pictures_THWC.astype(np.float32) / 255
    ends = []
    for rows in (slice(0, BORDER), slice(-BORDER, None)):
        free = ~mask_THW[:, rows]
        if not free.any():
            return None
        ends.append(rgb[:, rows][free].mean(0))
    distance = np.abs(world.BACKGROUNDS - np.stack(ends)).mean((1, 2))
    nearest = int(np.argmin(distance))
    return list(Background)[nearest] if distance[nearest] < 0.12 else None


def _colour(pictures_THWC: Pictures, mask_THW: NDArray[np.bool_]) -> Colour | None:
    """Nearest of six hues 60 degrees apart, by the mean colour of the object."""
    red, green, blue = (float(c) for c in pictures_THWC[mask_THW].astype(np.float32).mean(0) / 255)
    high, low = max(red, green, blue), min(red, green, blue)
    if high - low < 0.15:
        return None
    if high == red:
        hue = ((green - blue) / (high - low)) % 6
    elif high == green:
        hue = (blue - red) / (high - low) + 2
    else:
        hue = (red - green) / (high - low) + 4
    return list(Colour)[round(hue) % 6]


def _templates() -> dict[Shape, NDArray[np.float32]]:
    """Covers of the four shapes, cut to the object's own frame of 24 x 24."""
    made = {}
    for shape in Shape:
        scene = Scene(colour=Colour.RED, shape=shape, motion=Motion.RESTING, background=Background.FOG)
        picture = world.render(Clip(scene=scene, phase=0.0), 1)
        made[shape] = _normal_frame(object_cover((picture * 255).astype(np.uint8))[0])
    return made


def _normal_frame(cover_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cover resampled so that the object's bounding box fills 24 x 24."""
    rows = np.flatnonzero(cover_HW.max(1) > 0.5)
    columns = np.flatnonzero(cover_HW.max(0) > 0.5)
    if len(rows) < 2 or len(columns) < 2:
        return np.zeros((24, 24), np.float32)

    def lines(first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        at = np.linspace(first, last, 24)
        low = np.minimum(at.astype(np.int64), 62)
        return low, (at - low).astype(np.float32)

    (row, down), (column, right) = lines(int(rows[0]), int(rows[-1])), lines(int(columns[0]), int(columns[-1]))
    upper = cover_HW[row][:, column] * (1 - right) + cover_HW[row][:, column + 1] * right
    lower = cover_HW[row + 1][:, column] * (1 - right) + cover_HW[row + 1][:, column + 1] * right
    return np.asarray(upper * (1 - down[:, None]) + lower * down[:, None], dtype=np.float32)


def _shape(cover_HW: NDArray[np.float32]) -> Shape | None:
    """The template with the least absolute difference, if any is near."""
    frame = _normal_frame(cover_HW)
    difference = {shape: float(np.abs(frame - template).mean()) for shape, template in _TEMPLATES.items()}
    best = min(difference, key=lambda shape: difference[shape])
    return best if difference[best] < 0.3 else None


def _motion(cover_THW: NDArray[np.float32]) -> Motion:
    """From the spread of the object's centre (pixels) and of the square root of its area (relative) over time."""
    rows_H, columns_W = np.arange(cover_THW.shape[1]), np.arange(cover_THW.shape[2])
    area_T = cover_THW.sum((1, 2))
    x_T = (cover_THW.sum(1) * columns_W).sum(1) / area_T
    y_T = (cover_THW.sum(2) * rows_H).sum(1) / area_T
    spread_x, spread_y = float(x_T.std()), float(y_T.std())
    size_T = np.sqrt(area_T)
    if max(spread_x, spread_y) < 2.5:
        return Motion.PULSING if float(size_T.std() / size_T.mean()) > 0.07 else Motion.RESTING
    if spread_y < 0.4 * spread_x:
        return Motion.SWAYING
    if spread_x < 0.4 * spread_y:
        return Motion.BOBBING
    together = float(np.corrcoef(x_T, y_T)[0, 1])
    return Motion.SLIDING if together > 0.6 else Motion.CIRCLING


_TEMPLATES: Final = _templates()
