"""Rows of the oracle whose past is read at a level of its own: plain loops, written from the papers.

As the oracle itself they know nothing of ops, chains or pages. Shape suffixes are those of tests.workers.oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import Attend, ContiguousLanes, Lanes, NoiseFn, RecipeLike, clean, generate, noised
from workers.models.api import Conditioning, Denoiser, Inputs


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


@dataclass
class _Joint:
    """One forward over the frames of some blocks, which see what is listed, in its order."""

    frames: dict[int, dict[int, tuple[Tensor, Tensor]]]  # layer -> latent frame -> its k, v [B, tokens, N, D]
    own: list[int]
    visible: list[int]
    attention: Attend

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        kept, count = self.frames.setdefault(layer, {}), len(self.own)
        kept.update(zip(self.own, zip(k_BLND.chunk(count, 1), v_BLND.chunk(count, 1), strict=True), strict=True))

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        self.store(layer, k_BLND, v_BLND)
        pairs = [self.frames[layer][frame] for frame in self.visible]
        return self.attention(q_BLND, torch.cat([k for k, _ in pairs], 1), torch.cat([v for _, v in pairs], 1))


@dataclass(frozen=True, kw_only=True)
class StaggeredLevels:
    """Blocks that step together, each begun when the one before has done `lag` steps.

    Causally as CMDM denoises frames (its staggered schedule): in each iteration every unfinished frame takes one step
    and attends to those before it as they are in this iteration, and to finished ones clean. Both ways as Rolling
    Forcing (arXiv 2509.25161) denoises its window: one forward over all unfinished blocks, each frame at its own noise
    level, all of which see one another; a finished block is cached by a forward of its own, in which it sees only the
    past.
    """

    lag: int
    both_ways: bool

    def generate(
        self,
        model: Denoiser,
        recipe: RecipeLike,
        text: Tensor | Mapping[int, Tensor],
        noise: NoiseFn,
        blocks: int,
        lanes: ContiguousLanes,
    ) -> list[Tensor]:
        """The x0 latents of a stream of so many blocks, as tests.workers.oracle.generate gives them.

        Both ways there is one text for all blocks, as there is one forward.
        """
        cues = text if isinstance(text, Mapping) else {0: text}
        size, steps = recipe.blocks.frames, len(recipe.sigmas)
        frames: dict[int, dict[int, tuple[Tensor, Tensor]]] = {}
        latents: dict[int, Tensor] = {}

        def run(own: list[int], newest: int, x: Tensor, timesteps: list[float], block: int) -> Inputs:
            chosen = cues[max(first for first in cues if first <= block)]
            return Inputs(
                x_BFCHW=x,
                timestep_BF=torch.tensor([timesteps]),
                position_BF=torch.tensor([own]),
                conditioning=Conditioning(text=model.encode_text(chosen)),
                attention=_Joint(frames, own, lanes.visible(newest * size, size), lanes.attention),
            )

        def own_frames(block: int) -> list[int]:
            return list(range(block * size, (block + 1) * size))

        def step(block: int, number: int, x: Tensor, flow: Tensor) -> Tensor:
            x0 = clean(x, flow, recipe.sigmas[number])
            last = number + 1 == steps
            return x0 if last else noised(x0, noise(block, number + 1), recipe.sigmas[number + 1])

        with torch.inference_mode():
            done = [0] * blocks  # steps that each block has taken
            while min(done) < steps:
                begun = [block for block in range(blocks) if block == 0 or done[block - 1] >= self.lag]
                for block in begun:
                    latents.setdefault(block, noise(block, 0))
                now = dict(latents)
                cached = [block for block in begun if done[block] == steps]
                live = [block for block in begun if done[block] < steps]
                for block in cached:
                    model.commit(run(own_frames(block), block, now[block], [0.0] * size, block))
                    done[block] += 1
                if self.both_ways and live:
                    own = [frame for block in live for frame in own_frames(block)]
                    times = [recipe.timesteps[done[block]] for block in live for _ in range(size)]
                    flow = model.denoise(run(own, live[-1], torch.cat([now[block] for block in live], 1), times, 0))
                    for block, part in zip(live, flow.chunk(len(live), 1), strict=True):
                        latents[block] = step(block, done[block], now[block], part)
                else:
                    for block in live:
                        times = [recipe.timesteps[done[block]]] * size
                        flow = model.denoise(run(own_frames(block), block, now[block], times, block))
                        latents[block] = step(block, done[block], now[block], flow)
                for block in live:
                    done[block] += 1
        return [latents[block] for block in range(blocks)]


def row_of(recipe: Recipe) -> Callable[..., list[Tensor]]:
    """The loop that makes streams of a recipe: one of these, or that of tests.workers.oracle."""
    context = recipe.context
    if context.commit_step or context.commit_label is not None:
        constant = ConstantLevel(shift=recipe.steps.shift, entry=context.commit_step, label=context.commit_label)
        return constant.generate
    if context.lag:
        return StaggeredLevels(lag=context.lag, both_ways=context.both_ways).generate
    return generate
