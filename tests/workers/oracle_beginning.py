"""The oracle of streams whose first blocks are read as they are when finished: given ones, and those of a hybrid start.

Written from HiAR's code as hiar_spec 4.5 and 4.6 describe it: the beginning is made block by block in one lane, then
every step has a lane of its own, into which the beginning is written again at t = 0 before the step goes on. So a block
of the beginning is denoised in another lane than in a server; that both give the same bits is what is to be shown.
Shape suffixes as in oracle.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from tests.workers.oracle import Lanes, NoiseFn, RecipeLike, clean, noised
from workers.models.api import Denoiser, TextKV


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """How a stream begins."""

    given: Sequence[Tensor] = ()
    """Finished latents [B, F, C, H, W] of the first blocks."""
    start_blocks: int = 0
    """So many blocks after these are made block-first."""


@dataclass
class _Stream:
    model: Denoiser
    recipe: RecipeLike
    noise: NoiseFn
    lanes: Lanes
    text: Mapping[int, TextKV]

    def text_of(self, block: int) -> TextKV:
        return self.text[max(first for first in self.text if first <= block)]

    def denoised(self, lane: str, step: int, block: int, x: Tensor) -> Tensor:
        """What leaves a step: x0 after the last one."""
        first, sigmas = self.recipe.blocks.first_frame(block), self.recipe.sigmas
        flow = self.lanes.denoise(lane, first, x, self.recipe.timesteps[step], self.text_of(block))
        x0 = clean(x, flow, sigmas[step])
        last = step + 1 == len(sigmas)
        return x0 if last else noised(x0, self.noise(block, step + 1), sigmas[step + 1])

    def commit(self, lane: str, block: int, x: Tensor, timestep: float) -> None:
        self.lanes.commit(lane, self.recipe.blocks.first_frame(block), x, timestep, self.text_of(block))


def generate_from(
    model: Denoiser,
    recipe: RecipeLike,
    text: Mapping[int, Tensor],
    noise: NoiseFn,
    blocks: int,
    lanes: Lanes,
    beginning: Beginning,
) -> list[Tensor]:
    """The x0 latents of blocks 0..blocks-1; `text` are features by the first block that they apply to."""
    with torch.inference_mode():
        texts = {first: model.encode_text(features) for first, features in text.items()}
        stream = _Stream(model, recipe, noise, lanes, texts)
        begun = list(beginning.given)
        for block, x0 in enumerate(begun):
            stream.commit("one", block, x0, 0.0)
        in_one = blocks if recipe.level is Level.CLEAN else len(begun) + beginning.start_blocks
        for block in range(len(begun), min(in_one, blocks)):
            x = noise(block, 0)
            for step in range(len(recipe.sigmas)):
                x = stream.denoised("one", step, block, x)
            stream.commit("one", block, x, 0.0)
            begun.append(x)
        rest = {block: noise(block, 0) for block in range(len(begun), blocks)}
        for step in range(len(recipe.sigmas)):
            lane = f"step {step}"
            for block, x0 in enumerate(begun):
                stream.commit(lane, block, x0, 0.0)
            for block, x in rest.items():
                rest[block] = stream.denoised(lane, step, block, x)
                if recipe.level is Level.OUTPUT:
                    stream.commit(lane, block, rest[block], (*recipe.timesteps, 0.0)[step + 1])
    return [*begun, *rest.values()]
