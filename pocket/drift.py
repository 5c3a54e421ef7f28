"""Long streams minute by minute: what the judge says, and how the pictures look against the world's own.

The yardstick is the world itself, drawn, encoded and decoded again by the pocket's autoencoder: what a perfect model
would serve. Its scatter says which difference of a measure is one.

Shapes: T pictures, H rows, W columns, C = 3 colour channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pocket import look, world
from pocket.data import to_pixels
from pocket.export import WEIGHTS
from pocket.judge import Pictures, classify
from pocket.look import MEASURES, PIECE_PICTURES, Deviation
from pocket.train_vae import Autoencoder, load_autoencoder
from pocket.world import Clip
from workers.models.pocket_text import Scene

MINUTE_PICTURES: Final = 60 * world.FPS
_SCENES, _PHASES = 24, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """A minute of one stream, or what there is of its last one."""

    right: tuple[dict[str, bool], ...]
    """The judge's verdicts, a piece each."""
    looks: Deviation | None
    """The mean of its pieces; None if in none of them an object is to be seen."""
    lost: int
    """Pieces in which none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One measure over the minutes of several streams: deviations from the world's own pictures; nan: no object."""

    by_minute: tuple[float, ...]
    """The mean over the streams."""
    spread: tuple[float, ...]
    """Their standard deviation."""
    drift: float
    """A stream's last minute less its first, the mean over the streams."""
    drift_spread: float
    """The standard deviation of that."""
    size: float
    """The mean of its absolute value: streams may drift to different sides."""
    largest: float
    """The most that any minute of any stream differs from the first of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """One measure of what a perfect model would serve: deviations from the world's own pictures as drawn."""

    mean: float
    """What the autoencoder does to all scenes."""
    scatter: float
    """How scenes differ in that: standard deviation."""
    repeat: float
    """How pieces of one scene differ that begin at other phases: standard deviation."""


def minutes_of(video_THWC: Pictures, scene: Scene) -> list[Minute]:
    """The minutes of a stream that is to show `scene` from its beginning; it must have a piece at least."""
    minutes = []
    for start in range(0, len(video_THWC) - PIECE_PICTURES + 1, MINUTE_PICTURES):
        end = min(start + MINUTE_PICTURES, len(video_THWC))
        pieces = [video_THWC[at : at + PIECE_PICTURES] for at in range(start, end - PIECE_PICTURES + 1, PIECE_PICTURES)]
        seen = [look.look_at(piece) for piece in pieces]
        deviations = [look.deviation(each, scene) for each in seen if each is not None]
        minutes.append(
            Minute(
                right=tuple(classify(piece).matches(scene) for piece in pieces),
                looks=look.mean(deviations) if deviations else None,
                lost=len(pieces) - len(deviations),
            )
        )
    return minutes


def courses(streams: Sequence[Sequence[Minute]]) -> dict[str, Course]:
    """The course of each measure over the minutes of streams, which have as many each."""
    values_SMV = np.array([[_row(minute) for minute in stream] for stream in streams])
    since_SMV = values_SMV - values_SMV[:, :1]
    return {
        name: Course(
            by_minute=_rounded(np.nanmean(values_SMV[:, :, at], axis=0)),
            spread=_rounded(np.nanstd(values_SMV[:, :, at], axis=0)),
            drift=_round(np.nanmean(since_SMV[:, -1, at])),
            drift_spread=_round(np.nanstd(since_SMV[:, -1, at])),
            size=_round(np.nanmean(np.abs(since_SMV[:, -1, at]))),
            largest=_round(np.nanmax(np.abs(since_SMV[:, :, at]))),
        )
        for at, name in enumerate(MEASURES)
    }


def yardstick(seed: int, *, scenes: int = _SCENES, vae: Path = WEIGHTS / "vae.safetensors") -> dict[str, Yardstick]:
    """What the world's own pictures have of each measure after the autoencoder, over random scenes and phases."""
    model, rng = load_autoencoder(vae), np.random.default_rng([seed, 3])
    rows = []
    for _ in range(scenes):
        scene = world.random_scene(rng)
        clips = [Clip(scene=scene, phase=float(phase)) for phase in rng.uniform(0, 2 * np.pi, _PHASES)]
        seen = [look.look_at(_through(model, clip)) for clip in clips]
        rows.append([astuple(look.deviation(each, scene)) for each in seen if each is not None])
    values_NPV = np.array(rows)
    return {
        name: Yardstick(
            mean=_round(values_NPV[:, :, at].mean()),
            scatter=_round(values_NPV[:, :, at].mean(1).std()),
            repeat=_round(np.sqrt(values_NPV[:, :, at].var(1, ddof=1).mean())),
        )
        for at, name in enumerate(MEASURES)
    }


@torch.no_grad()
def _through(model: Autoencoder, clip: Clip) -> Pictures:
    """A piece of a clip, encoded and decoded; of the picture with which it begins nothing is kept."""
    pixels_BCTHW = to_pixels(world.render(clip, 1 + PIECE_PICTURES))[None]
    made = model.decoder_half(model.encoder_half(pixels_BCTHW)[0])[0, :, 1:]
    return np.asarray(((made.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 3, 0).numpy().astype(np.uint8))


def _row(minute: Minute) -> tuple[float, ...]:
    return (np.nan,) * len(MEASURES) if minute.looks is None else astuple(minute.looks)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(_round(value) for value in values)


def _round(value: float) -> float:
    return round(float(value), 3)
