"""The judge: right on the world's own pictures after the codec, and able to say that a picture is wrong."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pocket import evaluate, judge, sources, world
from pocket.judge import Pictures
from pocket.served import decoded
from pocket.world import Change, Clip
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

PERIOD = world.PERIOD_PICTURES


def _pictures(clip: Clip, count: int) -> Pictures:
    return (world.render(clip, count) * 255).round().astype(np.uint8)


def _through_h264(pictures: Pictures, path: Path) -> Pictures:
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=Fraction(world.FPS), options={"crf": "20", "preset": "veryfast"})
        stream.width = stream.height = world.SIZE
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        box.mux(stream.encode())
    return decoded(path.read_bytes())


@pytest.mark.parametrize("start", range(6))
def test_every_scene_is_told_from_its_pictures(start: int) -> None:
    rng = np.random.default_rng(start)
    for scene in world.all_scenes()[start::6]:
        seen = judge.classify(_pictures(Clip(scene=scene, phase=float(rng.uniform(0, 6.28))), PERIOD))
        assert all(seen.matches(scene).values()), (scene, seen)


def test_the_codec_does_not_change_the_verdict(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for _ in range(24):
        scene = world.random_scene(rng)
        pictures = _pictures(Clip(scene=scene, phase=float(rng.uniform(0, 6.28))), PERIOD)
        seen = judge.classify(_through_h264(pictures, tmp_path / "clip.mp4"))
        assert all(seen.matches(scene).values()), (scene, seen)


RED_BALL = Scene(colour=Colour.RED, shape=Shape.BALL, motion=Motion.SWAYING, background=Background.FOG)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("colour", replace(RED_BALL, colour=Colour.GREEN)),
        ("shape", replace(RED_BALL, shape=Shape.RING)),
        ("motion", replace(RED_BALL, motion=Motion.CIRCLING)),
        ("background", replace(RED_BALL, background=Background.SNOW)),
    ],
)
def test_a_wrong_attribute_is_seen(wrong: str, shown: Scene) -> None:
    verdict = judge.classify(_pictures(Clip(scene=shown, phase=0.5), PERIOD)).matches(RED_BALL)
    assert [name for name, right in verdict.items() if not right] == [wrong]


def test_no_object_is_no_colour_shape_or_motion() -> None:
    flat = np.full((PERIOD, 64, 64, 3), 137, np.uint8)
    seen = judge.classify(flat)
    assert (seen.colour, seen.shape, seen.motion) == (None, None, None)
    assert seen.background is Background.FOG
    noise = np.random.default_rng(0).integers(0, 255, (PERIOD, 64, 64, 3)).astype(np.uint8)
    assert judge.classify(noise).background is not Background.NIGHT


def test_a_cue_is_seen_when_it_shows_and_not_before() -> None:
    first = Scene(colour=Colour.RED, shape=Shape.BALL, motion=Motion.SWAYING, background=Background.FOG)
    second = replace(first, colour=Colour.CYAN, background=Background.NIGHT)
    cue = world.cue_picture(5)
    changed = _pictures(Clip(scene=first, phase=0.2, changes=(Change(picture=cue, scene=second),)), cue + 30)
    latency_s = evaluate.visible_after_s(changed, cue)
    assert latency_s is not None
    assert 0 < latency_s < 0.5
    assert evaluate.visible_after_s(_pictures(Clip(scene=first, phase=0.2), cue + 30), cue) is None


def test_evaluation_of_the_world_itself_is_perfect() -> None:
    plan = evaluate.EvaluationPlan(prompts=6, seconds=6, long_seconds=10, seed=1)
    report = evaluate.evaluate(sources.world_source, plan)
    assert [report[name] for name in ("color", "shape", "motion", "background")] == [1, 1, 1, 1]
    assert report["after_cue"] == {"color": 1, "shape": 1, "motion": 1, "background": 1}
    assert report["drift_points"] == 0
    assert isinstance(report["cue_latency_s"], float)
    assert report["cue_latency_s"] < 0.8
