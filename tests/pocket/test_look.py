"""The measures of how a video looks: each is moved by its own kind of change, and by no other."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest

from pocket import drift, look, world
from pocket.judge import Pictures
from pocket.look import PIECE_PICTURES, Deviation
from pocket.world import Clip
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

SCENES = (
    Scene(colour=Colour.RED, shape=Shape.BALL, motion=Motion.SWAYING, background=Background.FOG),
    Scene(colour=Colour.CYAN, shape=Shape.BOX, motion=Motion.CIRCLING, background=Background.NIGHT),
    Scene(colour=Colour.YELLOW, shape=Shape.TRIANGLE, motion=Motion.BOBBING, background=Background.SNOW),
    Scene(colour=Colour.BLUE, shape=Shape.RING, motion=Motion.PULSING, background=Background.DUSK),
)
LEAST = {"hue_deg": 2, "area_percent": 7, "edge_percent": 5, "chroma_percent": 3, "background_levels": 3}
"""What moves a measure by less has not moved it. An outline shrinks where it is blurred, above all that of a ring."""
Draw = Callable[[Clip], Pictures]


def drawn(clip: Clip) -> Pictures:
    return np.asarray((world.render(clip, PIECE_PICTURES) * 255).round().astype(np.uint8))


def blurred(clip: Clip) -> Pictures:
    """With a Gaussian of one pixel."""
    reach = np.arange(-5, 6)
    weights = np.exp(-(reach**2) / 2)
    pictures = drawn(clip).astype(np.float32)
    for axis in (1, 2):
        width = [(0, 0)] * 4
        width[axis] = (5, 5)
        padded = np.pad(pictures, width, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 11, axis=axis)
        pictures = windows @ (weights / weights.sum()).astype(np.float32)
    return np.asarray(pictures.round().astype(np.uint8))


def of_another_hue(clip: Clip) -> Pictures:
    """The object is turned by 12 degrees, its lightness and chroma are as they were."""
    colours = np.array([colorsys.hsv_to_rgb((h + 12 / 360) % 1, s, v) for h, s, v in HSV], np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "COLOURS", colours)
        return drawn(clip)


HSV = [colorsys.rgb_to_hsv(*map(float, colour)) for colour in world.COLOURS]


def shrunk(clip: Clip) -> Pictures:
    """The object has nine tenths of its size, its outline is as sharp."""
    track = world.track

    def smaller(clip: Clip, pictures: int) -> world.Track:
        usual = track(clip, pictures)
        return replace(usual, scale_T=usual.scale_T * np.float32(0.9))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "track", smaller)
        return drawn(clip)


def faded(clip: Clip) -> Pictures:
    """Everything has nine tenths of its chroma."""
    pictures = drawn(clip).astype(np.float32)
    high = pictures.max(-1, keepdims=True)
    return np.asarray((high - (high - pictures) * 0.9).round().astype(np.uint8))


def lighter(clip: Clip) -> Pictures:
    """By eight levels, everywhere."""
    return np.asarray(np.clip(drawn(clip).astype(np.int64) + 8, 0, 255).astype(np.uint8))


def seen(draw: Draw, scene: Scene, phase: float = 0.2) -> Deviation:
    found = look.look_at(draw(Clip(scene=scene, phase=phase)))
    assert found is not None
    return look.deviation(found, scene)


@pytest.mark.parametrize("scene", SCENES, ids=[scene.shape.value for scene in SCENES])
@pytest.mark.parametrize(
    ("draw", "measure", "expected", "within"),
    [
        (of_another_hue, "hue_deg", 12, 0.5),
        (shrunk, "area_percent", -19, 3),
        (blurred, "edge_percent", 28, 8),
        (faded, "chroma_percent", -10, 0.7),
        (lighter, "background_levels", 8, 0.5),
    ],
)
def test_a_change_moves_its_own_measure_and_no_other(
    draw: Draw, measure: str, expected: float, within: float, scene: Scene
) -> None:
    found = asdict(seen(draw, scene))
    assert found.pop(measure) == pytest.approx(expected, abs=within)
    assert {name: value for name, value in found.items() if abs(value) >= LEAST[name]} == {}


@pytest.mark.parametrize("scene", SCENES, ids=[scene.shape.value for scene in SCENES])
def test_the_phase_moves_nothing(scene: Scene) -> None:
    for phase in (0.0, 1.1, 4.0):
        found = asdict(seen(drawn, scene, phase))
        assert all(abs(value) < LEAST[name] / 8 for name, value in found.items()), found


def test_hues_on_both_sides_of_red_are_near() -> None:
    scene = SCENES[0]
    red = look.look_at(drawn(Clip(scene=scene, phase=0.2)))
    assert red is not None
    beyond = look.deviation(replace(red, hue_deg=(red.hue_deg - 4) % 360), scene)
    assert beyond.hue_deg == pytest.approx(-4, abs=0.1)


def test_without_an_object_there_is_no_look() -> None:
    assert look.look_at(np.full((PIECE_PICTURES, 64, 64, 3), 137, np.uint8)) is None


@pytest.mark.slow
def test_the_autoencoder_softens_outlines_and_leaves_the_rest_nearly_as_it_is() -> None:
    told = drift.yardstick(0, scenes=2)
    assert told["edge_percent"].mean > LEAST["edge_percent"]
    assert abs(told["background_levels"].mean) < LEAST["background_levels"]
    assert all(each.repeat > 0 and each.scatter > 0 for each in told.values())
