"""Judges videos of the pocket model by their decoded pixels alone: is the picture what the prompt says?

Shapes: T pictures, H rows, W columns, C = 3 colour channels.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocket import prompt, world
from pocket.world import Background, Clip, Colour, Motion, Scene, Shape

Pictures = NDArray[np.uint8]
_ATTRIBUTES: Final = ("colour", "shape", "motion", "background")
_CHROMA: Final = 0.32
_BORDER: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A prompt that takes effect at a picture."""

    picture: int
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One video to judge: prompts in order, the first at picture 0."""

    prompts: tuple[Timed, ...]
    pictures: int
    seed: int


Source = Callable[[Sequence[Request]], Sequence[Pictures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a piece of video shows; None where nothing can be told."""

    colour: Colour | None
    shape: Shape | None
    motion: Motion | None
    background: Background | None

    def matches(self, scene: Scene) -> dict[str, bool]:
        """For each attribute, whether it is the scene's."""
        return {name: getattr(self, name) == getattr(scene, name) for name in _ATTRIBUTES}


def object_cover(pictures_THWC: Pictures) -> NDArray[np.float32]:
    """How much of each pixel is the object [T, H, W], 0..1: its chroma relative to the picture's most colourful part."""
    rgb = pictures_THWC.astype(np.float32) / 255
    chroma_THW = rgb.max(-1) - rgb.min(-1)
    border = np.concatenate([chroma_THW[:, :_BORDER].reshape(len(rgb), -1), chroma_THW[:, -_BORDER:].reshape(len(rgb), -1)], 1)
    floor = np.median(border, axis=1)[:, None, None]
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
    for rows in (slice(0, _BORDER), slice(-_BORDER, None)):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is evaluated."""

    prompts: int
    seconds: float
    long_seconds: float
    seed: int


def evaluate(source: Source, plan: Plan) -> dict[str, object]:
    """Adherence over random prompts, after a cue, cue latency, and adherence per minute of one long stream per background."""
    rng = np.random.default_rng(plan.seed)
    plain = _plain(source, plan, rng)
    return {
        **plain,
        **_after_cues(source, plan, rng),
        **_drift(source, plan, rng),
        "prompts": plan.prompts,
        "seconds": plan.seconds,
        "fps": world.FPS,
    }


def _plain(source: Source, plan: Plan, rng: np.random.Generator) -> dict[str, object]:
    scenes = [world.random_scene(rng) for _ in range(plan.prompts)]
    count = round(plan.seconds * world.FPS)
    videos = source([_request([(0, scene)], count, plan.seed + n) for n, scene in enumerate(scenes)])
    right = [classify(video).matches(scene) for video, scene in zip(videos, scenes, strict=True)]
    return {name: _share(right, name) for name in _ATTRIBUTES}


def _after_cues(source: Source, plan: Plan, rng: np.random.Generator) -> dict[str, object]:
    """A cue in the middle of each video; judged from a second after it on."""
    count = max(1, plan.prompts // 2)
    block = max(3, round(plan.seconds * world.FPS / 24))
    cue, pictures = world.cue_picture(block), world.cue_picture(2 * block)
    pairs = []
    for _ in range(count):
        first = world.random_scene(rng)
        second = world.random_scene(rng)
        while second.background == first.background or second.colour == first.colour:
            second = world.random_scene(rng)
        pairs.append((first, second))
    requests = [_request([(0, a), (cue, b)], pictures, plan.seed + 1000 + n) for n, (a, b) in enumerate(pairs)]
    videos = source(requests)
    right = [
        classify(video[cue + world.FPS :]).matches(second) for video, (_, second) in zip(videos, pairs, strict=True)
    ]
    latencies = [visible_after_s(video, cue) for video in videos]
    known = [latency for latency in latencies if latency is not None]
    return {
        "after_cue": {name: _share(right, name) for name in _ATTRIBUTES},
        "cue_latency_s": round(float(np.median(known)), 3) if known else None,
    }


def visible_after_s(pictures_THWC: Pictures, cue: int) -> float | None:
    """Seconds of video from a cue's picture until a picture differs clearly from the second before the cue; None if none does.

    The measure is the mean colour over the border and over the object, which motion does not change.
    """
    cover_THW = object_cover(pictures_THWC) > 0.5
    rgb = pictures_THWC.astype(np.float32)
    signal = []
    for picture, cover in zip(rgb, cover_THW, strict=True):
        inside = picture[cover].mean(0) if cover.any() else np.zeros(3, np.float32)
        signal.append(np.concatenate([picture[:_BORDER].mean((0, 1)), picture[-_BORDER:].mean((0, 1)), inside]))
    before = np.stack(signal[max(0, cue - world.FPS) : cue])
    typical, wobble = before.mean(0), 3 * before.std(0) + 6
    for number in range(cue, len(signal)):
        if bool((np.abs(signal[number] - typical) > wobble).any()):
            return (number - cue + 1) / world.FPS
    return None


def _drift(source: Source, plan: Plan, rng: np.random.Generator) -> dict[str, object]:
    """Adherence per minute of long streams, judged in pieces of 5 s; drift is the last minute against the first, in points."""
    if plan.long_seconds <= 0:
        return {"drift_points": None, "by_minute": []}
    streams = len(Background)
    scenes = [world.random_scene(rng) for _ in range(streams)]
    pictures = round(plan.long_seconds * world.FPS)
    videos = source([_request([(0, scene)], pictures, plan.seed + 2000 + n) for n, scene in enumerate(scenes)])
    piece, minute = 5 * world.FPS, 60 * world.FPS
    table = []
    for start in range(0, pictures, minute):
        right = [
            classify(video[at : at + piece]).matches(scene)
            for video, scene in zip(videos, scenes, strict=True)
            for at in range(start, min(start + minute, pictures - piece + 1), piece)
        ]
        table.append({name: _share(right, name) for name in _ATTRIBUTES} if right else {})
    means = [100 * float(np.mean(list(row.values()))) for row in table if row]
    return {"drift_points": round(means[0] - means[-1], 2), "by_minute": table}


def _request(prompts: list[tuple[int, Scene]], pictures: int, seed: int) -> Request:
    timed = tuple(Timed(picture=at, prompt=prompt.sentence(scene)) for at, scene in prompts)
    return Request(prompts=timed, pictures=pictures, seed=seed)


def _share(right: list[dict[str, bool]], name: str) -> float:
    return round(float(np.mean([row[name] for row in right])), 4)
