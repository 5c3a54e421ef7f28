"""The oracle of stories: a plain loop over contiguous keys that are turned whole with every read, and what shots see.

What is read for which block comes from benchmarks.stories, which was written from the paper. A story that goes
back makes the shot's first block anew in lanes of its own, where there is nothing beside but the sinks before it. Shape
suffixes as in oracle.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.stories import Story, again, read_in, told
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import NoiseFn, clean, noised
from tests.workers.unturned import UnturnedLanes
from workers.models.api import Denoiser, TextKV, sdpa


@dataclass
class StoryLanes(UnturnedLanes):
    """Lanes of a story."""

    recipe: Recipe | None = None
    story: Story = ()
    seen: list[int] | None = None
    """What a pass reads that is no ordinary one."""

    def visible(self, first: int, count: int) -> list[int]:
        """What a block reads, in order."""
        assert self.recipe is not None
        block = self.recipe.blocks.block_of(first)
        return read_in(self.recipe, block, self.story) if self.seen is None else self.seen

    def places(self, own: Sequence[int], seen: Sequence[int]) -> dict[int, int]:
        """Where each frame that is read stands."""
        assert self.recipe is not None
        now = told(self.story)
        is_listed = self.recipe.positions.plain() == "listed"
        at = {frame: place for place, frame in enumerate(sorted(seen))} if is_listed else {each: each for each in seen}
        offset = self.recipe.positions.shot_offset
        return {frame: at[frame] + offset * now.shot_of(self.recipe, frame) for frame in seen}


def story_lanes(model: Denoiser, recipe: Recipe, story: Story = ()) -> StoryLanes:
    """Those of a recipe with cuts; without a story of one shot."""
    lanes = StoryLanes(model=model, window_frames=None, attention=sdpa, recipe=recipe, story=story)
    lanes.placing = lanes.places
    return lanes


@dataclass
class Telling:
    """A stream of one session, with the bits of a server."""

    model: Denoiser
    recipe: Recipe
    story: Story
    lanes: StoryLanes = field(init=False)
    entered: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """(block, step): the latents that enter a step; step S is x0."""
    texts: list[TextKV] = field(default_factory=list)
    """Those of the blocks so far."""

    def __post_init__(self) -> None:
        self.lanes = story_lanes(self.model, self.recipe, self.story)

    def generate(self, texts: Mapping[int, Tensor], noise: NoiseFn, blocks: int) -> list[Tensor]:
        """The x0 [1, F, C, H, W] of the blocks; `texts` by the blocks they apply from."""
        recipe, steps = self.recipe, self.recipe.step_count
        with torch.inference_mode():
            for block in range(blocks):
                if block in texts:
                    text = self.model.encode_text(texts[block])
                self.texts.append(text)
                self.go_back(block)
                first, x = recipe.blocks.first_frame(block), noise(block, 0)
                self.entered[block, 0] = x
                for step, (sigma, time) in enumerate(zip(recipe.sigmas, recipe.timesteps, strict=True)):
                    lane = "0" if recipe.level is Level.CLEAN else str(step)
                    x0 = clean(x, self.lanes.denoise(lane, first, x, time, text), sigma)
                    last = step + 1 == steps
                    x = x0 if last else noised(x0, noise(block, step + 1), recipe.sigmas[step + 1])
                    self.entered[block, step + 1] = x
                for number in range(recipe.lane_count):
                    self.seal(number, block)
        return [self.entered[block, steps] for block in range(blocks)]

    def go_back(self, block: int) -> None:
        """What every lane does before a block where the story goes back."""
        made = again(self.recipe, block, self.story)
        if made is None:
            return
        ((target, reads),) = made.reads.items()
        self.lanes.seen = reads
        for lane in range(self.recipe.lane_count):
            kept = self.lanes.lanes[str(lane)]
            aside = {layer: {each: frames[each] for each in reads if each in frames} for layer, frames in kept.items()}
            self.lanes.lanes[str(lane)] = aside
            self.seal(lane, target)
            for layer, frames in kept.items():
                frames.update({each: aside[layer][each] for each in made.frames})
            self.lanes.lanes[str(lane)] = kept
        self.lanes.seen = None

    def seal(self, lane: int, block: int) -> None:
        """Write a block as later ones read it in a lane, with the prompt that it was made by."""
        steps, times, first = self.recipe.step_count, self.recipe.timesteps, self.recipe.blocks.first_frame(block)
        text = self.texts[block]
        match self.recipe.level:
            case Level.CLEAN:
                self.lanes.commit("0", first, self.entered[block, steps], 0.0, text)
            case Level.INPUT:
                self.lanes.denoise(str(lane), first, self.entered[block, lane], times[lane], text)
            case _:
                self.lanes.commit(str(lane), first, self.entered[block, lane + 1], (*times, 0.0)[lane + 1], text)
