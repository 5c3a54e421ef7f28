"""The oracle of streams that recache: a plain loop, and between two blocks what LongLive says, on whole tensors.

What is read for which block comes from benchmarks.recaches, which was written from the paper. A joint recache
is one long forward here. Shape suffixes as in oracle.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.recaches import in_order, read_by, recached, sinks_after
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import LanePass, NoiseFn, clean, noised
from workers.models.api import Conditioning, Denoiser, Inputs, TextKV, sdpa

Lane = dict[int, dict[int, tuple[Tensor, Tensor]]]


@dataclass
class Recaching:
    """A stream of one session, with the bits of a server."""

    model: Denoiser
    recipe: Recipe
    recaches: list[int] = field(default_factory=list)
    """The blocks before which it has recached so far."""
    lanes: list[Lane] = field(default_factory=list)
    entered: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """(block, step): the latents that enter a step; step S is x0."""

    def __post_init__(self) -> None:
        self.lanes = [{} for _ in range(self.recipe.lane_count)]

    def inputs(self, lane: int, own: list[int], reads: list[int], x_BFCHW: Tensor, time: float, text: TextKV) -> Inputs:
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=torch.full(x_BFCHW.shape[:2], time),
            position_BF=torch.tensor([own]),
            conditioning=Conditioning(text=text),
            attention=LanePass(self.lanes[lane], own, reads, sdpa),
        )

    def recache(self, block: int, text: TextKV) -> None:
        """What every lane does before `block`."""
        blocks, made = self.recipe.blocks, recached(self.recipe, block, self.recaches)
        self.recaches.append(block)
        for lane in range(self.recipe.lane_count):
            step, time = self._left(lane)
            if self.recipe.cues.change is CueRule.JOINT:
                x_BFCHW = torch.cat([self.entered[each, step] for each in made.reads], 1)
                reads = next(iter(made.reads.values()))
                self.model.commit(self.inputs(lane, made.frames, reads, x_BFCHW, time, text))
                continue
            for each, reads in made.reads.items():
                work = self.inputs(lane, [*blocks.own(each)], reads, self.entered[each, step], time, text)
                if self.recipe.level is Level.INPUT:
                    self.model.denoise(work)
                else:
                    self.model.commit(work)

    def _left(self, lane: int) -> tuple[int, float]:
        """At which step, and at which time, a lane keeps the past."""
        steps, times = self.recipe.step_count, self.recipe.timesteps
        match self.recipe.level:
            case Level.CLEAN:
                return steps, 0.0
            case Level.INPUT:
                return lane, times[lane]
            case _:
                return lane + 1, (*times, 0.0)[lane + 1]

    def generate(
        self, texts: Mapping[int, Tensor], recaches: Collection[int], noise: NoiseFn, blocks: int
    ) -> list[Tensor]:
        """The x0 [1, F, C, H, W] of the blocks; `texts` by the blocks they apply from; `recaches` are those blocks."""
        recipe, steps = self.recipe, self.recipe.step_count
        with torch.inference_mode():
            for block in range(blocks):
                if block in texts:
                    text = self.model.encode_text(texts[block])
                if block in recaches and block:
                    self.recache(block, text)
                own, reads = [*recipe.blocks.own(block)], read_by(recipe, block, self.recaches)
                x = self.entered[block, 0] = noise(block, 0)
                for step, (sigma, time) in enumerate(zip(recipe.sigmas, recipe.timesteps, strict=True)):
                    lane = 0 if recipe.level is Level.CLEAN else step
                    x0 = clean(x, self.model.denoise(self.inputs(lane, own, reads, x, time, text)), sigma)
                    last = step + 1 == steps
                    x = x0 if last else noised(x0, noise(block, step + 1), recipe.sigmas[step + 1])
                    self.entered[block, step + 1] = x
                    if recipe.level is Level.OUTPUT:
                        self.model.commit(self.inputs(lane, own, reads, x, self._left(lane)[1], text))
                if recipe.level is Level.CLEAN:
                    self.model.commit(self.inputs(0, own, reads, x, 0.0, text))
        return [self.entered[block, steps] for block in range(blocks)]

    def held(self, lane: int, layer: int) -> Tensor:
        """Keys and values of what a lane holds of a layer, in the order of reading."""
        frames = self.lanes[lane][layer]
        order = in_order(self.recipe, list(frames), sinks_after(self.recipe, self.recaches))
        return torch.stack([torch.cat([frames[frame][unit] for frame in order], 1) for unit in range(2)])
