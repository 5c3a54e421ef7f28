"""What streams of simulated workers must show, computed by hand: one stream, block after block, without pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Level, Recipe
from workers.denoise.worker import tensor_to_bytes
from workers.models.text import text_encoder
from workers.models.weights import ModelInfo
from workers.simulated import workers


def small_pictures(info: ModelInfo) -> ModelInfo:
    """The model with the smallest pictures its strides allow, so that bytes cost little; for simulated devices only."""
    side = info.geometry.stride_space * info.geometry.patch_space
    return replace(info, name=f"{info.name}, {side}x{side}", geometry=replace(info.geometry, width=side, height=side))


@dataclass(slots=True)
class _Lane:
    """The frames of one lane, by number; grows with the stream, which is why a server needs pages."""

    frames: dict[int, bytes] = field(default_factory=dict)

    def run(
        self, latents: bytes, text: bytes, timestep: float, block: int, geometry: Geometry, recipe: Recipe
    ) -> bytes:
        """One forward over the window of `block`, which leaves the block's own frames behind."""
        first = geometry.first_frame(block)
        own = range(first, first + recipe.frames_per_block)
        seen = sorted(recipe.window.frames(block), key=recipe.window.slot)
        context = [b"" if frame in own else self.frames[frame] for frame in seen]
        name = workers.forward(latents, text, timestep, own, context)
        self.frames.update({frame: workers.page_of(name, frame) for frame in own})
        return name


def expected_latents(info: ModelInfo, prompt: str, seed: int) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … of a stream without cues, for ever (DESIGN section 5, levels and ops)."""
    recipe, geometry = info.recipe, info.geometry
    features = text_encoder(info.text_kind, info.text_width).encode(prompt).features_TC
    text = workers.mix(b"text", tensor_to_bytes(features))
    lanes = [_Lane() for _ in range(recipe.lane_count)]
    block = 0
    while True:
        latents = workers.latents_of(workers.noise(seed, block, 0), geometry)
        for step, timestep in enumerate(recipe.timesteps):
            lane = lanes[0] if recipe.level is Level.CLEAN else lanes[step]
            name = lane.run(latents, text, timestep, block, geometry, recipe)
            last = step + 1 == recipe.step_count
            added = b"" if last else workers.noise(seed, block, step + 1)
            latents = workers.denoised(name, added, geometry)
            if recipe.level is Level.OUTPUT or (recipe.level is Level.CLEAN and last):
                lane.run(latents, text, recipe.commit_timestep(step), block, geometry, recipe)
        yield latents
        block += 1


def expected_pictures(info: ModelInfo, prompt: str, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures [count, height, width, 3] of block 0, 1, … of a stream without cues, for ever."""
    state = b""
    for block, latents in enumerate(expected_latents(info, prompt, seed)):
        state = workers.decoded(latents, state)
        first, count = info.geometry.first_picture(block), info.geometry.pictures(block)
        yield workers.pictures(state, first, count, info.geometry)
