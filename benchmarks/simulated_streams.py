"""What streams of simulated workers must show, computed by hand: one stream, block after block, without pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import standing
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from workers.denoise.worker import tensor_to_bytes
from workers.models.weights import ModelInfo
from workers.simulated import arithmetic
from workers.simulated.arithmetic import REACH, Reach
from workers.simulated.text import simulated_text


def small_pictures(info: ModelInfo) -> ModelInfo:
    """The model with the smallest pictures its strides allow, so that bytes cost little; for simulated devices only."""
    side = info.geometry.stride_space * info.geometry.patch_space
    return replace(info, name=f"{info.name}, {side}x{side}", geometry=replace(info.geometry, width=side, height=side))


@dataclass(slots=True)
class _Lane:
    """The frames of one lane, by number; grows with the stream, which is why a server needs pages."""

    info: ModelInfo
    reach: Reach
    frames: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def run(self, latents: bytes, text: bytes, timestep: float, block: int) -> tuple[bytes, ...]:
        """One forward over the window of `block`, which leaves the block's own frames behind."""
        recipe = self.info.recipe
        own = recipe.blocks.own(block)
        blank = arithmetic.no_pages(1, self.reach)[0]
        seen = sorted(recipe.window.frames(block), key=recipe.window.slot)
        context = np.stack([blank if frame in own else self.frames[frame] for frame in seen])
        places = standing(recipe, own, seen)
        values = arithmetic.forward(latents, text, timestep, places.queries, context, places.read)
        kept = arithmetic.pages_of(values, places.keys)
        self.frames.update(zip(own, kept, strict=True))
        return values


def expected_latents(info: ModelInfo, prompt: str, seed: int, reach: Reach = REACH) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … of a stream without cues, for ever (DESIGN section 5, levels and ops)."""
    recipe = info.recipe
    features = simulated_text(info).encode(prompt).features_TC
    text = arithmetic.mix(b"text", tensor_to_bytes(features))
    lanes = [_Lane(info, reach) for _ in range(recipe.lane_count)]
    for block in count():
        geometry = info.geometry.divided(BlockPlan(frames=recipe.blocks.made(block)))
        latents = arithmetic.latents_of(arithmetic.noise(seed, block, 0), geometry)
        for step, timestep in enumerate(recipe.timesteps):
            lane = lanes[0] if recipe.level is Level.CLEAN else lanes[step]
            values = lane.run(latents, text, timestep, block)
            last = step + 1 == recipe.step_count
            added = b"" if last else arithmetic.noise(seed, block, step + 1)
            latents = arithmetic.denoised(values, added, geometry)
            if recipe.level is Level.OUTPUT or (recipe.level is Level.CLEAN and last):
                committed = _committed(info, latents, seed, block)
                lane.run(committed, text, recipe.commit_timestep(step), block)
        yield latents


def _committed(info: ModelInfo, latents: bytes, seed: int, block: int) -> bytes:
    """Latents with the noise of the context, for which the draw behind those of the steps is taken."""
    sigma, draw = info.recipe.commit_sigma, info.recipe.step_count
    if not sigma:
        return latents
    return arithmetic.noised(latents, sigma, arithmetic.noise(seed, block, draw), info.geometry)


def expected_pictures(info: ModelInfo, prompt: str, seed: int, reach: Reach = REACH) -> Iterator[NDArray[np.uint8]]:
    """Pictures [count, height, width, 3] of block 0, 1, … of a stream without cues, for ever."""
    state = arithmetic.first_state(reach)
    for block, latents in enumerate(expected_latents(info, prompt, seed, reach)):
        name, state = arithmetic.decoded(latents, state, info.geometry)
        yield arithmetic.pictures(
            name, info.geometry.first_picture(block), info.geometry.pictures(block), info.geometry
        )
