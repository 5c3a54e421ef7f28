"""Where a quick look takes its videos from: the local sampler, or the world itself.

Shapes: T pictures, H rows, W columns, C = 3 colour channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from longtake.core.recipe.context import Level
from pocket import world
from pocket.export import load
from pocket.judge import Pictures
from pocket.sampler import PictureDecoder, Sampler
from workers.models import pocket_text
from workers.models.pocket_text import Scene

_AT_ONCE: Final = 10


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


Source = Callable[[Sequence[Request]], list[Pictures]]


def sampler_source(weights: Path, level: Level = Level.OUTPUT) -> Source:
    """A source that samples in this process, without server and codec: quick, and good enough to watch a training."""
    model, decoder, scale = load(weights)

    def sample(requests: Sequence[Request]) -> list[Pictures]:
        scenes = [pocket_text.parse(request.prompts[0].prompt).scene for request in requests]
        sampler = Sampler(model, scenes, requests[0].seed, level)
        decoding = PictureDecoder(decoder, scale, len(requests))
        longest = max(request.pictures for request in requests)
        parts: list[Pictures] = []
        block = 0
        while world.cue_picture(block) < longest:
            if block and any(t.picture == world.cue_picture(block) for r in requests for t in r.prompts):
                sampler.cue([_prompt_at(request, world.cue_picture(block)) for request in requests])
            parts.append(decoding.decode(sampler.next_block()))
            block += 1
        whole = np.concatenate(parts, 1)
        return [video[: request.pictures] for video, request in zip(whole, requests, strict=True)]

    def source(requests: Sequence[Request]) -> list[Pictures]:
        return [video for at in range(0, len(requests), _AT_ONCE) for video in sample(requests[at : at + _AT_ONCE])]

    return source


def _prompt_at(request: Request, picture: int) -> Scene:
    return pocket_text.parse([t.prompt for t in request.prompts if t.picture <= picture][-1]).scene


def world_source(requests: Sequence[Request]) -> list[Pictures]:
    """What a perfect model would serve: the world's own pictures."""
    made = []
    for request in requests:
        rng = np.random.default_rng(request.seed)
        scenes = [pocket_text.parse(timed.prompt).scene for timed in request.prompts]
        changes = tuple(
            world.Change(picture=timed.picture, scene=scene)
            for timed, scene in zip(request.prompts[1:], scenes[1:], strict=True)
        )
        clip = world.Clip(scene=scenes[0], phase=float(rng.uniform(0, 2 * np.pi)), changes=changes)
        made.append((world.render(clip, request.pictures) * 255).round().astype(np.uint8))
    return made
