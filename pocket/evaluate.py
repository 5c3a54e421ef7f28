"""Evaluates the pocket model by its pictures: `python -m pocket.evaluate --recipe clean --prompts 50 --json`.

Nothing from inside the model is read. A source makes videos, the judge says what they show, and `pocket.look` how.
"""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from longtake.core.recipe.context import Level
from longtake.recipes import find_recipe
from pocket import world
from pocket.drift import Course, Minute, Yardstick, courses, minutes_of, yardstick
from pocket.export import WEIGHTS
from pocket.judge import ATTRIBUTES, BORDER, Pictures, classify, object_cover
from pocket.look import PIECE_PICTURES
from pocket.served import AT_ONCE, recipes_server, served_source
from pocket.sources import Request, Source, Timed, sampler_source, world_source
from workers.models import pocket_text
from workers.models.pocket_text import Scene

log = logging.getLogger("pocket.evaluate")
LEAST_SHARE, MOST_DRIFT_POINTS = 0.95, 3.0
"""What a recipe must reach with each attribute, and may lose of them, to be called proven."""
_REPORTED: Final = ("color", "shape", "motion", "background")
"""The attributes as reports name them, in the judge's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """How much is evaluated."""

    prompts: int
    cues: int
    """Prompts that another one follows in the middle of its video."""
    seconds: float
    long_seconds: float
    streams: int
    """Of the long ones."""
    seed: int


def evaluate(source: Source, plan: EvaluationPlan) -> dict[str, Any]:
    """Adherence over random prompts and after a cue, cue latency, and adherence and looks by minute of long streams."""
    rng = np.random.default_rng(plan.seed)
    return {
        **(_plain(source, plan, rng) if plan.prompts else {}),
        **(_after_cues(source, plan, rng) if plan.cues else {}),
        **_long(source, plan),
        "prompts": plan.prompts,
        "cues": plan.cues,
        "seconds": plan.seconds,
        "fps": world.FPS,
    }


def _plain(source: Source, plan: EvaluationPlan, rng: np.random.Generator) -> dict[str, float]:
    scenes = [world.random_scene(rng) for _ in range(plan.prompts)]
    count = round(plan.seconds * world.FPS)
    videos = source([_request([(0, scene)], count, plan.seed + n) for n, scene in enumerate(scenes)])
    right = [classify(video).matches(scene) for video, scene in zip(videos, scenes, strict=True)]
    return _shares(right)


def _after_cues(source: Source, plan: EvaluationPlan, rng: np.random.Generator) -> dict[str, object]:
    """A cue in the middle of each video; judged from a second after it on."""
    block = max(3, round(plan.seconds * world.FPS / 24))
    cue, pictures = world.cue_picture(block), world.cue_picture(2 * block)
    pairs = []
    for _ in range(plan.cues):
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
        "after_cue": _shares(right),
        "cue_latency_s": round(float(np.median(known)), 3) if known else None,
    }


def visible_after_s(pictures_THWC: Pictures, cue: int) -> float | None:
    """Seconds of video from a cue's picture until one differs clearly from the second before it; None if none does.

    The measure is the mean colour over the border and over the object, which motion does not change.
    """
    cover_THW = object_cover(pictures_THWC) > 0.5
    rgb = pictures_THWC.astype(np.float32)
    signal = []
    for picture, cover in zip(rgb, cover_THW, strict=True):
        inside = picture[cover].mean(0) if cover.any() else np.zeros(3, np.float32)
        signal.append(np.concatenate([picture[:BORDER].mean((0, 1)), picture[-BORDER:].mean((0, 1)), inside]))
    before = np.stack(signal[max(0, cue - world.FPS) : cue])
    typical, wobble = before.mean(0), 3 * before.std(0) + 6
    for number in range(cue, len(signal)):
        if bool((np.abs(signal[number] - typical) > wobble).any()):
            return (number - cue + 1) / world.FPS
    return None


def _long(source: Source, plan: EvaluationPlan) -> dict[str, Any]:
    """Adherence and looks per minute of long streams, in pieces of 6 s; drift is the first minute minus the last.

    The scenes follow from the seed alone, so that recipes are compared over the same ones.
    """
    if plan.long_seconds <= 0:
        return {"drift_points": None, "by_minute": []}
    rng = np.random.default_rng([plan.seed, 2])
    scenes = [world.random_scene(rng) for _ in range(plan.streams)]
    pictures = round(plan.long_seconds * world.FPS)
    streams: list[list[Minute]] = []
    for at in range(0, plan.streams, AT_ONCE):  # so many have room in memory
        some = list(enumerate(scenes))[at : at + AT_ONCE]
        videos = source([_request([(0, scene)], pictures, plan.seed + 2000 + n) for n, scene in some])
        streams += [minutes_of(video, scene) for video, (_, scene) in zip(videos, some, strict=True)]
    table = [_shares([right for each in minute for right in each.right]) for minute in zip(*streams, strict=True)]
    means = [100 * float(np.mean(list(row.values()))) for row in table]
    return {
        "drift_points": round(means[0] - means[-1], 2),
        "by_minute": table,
        "looks": {name: _plainly(course) for name, course in courses(streams).items()},
        "pieces": sum(len(minute.right) for stream in streams for minute in stream),
        "pieces_without_object": sum(minute.lost for stream in streams for minute in stream),
        "long_streams": plan.streams,
        "long_seconds": plan.long_seconds,
    }


def _plainly(found: Course | Yardstick) -> dict[str, Any]:
    """As JSON has it, which knows no nan."""
    return {name: _number(value) for name, value in asdict(found).items()}


def _number(value: object) -> object:
    if isinstance(value, tuple):
        return [_number(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def is_proven(report: Mapping[str, Any]) -> bool:
    """Whether a report shows that prompts are followed and still are at the end of a long stream."""
    drift = report["drift_points"]
    adheres = all(report.get(name, 0.0) >= LEAST_SHARE for name in _REPORTED)
    return adheres and drift is not None and drift <= MOST_DRIFT_POINTS


def _request(prompts: list[tuple[int, Scene]], pictures: int, seed: int) -> Request:
    timed = tuple(Timed(picture=at, prompt=pocket_text.sentence(scene)) for at, scene in prompts)
    return Request(prompts=timed, pictures=pictures, seed=seed)


def _shares(right: list[dict[str, bool]]) -> dict[str, float]:
    """The share of right verdicts for each attribute."""
    return {
        told: round(float(np.mean([row[name] for row in right])), 4)
        for told, name in zip(_REPORTED, ATTRIBUTES, strict=True)
    }


def contact_sheet(source: Source, path: Path, seed: int) -> None:
    """Writes one picture: twelve random prompts, a row each, eight moments; a cue changes each prompt in the middle."""
    rng = np.random.default_rng(seed)
    block, count = 8, 8
    cue, pictures = world.cue_picture(block), world.cue_picture(2 * block)
    pairs = [(world.random_scene(rng), world.random_scene(rng)) for _ in range(12)]
    videos = source([_request([(0, a), (cue, b)], pictures, seed + n) for n, (a, b) in enumerate(pairs)])
    moments = np.linspace(6, pictures - 1, count).astype(int)
    frame = ((0, 0), (1, 1), (1, 1), (0, 0))
    rows = [np.concatenate(list(np.pad(video[moments], frame)), axis=1) for video in videos]
    sheet = np.concatenate([np.concatenate(rows[:6]), np.concatenate(rows[6:])], axis=1)
    Image.fromarray(sheet).resize((sheet.shape[1], sheet.shape[0])).save(path, optimize=True)


def main() -> None:
    """Command line; the reports go to standard output as JSON, each when it is made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="NAME", help="which recipe; repeatable; default: the server's"
    )
    parser.add_argument("--prompts", type=int, default=100, help="0: none")
    parser.add_argument("--cues", type=int, help="prompts with a cue in the middle; default: half as many")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--long-seconds", type=float, default=600.0, help="length of the drift streams; 0: none")
    parser.add_argument("--streams", type=int, default=4, help="how many of those")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--source", choices=["served", "sampler", "world", "autoencoder"], default="served",
        help="served: through a server; sampler: the model alone; world: what a perfect model would show; autoencoder: "
        "the scatter of that after encoding and decoding, and nothing else",
    )  # fmt: skip
    parser.add_argument("--server", help="HOST:PORT of a running server with the recipes; default: one is started")
    parser.add_argument("--codec", choices=["raw", "h264"], default="raw", help="for --source served")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="for --source sampler")
    parser.add_argument(
        "--level", type=Level, default=Level.OUTPUT, metavar="{clean,output,input}",
        help="for --source sampler: at which level the past is read",
    )  # fmt: skip
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG) of the first recipe here")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each recipe instead of indented text")
    options = parser.parse_args()
    if 0 < options.long_seconds < PIECE_PICTURES / world.FPS:
        parser.error(f"--long-seconds: allowed: 0, or {PIECE_PICTURES // world.FPS} and more")
    indent = None if options.json else 2
    if options.source == "autoencoder":
        found = {name: _plainly(each) for name, each in yardstick(options.seed).items()}
        sys.stdout.write(json.dumps({"yardstick": found}, indent=indent) + "\n")
        return
    plan = EvaluationPlan(
        prompts=options.prompts,
        cues=options.prompts // 2 if options.cues is None else options.cues,
        seconds=options.seconds,
        long_seconds=options.long_seconds,
        streams=options.streams,
        seed=options.seed,
    )
    with _sources(options) as sources:
        if options.sheet:
            contact_sheet(next(iter(sources.values())), options.sheet, options.seed)
        for recipe, source in sources.items():
            began_s = time.monotonic()
            report = evaluate(source, plan)
            took_s = round(time.monotonic() - began_s, 1)
            digest = find_recipe(recipe, field="--recipe").recipe.digest if recipe else ""
            told = {"recipe": recipe, "digest": digest} | report | {"proven": is_proven(report), "took_s": took_s}
            sys.stdout.write(json.dumps(told, indent=indent) + "\n")
            sys.stdout.flush()


@contextmanager
def _sources(options: argparse.Namespace) -> Iterator[dict[str, Source]]:
    """What is evaluated, by recipe; the model's own has no name."""
    recipes = options.recipe or [""]

    def served(server: str) -> dict[str, Source]:
        return {each: served_source(server, recipe=each, codec=options.codec) for each in recipes}

    match options.source:
        case "world":
            yield {"": world_source}
        case "sampler":
            yield {"": sampler_source(options.weights, options.level)}
        case _ if options.server:
            yield served(options.server)
        case _:
            with recipes_server([each for each in recipes if each], log.info) as server:
                yield served(server)


if __name__ == "__main__":
    main()
