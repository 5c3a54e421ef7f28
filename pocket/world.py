"""The procedural world of the pocket model: one softly lit object that moves over a plain background.

Everything a picture shows follows from the prompt's four attributes, the time and one hidden number, the phase at
picture 0.
Shapes: T pictures, H rows, W columns, C = 3 colour channels (red, green, blue).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from workers.models.pocket_text import Array, Background, Colour, Motion, Scene, Shape

SIZE: Final = 64
FPS: Final = 16
PERIOD_PICTURES: Final = 48
TRANSITION_PICTURES: Final = 12
RADIUS: Final = 14.0
CENTRE: Final = (SIZE - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From `picture` on the world turns into `scene`, within TRANSITION_PICTURES."""

    picture: int
    scene: Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A scene, its later changes (ascending) and the phase in radians at picture 0."""

    scene: Scene
    phase: float
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is drawn, per picture: weights of the kinds (rows sum to 1), centre in pixels, radius factor."""

    colour_TK: Array
    shape_TK: Array
    background_TK: Array
    centre_T2: Array
    scale_T: Array


COLOURS: Final = np.array(
    [(232, 38, 34), (228, 208, 30), (38, 200, 52), (30, 204, 212), (40, 64, 232), (222, 40, 208)], np.float32
) / np.float32(255)
# Top and bottom of each background's vertical gradient.
BACKGROUNDS: Final = np.array(
    [[(20, 22, 32), (38, 40, 54)], [(124, 130, 134), (146, 150, 152)], [(236, 240, 244), (216, 222, 228)],
     [(74, 66, 94), (178, 142, 124)]], np.float32
) / np.float32(255)  # fmt: skip
# Offsets as (x cosine, x sine, y cosine, y sine) amplitudes in pixels, and the radius' relative sine amplitude.
_MOVES: Final = np.array(
    [[0, 14, 0, 0, 0], [0, 0, 0, 14, 0], [0, 11, 0, 11, 0], [12, 0, 0, 12, 0], [0, 0, 0, 0, 0.32], [0, 0, 0, 0, 0]],
    np.float32,
)


def cue_picture(block: int) -> int:
    """The first picture of a block of three latent frames: the first of a stream is one picture, every other four."""
    return max(0, 12 * block - 3)


def track(clip: Clip, pictures: int) -> Track:
    """What `pictures` pictures show, with every change eased over TRANSITION_PICTURES."""
    time_T = np.arange(pictures, dtype=np.float32)
    colour_TK = _weights(list(Colour), [clip.scene.colour, *(c.scene.colour for c in clip.changes)], clip, time_T)
    shape_TK = _weights(list(Shape), [clip.scene.shape, *(c.scene.shape for c in clip.changes)], clip, time_T)
    back_TK = _weights(
        list(Background), [clip.scene.background, *(c.scene.background for c in clip.changes)], clip, time_T
    )
    move_TK = _weights(list(Motion), [clip.scene.motion, *(c.scene.motion for c in clip.changes)], clip, time_T)
    angle_T = (clip.phase + 2 * math.pi * time_T / PERIOD_PICTURES).astype(np.float32)
    cos_T, sin_T = np.cos(angle_T), np.sin(angle_T)
    amplitude_T5 = move_TK @ _MOVES
    x_T = CENTRE + amplitude_T5[:, 0] * cos_T + amplitude_T5[:, 1] * sin_T
    y_T = CENTRE + amplitude_T5[:, 2] * cos_T + amplitude_T5[:, 3] * sin_T
    return Track(
        colour_TK=colour_TK,
        shape_TK=shape_TK,
        background_TK=back_TK,
        centre_T2=np.stack([x_T, y_T], axis=1).astype(np.float32),
        scale_T=(1 + amplitude_T5[:, 4] * sin_T).astype(np.float32),
    )


def render(clip: Clip, pictures: int, first: int = 0) -> Array:
    """Draws pictures first .. pictures-1 of a clip: float32 [T, H, W, C] in 0..1."""
    drawn = track(clip, pictures)
    keep = slice(first, pictures)
    rows_HW, columns_HW = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    scale_T11 = drawn.scale_T[keep, None, None]
    # Everything is drawn in the object's own frame, where its radius is RADIUS.
    u_THW = (columns_HW - drawn.centre_T2[keep, 0, None, None]) / scale_T11
    v_THW = (rows_HW - drawn.centre_T2[keep, 1, None, None]) / scale_T11
    distance_THW = _distance(u_THW, v_THW, drawn.shape_TK[keep]) * scale_T11
    cover_THW = np.clip(0.5 - distance_THW / 2.0, 0, 1)
    shadow_THW = 0.3 / (1 + np.exp(np.clip((np.hypot(u_THW - 2, v_THW - 5) - RADIUS) / 2.5, -20, 20)))
    light_THW = np.clip(0.9 - (0.08 * u_THW + 0.14 * v_THW) / RADIUS, 0, 1)
    height_H1 = (rows_HW[:, :1] / (SIZE - 1)).astype(np.float32)
    ends_T2C = np.einsum("tk,kec->tec", drawn.background_TK[keep], BACKGROUNDS)
    back_TH1C = ends_T2C[:, None, 0] * (1 - height_H1) + ends_T2C[:, None, 1] * height_H1
    back_THWC = back_TH1C[:, :, None] * (1 - shadow_THW[..., None])
    object_THWC = (drawn.colour_TK[keep] @ COLOURS)[:, None, None] * light_THW[..., None]
    picture = back_THWC + (object_THWC - back_THWC) * cover_THW[..., None]
    return np.asarray(picture, dtype=np.float32)


def all_scenes() -> list[Scene]:
    """Every combination of the attributes."""
    return [
        Scene(colour=c, shape=s, motion=m, background=b)
        for c in Colour
        for s in Shape
        for m in Motion
        for b in Background
    ]


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene with independent, uniform attributes."""
    return Scene(
        colour=list(Colour)[rng.integers(len(Colour))],
        shape=list(Shape)[rng.integers(len(Shape))],
        motion=list(Motion)[rng.integers(len(Motion))],
        background=list(Background)[rng.integers(len(Background))],
    )


def _weights(kinds: list[Colour] | list[Shape] | list[Motion] | list[Background], values: list[StrEnum], clip: Clip,
             time_T: Array) -> Array:  # fmt: skip
    """Weights of the kinds over time: each change blends what is shown then into its own value."""
    names = [kind.value for kind in kinds]
    one_hot = np.eye(len(names), dtype=np.float32)
    weights_TK = np.repeat(one_hot[names.index(values[0].value)][None], len(time_T), axis=0)
    for change, value in zip(clip.changes, values[1:], strict=True):
        eased_T1 = _ease((time_T - np.float32(change.picture - 1)) / np.float32(TRANSITION_PICTURES))[:, None]
        weights_TK = weights_TK * (1 - eased_T1) + one_hot[names.index(value.value)] * eased_T1
    return np.asarray(weights_TK, dtype=np.float32)


def _ease(progress: Array) -> Array:
    p = np.clip(progress, 0, 1)
    return np.asarray(p * p * (3 - 2 * p), dtype=np.float32)


def _distance(u_THW: Array, v_THW: Array, shape_TK: Array) -> Array:
    """Signed distance to the outline in pixels, negative inside; kinds blend by their weights."""
    total_THW = np.zeros_like(u_THW)
    for kind, shape in enumerate(Shape):
        weight_T = shape_TK[:, kind]
        used = np.flatnonzero(weight_T > 0)
        if len(used):
            total_THW[used] += weight_T[used, None, None] * _outline(shape, u_THW[used], v_THW[used])
    return total_THW


def _outline(shape: Shape, u: Array, v: Array) -> Array:
    match shape:
        case Shape.BALL:
            return np.asarray(np.hypot(u, v) - RADIUS, dtype=np.float32)
        case Shape.RING:
            return np.asarray(np.abs(np.hypot(u, v) - 11.5) - 4.0, dtype=np.float32)
        case Shape.BOX:
            du, dv = np.abs(u) - 12.0, np.abs(v) - 12.0
            outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
            return np.asarray(outside + np.minimum(np.maximum(du, dv), 0) - 1.0, dtype=np.float32)
        case Shape.TRIANGLE:
            # Three half planes at 120 degrees, point up; a little rounded because corners would be high frequencies.
            side = math.sqrt(3) / 2
            edges = np.maximum(np.maximum(side * u - 0.5 * (v - 3), -side * u - 0.5 * (v - 3)), v - 3)
            return np.asarray(edges - 8.5, dtype=np.float32)
