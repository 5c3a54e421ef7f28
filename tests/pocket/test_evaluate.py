"""The judge: right on the world's own pictures after the codec, and able to say that a picture is wrong."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.core.recipe.table import Quality
from longtake.recipes import shipped
from pocket import drift, evaluate, judge, sources, world
from pocket.judge import Pictures
from pocket.look import PIECE_PICTURES
from pocket.served import decoded, recipes_server, served_source
from pocket.sources import Request, Timed
from pocket.world import Change, Clip
from tests.samples import first
from workers.models import pocket_text
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape

PERIOD = world.PERIOD_PICTURES
EVALUATION = Path(__file__).parents[2] / "docs/recipe_evaluation.json"
SMALL = {"hue_deg": 0.1, "area_percent": 0.5, "edge_percent": 1.0, "chroma_percent": 0.5, "background_levels": 0.5}
"""By so much, and less, one scene differs from itself in another phase."""


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


@pytest.mark.parametrize("start", first(1, range(7)))
def test_every_scene_is_told_from_its_pictures(start: int) -> None:
    rng = np.random.default_rng(start)
    for scene in world.all_scenes()[start::7]:  # every seventh has every pair of two attributes
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
    plan = evaluate.EvaluationPlan(prompts=6, cues=3, seconds=6, long_seconds=66, streams=2, seed=1)
    report = evaluate.evaluate(sources.world_source, plan)
    assert [report[name] for name in ("color", "shape", "motion", "background")] == [1, 1, 1, 1]
    assert report["after_cue"] == {"color": 1, "shape": 1, "motion": 1, "background": 1}
    assert report["drift_points"] == 0
    assert isinstance(report["cue_latency_s"], float)
    assert report["cue_latency_s"] < 0.8
    assert len(report["by_minute"]) == 2 and report["pieces"] == 2 * 11 and report["pieces_without_object"] == 0
    for name, told in report["looks"].items():
        assert len(told["by_minute"]) == len(told["spread"]) == 2
        assert abs(told["drift"]) < SMALL[name] and told["largest"] < SMALL[name], name
    assert evaluate.is_proven(report)


@pytest.mark.parametrize("change", [{"motion": 0.94}, {"drift_points": 3.5}, {"drift_points": None}])
def test_what_falls_short_in_one_thing_is_not_proven(change: dict[str, float]) -> None:
    report = {"color": 0.95, "shape": 1.0, "motion": 1.0, "background": 1.0, "drift_points": 3.0}
    assert evaluate.is_proven(report)
    assert not evaluate.is_proven(report | change)


def test_a_stream_that_fades_away_drifts_in_that_and_is_told_by_minute() -> None:
    """Too light throughout is no drift; the second minute has nine tenths of the chroma, its last piece no object."""
    scene = Scene(colour=Colour.GREEN, shape=Shape.BALL, motion=Motion.SWAYING, background=Background.FOG)
    pictures = _pictures(Clip(scene=scene, phase=0.1), 2 * drift.MINUTE_PICTURES) + np.uint8(8)
    rgb = pictures[drift.MINUTE_PICTURES :].astype(np.float32)
    high = rgb.max(-1, keepdims=True)
    pictures[drift.MINUTE_PICTURES :] = (high - (high - rgb) * 0.9).round().astype(np.uint8)
    pictures[-PIECE_PICTURES:] = 137
    minutes = drift.minutes_of(pictures, scene)
    assert [(len(each.right), each.lost) for each in minutes] == [(10, 0), (10, 1)]
    assert not any(minutes[1].right[-1][name] for name in ("colour", "shape", "motion"))
    told = drift.courses([minutes, minutes])
    assert told["chroma_percent"].drift == pytest.approx(-10, abs=0.5) == -told["chroma_percent"].size
    assert told["chroma_percent"].drift_spread == 0
    assert told["background_levels"].by_minute == pytest.approx((8, 8), abs=0.5)
    assert all(abs(told[name].drift) < SMALL[name] for name in SMALL if name != "chroma_percent")


def test_a_recipe_says_proven_only_where_the_judge_has_seen_it() -> None:
    reports = {report["recipe"]: report for report in json.loads(EVALUATION.read_text())["recipes"]}
    assert all(report["proven"] == evaluate.is_proven(report) for report in reports.values())
    said = {name for name, each in shipped().items() if each.quality is Quality.PROVEN}
    assert said - {name for name, report in reports.items() if report["proven"]} == set()
    assert all(reports[name]["digest"] == shipped()[name].recipe.digest for name in said), "it was another recipe"
    assert all(reports[name]["long_seconds"] == 600 and reports[name]["prompts"] >= 12 for name in said)


@pytest.mark.slow
def test_recipes_are_judged_through_a_server_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = Timed(picture=0, prompt="a green ring swaying at dusk")
    request = Request(prompts=(prompt,), pictures=PIECE_PICTURES, seed=5)
    with recipes_server(["clean", "two-step"], print) as server:
        (one,), (other,) = (served_source(server, recipe=name)([request]) for name in ("clean", "two-step"))
    assert "ready: pocket" in capsys.readouterr().out
    assert one.shape == other.shape == (PIECE_PICTURES, 64, 64, 3) and not np.array_equal(one, other)
    for video in (one, other):
        assert all(judge.classify(video).matches(pocket_text.parse(prompt.prompt).scene).values())
