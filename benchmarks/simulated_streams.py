"""What streams of simulated workers must show, computed by hand: one stream, block after block, without pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import standing
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
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
    begun: int = -1
    """The last block of which anything was done here."""

    def run(self, latents: bytes, text: bytes, timestep: float, block: int) -> tuple[bytes, ...]:
        """One forward over the window of `block`, which leaves the block's own frames behind."""
        recipe = self.info.recipe
        if block > self.begun:
            self.begun = block
            self._fold(block)
        own, seen = recipe.blocks.own(block), self._seen(block)
        blank = arithmetic.no_pages(1, self.reach)[0]
        context = np.stack([blank if frame in own else self.frames[frame] for frame in seen])
        places = standing(recipe, own, seen)
        values = arithmetic.forward(latents, text, timestep, places.queries, context, places.read)
        kept = arithmetic.pages_of(values, places.keys)
        self.frames.update(zip(own, kept, strict=True))
        return values

    def _fold(self, block: int) -> None:
        """Make one of each k frames of the memory and of those that have no room beside this block (ConvKV)."""
        recipe, own = self.info.recipe, self.info.recipe.blocks.own(block)
        window, k, memory = recipe.window_frames, recipe.memory.fold_frames, recipe.context.memory_frames
        if not k or window is None or own.stop <= window:
            return
        names = range(recipe.sink_frames, recipe.sink_frames + memory)  # it is called by the frames that it began with
        gone = range(own.start - (window - names.stop), own.stop - (window - names.stop))
        pages = [self.frames[frame] for frame in (*names, *gone)]
        made = [arithmetic.folded(np.stack(pages[start : start + k])) for start in range(0, k * memory, k)]
        self.frames.update(zip(names, made, strict=True))

    def run_together(self, ops: Sequence[_Op], text: bytes) -> list[bytes]:
        """What leaves the last layer of each of these ops, which are one forward: in a layer all write, then read."""
        blocks = self.info.recipe.window.blocks
        for op in ops:
            for frame in blocks.own(op.block):
                self.frames[frame] = arithmetic.no_pages(1, self.reach)[0]
        values = [arithmetic.entering(op.latents, text, op.timestep, blocks.own(op.block)) for op in ops]
        for layer in range(self.reach.layers):
            for op, value in zip(ops, values, strict=True):
                own = blocks.own(op.block)
                for frame, left in zip(own, arithmetic.left_by(value, own), strict=True):
                    self.frames[frame][layer] = left
            values = [self._layer(op, layer, value) for op, value in zip(ops, values, strict=True)]
        return values

    def _layer(self, op: _Op, layer: int, value: bytes) -> bytes:
        own, blank = self.info.recipe.window.blocks.own(op.block), np.zeros(arithmetic.HASH_BYTES, np.uint8)
        seen = [blank if frame in own else self.frames[frame][layer] for frame in self._seen(op.newest)]
        return arithmetic.leaving(value, np.stack(seen))

    def _seen(self, block: int) -> list[int]:
        window = self.info.recipe.window
        return sorted(window.frames(block), key=window.order)


@dataclass(frozen=True, slots=True)
class _Op:
    """One of the ops of a forward over several blocks."""

    block: int
    step: int
    """The number of steps: the block is finished, and committed."""
    latents: bytes
    timestep: float
    newest: int
    """The last block that it sees."""


LoadOf = Callable[[int], int]
"""Under which load each block was begun."""


def no_load(_: int) -> int:
    """That of all blocks of a stream that sheds nothing."""
    return 0


def expected_latents(
    info: ModelInfo,
    prompt: str,
    seed: int,
    reach: Reach = REACH,
    loads: LoadOf = no_load,
    *,
    blocks: int | None = None,
) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … of a stream without cues, for ever (DESIGN section 5, levels and ops).

    `blocks` is how many the stream has: where blocks see later ones, the last ones depend on it.
    """
    features = simulated_text(info).encode(prompt).features_TC
    text = arithmetic.mix(b"text", tensor_to_bytes(features))
    if info.recipe.joint is not None:
        yield from _staggered(info, text, seed, reach, blocks)
        return
    recipe = info.recipe
    lanes = [_Lane(info, reach) for _ in range(recipe.lane_count)]
    for block in count():
        geometry = info.geometry.divided(BlockPlan(frames=recipe.blocks.made(block)))
        latents = arithmetic.latents_of(arithmetic.noise(seed, block, 0), geometry)
        steps = [recipe.steps.ladder.index(entry) for entry in recipe.steps.entries(block, loads(block))]
        for step, entered in zip(steps, (*steps[1:], None), strict=True):
            lane = lanes[0] if recipe.level is Level.CLEAN else lanes[step]
            values = lane.run(latents, text, recipe.timesteps[step], block)
            latents = _stepped(values[-1], seed, block, entered, geometry)
            is_usual = block >= recipe.context.start_blocks
            if is_usual and (recipe.level is Level.OUTPUT or (recipe.level is Level.CLEAN and entered is None)):
                committed = _committed(recipe, latents, seed, block, geometry)
                lane.run(committed, text, recipe.commit_timestep(step), block)
        for lane in lanes if block < recipe.context.start_blocks else ():
            lane.run(latents, text, 0.0, block)
        yield latents


def _staggered(info: ModelInfo, text: bytes, seed: int, reach: Reach, blocks: int | None) -> Iterator[bytes]:
    """The same of a recipe whose blocks step together, iteration by iteration."""
    recipe, lane, steps = info.recipe, _Lane(info, reach), info.recipe.step_count
    latents: dict[int, bytes] = {}
    done: dict[int, int] = {}
    for iteration in count():
        if iteration % recipe.context.lag == 0 and (blocks is None or len(done) < blocks):
            block = len(done)
            done[block] = 0
            latents[block] = arithmetic.latents_of(arithmetic.noise(seed, block, 0), info.geometry)
        live = [block for block, number in done.items() if number <= steps]
        if not live:
            return
        ops = [
            _Op(
                block=block,
                step=done[block],
                latents=latents[block],
                timestep=(*recipe.timesteps, 0.0)[done[block]],
                newest=live[-1] if recipe.context.both_ways and done[block] < steps else block,
            )
            for block in live
        ]
        for op, left in zip(ops, lane.run_together(ops, text), strict=True):
            done[op.block] += 1
            if op.step < steps:
                entered = op.step + 1 if op.step + 1 < steps else None
                latents[op.block] = _stepped(left, seed, op.block, entered, info.geometry)
            if op.step + 1 == steps:
                yield latents[op.block]


def _stepped(left: bytes, seed: int, block: int, entered: int | None, geometry: Geometry) -> bytes:
    """What a denoise op puts out, by what left the last layer of its forward; it enters this step next, if any."""
    added = b"" if entered is None else arithmetic.noise(seed, block, entered)
    return arithmetic.denoised(left, added, geometry)


def _committed(recipe: Recipe, latents: bytes, seed: int, block: int, geometry: Geometry) -> bytes:
    """Latents with the noise of the context, for which the draw behind those of the steps is taken."""
    sigma, draw = recipe.commit_sigma, recipe.step_count
    if not sigma:
        return latents
    return arithmetic.noised(latents, sigma, arithmetic.noise(seed, block, draw), geometry)


def expected_pictures(
    info: ModelInfo, prompt: str, seed: int, reach: Reach = REACH, loads: LoadOf = no_load
) -> Iterator[NDArray[np.uint8]]:
    """Pictures [count, height, width, 3] of block 0, 1, … of a stream without cues, for ever."""
    state = arithmetic.first_state(reach)
    for block, latents in enumerate(expected_latents(info, prompt, seed, reach, loads)):
        name, state = arithmetic.decoded(latents, state, info.geometry)
        yield arithmetic.pictures(
            name, info.geometry.first_picture(block), info.geometry.pictures(block), info.geometry
        )
