"""What every stream must show: the same arithmetic, block after block, without pages, workers or engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import standing
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from workers.simulated import arithmetic
from workers.simulated.arithmetic import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all results of a cell depend on, beside what clients ask for."""

    recipe: Recipe
    geometry: Geometry
    reach: Reach


@dataclass(slots=True, kw_only=True)
class Script:
    """What a client asked for, block by block: all that a stream is a function of."""

    seed: int
    prompt: str
    turns: dict[int, str] = field(default_factory=dict)
    """The prompts of accepted cues, by the block at which each takes effect."""
    parent: Script | None = None
    first: int = 0
    """The first block of its own; what comes before is its parent's."""

    def as_it_is(self) -> Script:
        """The same, whatever becomes of this one."""
        return replace(self, turns=dict(self.turns))

    def at(self, block: int) -> tuple[int, str]:
        """Seed and prompt of a block."""
        if self.parent is not None and block < self.first:
            return self.parent.at(block)
        begun = [turn for turn in self.turns if turn <= block]
        return self.seed, self.turns[max(begun)] if begun else self.prompt


class Lane:
    """The frames of one lane, by number; grows with the stream."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._frames: dict[int, NDArray[np.uint8]] = {}
        self._blank = arithmetic.no_pages(1, model.reach)[0]

    def run(self, latents: bytes, text: bytes, timestep: float, block: int) -> tuple[bytes, ...]:
        """One forward over the window of `block`, which leaves the block's own frames behind."""
        recipe = self._model.recipe
        own = recipe.blocks.own(block)
        seen = sorted(recipe.window.frames(block), key=recipe.window.slot)
        context = np.stack([self._blank if frame in own else self._frames[frame] for frame in seen])
        places = standing(recipe, own, seen)
        values = arithmetic.forward(latents, text, timestep, places.queries, context, places.read)
        kept = arithmetic.pages_of(values, places.keys)
        self._frames.update(zip(own, kept, strict=True))
        return values


def finished(model: Model, script: Script) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … by the recipe's level (DESIGN section 5); the script may grow meanwhile."""
    recipe, geometry = model.recipe, model.geometry
    lanes = [Lane(model) for _ in range(recipe.lane_count)]
    block = 0
    while True:
        seed, prompt = script.at(block)
        text = arithmetic.mix(b"text", prompt.encode())
        latents = arithmetic.latents_of(arithmetic.noise(seed, block, 0), geometry)
        steps = [recipe.steps.ladder.index(entry) for entry in recipe.steps.entries(block)]
        for step, entered in zip(steps, (*steps[1:], None), strict=True):
            lane = lanes[0] if recipe.level is Level.CLEAN else lanes[step]
            values = lane.run(latents, text, recipe.timesteps[step], block)
            last = entered is None
            added = b"" if entered is None else arithmetic.noise(seed, block, entered)
            latents = arithmetic.denoised(values[-1], added, geometry)
            if recipe.level is Level.OUTPUT or (recipe.level is Level.CLEAN and last):
                lane.run(latents, text, recipe.commit_timestep(step), block)
        yield latents
        block += 1


def segments(model: Model, script: Script) -> Iterator[bytes]:
    """The bytes of segment 0, 1, … of a stream; each is asked for once its block's prompt can change no more."""
    state = arithmetic.first_state(model.reach)
    for latents in finished(model, script):
        name, state = arithmetic.decoded(latents, state, model.geometry)
        yield name
