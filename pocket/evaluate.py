"""Evaluates the pocket model by its pictures: `python -m pocket.evaluate --prompts 100 --seconds 20 --json`.

Nothing from inside the model is read. A source makes videos, the judge looks at them.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from longtake.cli.local_server import local_server
from longtake.core.recipe.context import Level
from pocket import world
from pocket.export import WEIGHTS
from pocket.judge import ATTRIBUTES, BORDER, Pictures, classify, object_cover
from pocket.served import served_source
from pocket.sources import Request, Source, Timed, sampler_source, world_source
from workers.models import pocket_text
from workers.models.pocket_text import Background, Scene

log = logging.getLogger("pocket.evaluate")
_PIECE_S: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """How much is evaluated."""

    prompts: int
    seconds: float
    long_seconds: float
    seed: int


def evaluate(source: Source, plan: EvaluationPlan) -> dict[str, object]:
    """Adherence over random prompts and after a cue, cue latency, and adherence per minute of long streams."""
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


def _plain(source: Source, plan: EvaluationPlan, rng: np.random.Generator) -> dict[str, float]:
    scenes = [world.random_scene(rng) for _ in range(plan.prompts)]
    count = round(plan.seconds * world.FPS)
    videos = source([_request([(0, scene)], count, plan.seed + n) for n, scene in enumerate(scenes)])
    right = [classify(video).matches(scene) for video, scene in zip(videos, scenes, strict=True)]
    return _shares(right)


def _after_cues(source: Source, plan: EvaluationPlan, rng: np.random.Generator) -> dict[str, object]:
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


def _drift(source: Source, plan: EvaluationPlan, rng: np.random.Generator) -> dict[str, object]:
    """Adherence per minute of long streams, in pieces of 5 s; drift is the first minute minus the last, in points."""
    if plan.long_seconds <= 0:
        return {"drift_points": None, "by_minute": []}
    streams = len(Background)
    scenes = [world.random_scene(rng) for _ in range(streams)]
    pictures = round(plan.long_seconds * world.FPS)
    videos = source([_request([(0, scene)], pictures, plan.seed + 2000 + n) for n, scene in enumerate(scenes)])
    piece, minute = _PIECE_S * world.FPS, 60 * world.FPS
    table = []
    for start in range(0, pictures, minute):
        right = [
            classify(video[at : at + piece]).matches(scene)
            for video, scene in zip(videos, scenes, strict=True)
            for at in range(start, min(start + minute, pictures - piece + 1), piece)
        ]
        table.append(_shares(right) if right else {})
    means = [100 * float(np.mean(list(row.values()))) for row in table if row]
    return {"drift_points": round(means[0] - means[-1], 2), "by_minute": table}


def _request(prompts: list[tuple[int, Scene]], pictures: int, seed: int) -> Request:
    timed = tuple(Timed(picture=at, prompt=pocket_text.sentence(scene)) for at, scene in prompts)
    return Request(prompts=timed, pictures=pictures, seed=seed)


def _shares(right: list[dict[str, bool]]) -> dict[str, float]:
    """The share of right verdicts for each attribute."""
    names = {"colour": "color"}
    return {names.get(name, name): round(float(np.mean([row[name] for row in right])), 4) for name in ATTRIBUTES}


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
    """Command line; the report goes to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--long-seconds", type=float, default=600.0, help="length of the drift streams; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--source", choices=["served", "sampler", "world"], default="served",
        help="served: through a server and H.264; sampler: the model alone; world: what a perfect model would show",
    )  # fmt: skip
    parser.add_argument("--server", help="HOST:PORT of a running server; default: one is started")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="for --source sampler")
    parser.add_argument(
        "--level", type=Level, default=Level.OUTPUT, metavar="{clean,output,input}",
        help="for --source sampler: at which level the past is read",
    )  # fmt: skip
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG) here")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of indented text")
    options = parser.parse_args()
    with _source(options) as source:
        if options.sheet:
            contact_sheet(source, options.sheet, options.seed)
        plan = EvaluationPlan(
            prompts=options.prompts, seconds=options.seconds, long_seconds=options.long_seconds, seed=options.seed
        )
        sys.stdout.write(json.dumps(evaluate(source, plan), indent=None if options.json else 2) + "\n")


@contextmanager
def _source(options: argparse.Namespace) -> Iterator[Source]:
    match options.source:
        case "world":
            yield world_source
        case "sampler":
            yield sampler_source(options.weights, options.level)
        case _ if options.server:
            yield served_source(options.server)
        case _:
            with local_server(log.info) as server:
                yield served_source(server)


if __name__ == "__main__":
    main()
