"""The world: what a prompt means in pictures, and how it changes at a cue."""

import numpy as np
import pytest

from pocket import world
from pocket.world import Change, Clip
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

RED_BALL = Scene(colour=Colour.RED, shape=Shape.BALL, motion=Motion.SWAYING, background=Background.FOG)
BLUE_RING = Scene(colour=Colour.BLUE, shape=Shape.RING, motion=Motion.BOBBING, background=Background.SNOW)


def test_blocks_start_where_the_autoencoder_puts_them() -> None:
    assert [world.cue_picture(block) for block in range(4)] == [0, 9, 21, 33]


def test_a_cue_keeps_the_position_continuous_and_is_done_within_a_second() -> None:
    cue = world.cue_picture(3)
    before = Clip(scene=RED_BALL, phase=1.0)
    changed = Clip(scene=RED_BALL, phase=1.0, changes=(Change(picture=cue, scene=BLUE_RING),))
    drawn = world.track(changed, 80)
    jumps = np.linalg.norm(np.diff(drawn.centre_T2, axis=0), axis=1)
    assert jumps.max() < 4
    assert np.array_equal(world.render(changed, cue), world.render(before, cue))
    after = Clip(scene=BLUE_RING, phase=1.0)
    done = cue + world.FPS
    assert np.array_equal(world.render(changed, 80, first=done), world.render(after, 80, first=done))
    assert np.abs(world.render(changed, cue + 6)[-1] - world.render(before, cue + 6)[-1]).max() > 0.1


def test_an_instant_jump_would_be_noticed() -> None:
    x = world.track(Clip(scene=RED_BALL, phase=1.0), 60).centre_T2.copy()
    x[30:] = world.track(Clip(scene=BLUE_RING, phase=1.0), 60).centre_T2[30:]
    assert np.linalg.norm(np.diff(x, axis=0), axis=1).max() > 4


@pytest.mark.parametrize("motion", Motion)
def test_every_motion_repeats_after_its_period_and_stays_in_the_picture(motion: Motion) -> None:
    scene = Scene(colour=Colour.CYAN, shape=Shape.BOX, motion=motion, background=Background.NIGHT)
    drawn = world.track(Clip(scene=scene, phase=0.3), 2 * world.PERIOD_PICTURES)
    np.testing.assert_allclose(drawn.centre_T2[:48], drawn.centre_T2[48:], atol=1e-3)
    assert np.abs(drawn.centre_T2 - world.CENTRE).max() + world.RADIUS < world.SIZE / 2
    assert (np.ptp(drawn.centre_T2, axis=0).max() > 5) == (motion not in (Motion.PULSING, Motion.RESTING))
    assert (np.ptp(drawn.scale_T) > 0.3) == (motion is Motion.PULSING)


def test_pictures_are_colours_between_zero_and_one() -> None:
    pictures = world.render(Clip(scene=BLUE_RING, phase=2.0), 5)
    assert pictures.shape == (5, 64, 64, 3)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1


def test_there_are_576_scenes() -> None:
    assert len(set(world.all_scenes())) == 6 * 4 * 6 * 4
