"""Rows of the oracle whose past is read at a level of its own: plain loops, written from the papers.

As the oracle itself they know nothing of ops, chains or pages. Shape suffixes are those of tests.workers.oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import Lanes, NoiseFn, RecipeLike, clean, generate, noised
from workers.models.api import Denoiser


@dataclass(frozen=True, kw_only=True)
class ConstantLevel:
    """Ca2-VDM (arXiv 2411.16375): one cache, which all steps of later blocks read.

    A finished block is noised to one entry of the schedule, the same for all blocks, and cached with a timestep that
    its authors leave at 0 (`prefix_perturb_t` of their configuration). FAR (arXiv 2503.19325) caches clean blocks and
    tells the model -1.
    """

    shift: float
    entry: int
    label: float | None
    """What the model is told of what is cached; None: the truth."""

    @property
    def sigma(self) -> float:
        """The noise level of the entry, in float32 as the schedule is."""
        share = self.entry / 1000
        return float(torch.tensor(self.shift * share / (1 + (self.shift - 1) * share), dtype=torch.float32))

    def generate(
        self,
        model: Denoiser,
        recipe: RecipeLike,
        text: Tensor | Mapping[int, Tensor],
        noise: NoiseFn,
        blocks: int,
        lanes: Lanes,
    ) -> list[Tensor]:
        """The x0 latents of blocks 0..blocks-1, as tests.workers.oracle.generate gives them.

        The noise of what is cached is the draw behind those that the steps take.
        """
        cues = text if isinstance(text, Mapping) else {0: text}
        steps = len(recipe.sigmas)
        told = 1000 * self.sigma if self.label is None else self.label
        finished = []
        with torch.inference_mode():
            for block in range(blocks):
                if block in cues:
                    text_kv = model.encode_text(cues[block])
                first, x = block * recipe.blocks.frames, noise(block, 0)
                for step in range(steps):
                    flow = lanes.denoise("cache", first, x, recipe.timesteps[step], text_kv)
                    x = clean(x, flow, recipe.sigmas[step])
                    if step + 1 < steps:
                        x = noised(x, noise(block, step + 1), recipe.sigmas[step + 1])
                cached = noised(x, noise(block, steps), self.sigma) if self.entry else x
                lanes.commit("cache", first, cached, told, text_kv)
                finished.append(x)
        return finished


def row_of(recipe: Recipe) -> Callable[..., list[Tensor]]:
    """The loop that makes streams of a recipe: one of these, or that of tests.workers.oracle."""
    context = recipe.context
    if context.commit_step or context.commit_label is not None:
        constant = ConstantLevel(shift=recipe.steps.shift, entry=context.commit_step, label=context.commit_label)
        return constant.generate
    return generate
