"""The latents of a stream of simulated workers, computed by hand: block after block, without pages, ops or engine.

Every mechanism of a recipe is here once more, as the papers have it: levels, step lists, what is given, a hybrid start,
blocks that step together, recaches (recaches.py says what they read) and places (places.py). Memory does not grow with
the stream, so that streams of 10^5 blocks are computed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import standing
from benchmarks.recaches import read_by, recached
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from workers.simulated import arithmetic
from workers.simulated.arithmetic import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all streams of a cell depend on."""

    recipe: Recipe
    geometry: Geometry
    reach: Reach


class Course(Protocol):
    """What else one stream is a function of. Of a block is asked once that is begun: it may not be settled before."""

    @property
    def blocks(self) -> int | None:
        """How many the stream has; where blocks see later ones, the last ones depend on it."""
        ...

    @property
    def given(self) -> bytes:
        """The latents that it begins with."""
        ...

    def seed(self, block: int) -> int:
        """That of the block's noise."""
        ...

    def text(self, block: int) -> bytes:
        """What stands for the block's prompt."""
        ...

    def load(self, block: int) -> int:
        """The load under which the block was begun."""
        ...

    def recaches(self, block: int) -> bool:
        """Whether what is remembered is committed anew before the block."""
        ...


LoadOf = Callable[[int], int]
"""Under which load each block was begun."""


def no_load(_: int) -> int:
    """That of all blocks of a stream that sheds nothing."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The course of a stream of which everything is known beforehand."""

    number: int
    """Its seed."""
    texts: Mapping[int, bytes]
    """What stands for its prompts, by the first blocks that they apply to."""
    renewed: frozenset[int] = frozenset()
    """The blocks before which it recaches."""
    loads: LoadOf = no_load
    given: bytes = b""
    blocks: int | None = None

    def seed(self, block: int) -> int:
        """See Course."""
        return self.number

    def text(self, block: int) -> bytes:
        """See Course."""
        return self.texts[max(first for first in self.texts if first <= block)]

    def load(self, block: int) -> int:
        """See Course."""
        return self.loads(block)

    def recaches(self, block: int) -> bool:
        """See Course."""
        return block in self.renewed


def text_of(features: bytes) -> bytes:
    """What stands for a prompt, by the tensor that its encoder has put out."""
    return arithmetic.mix(b"text", features)


def finished(model: Model, course: Course) -> Iterator[bytes]:
    """Finished latents of block 0, 1, … of a stream; for ever, but where blocks step together and `blocks` says so."""
    frames = len(course.given) // (4 * _values(model.geometry))
    stream = _Stream(model=_beginning(model, frames), course=course, given_frames=frames)
    return stream.staggered() if model.recipe.level is Level.STAGGERED else stream.apart()


def _values(geometry: Geometry) -> int:
    """Numbers in one latent frame."""
    _, channels, height, width = geometry.block_shape
    return channels * height * width


def _beginning(model: Model, given_frames: int) -> Model:
    """The model as it is for streams of which so many frames are given: they are whole blocks."""
    plan = model.recipe.blocks
    later = given_frames - plan.lead
    if not given_frames or (later >= 0 and later % plan.frames == 0):
        return model
    first = given_frames % plan.frames or plan.frames
    return replace(model, recipe=replace(model.recipe, blocks=BlockPlan(frames=plan.frames, first_frames=first)))


@dataclass(frozen=True, slots=True)
class _Op:
    """One forward over a block, or a part of one over several."""

    block: int
    latents: bytes
    text: bytes
    timestep: float
    reads: Sequence[int]
    """Frames, its own among them, in the order of reading."""


@dataclass(slots=True)
class _Lane:
    """The frames of one lane: what each layer has left of them."""

    model: Model
    frames: dict[int, list[bytes]] = field(default_factory=dict)

    def run(self, *ops: _Op) -> list[bytes]:
        """What leaves the last layer of each op of one forward, in which all of a layer is written before it is read.

        What is left of the ops' own frames stays in the lane.
        """
        recipe, reach = self.model.recipe, self.model.reach
        owns = [recipe.blocks.own(op.block) for op in ops]
        places = [standing(recipe, own, op.reads) for own, op in zip(owns, ops, strict=True)]
        for own in owns:
            self.frames.update((frame, [b""] * reach.layers) for frame in own)
        values = [
            arithmetic.entering(op.latents, op.text, op.timestep, place.queries)
            for op, place in zip(ops, places, strict=True)
        ]
        for layer in range(reach.layers):
            for own, place, value in zip(owns, places, values, strict=True):
                for frame, left in zip(own, arithmetic.left_by(value, place.keys), strict=True):
                    self.frames[frame][layer] = left.tobytes()
            values = [
                arithmetic.leaving(value, self._seen(op, own, layer), place.read)
                for op, own, place, value in zip(ops, owns, places, values, strict=True)
            ]
        return values

    def _seen(self, op: _Op, own: range, layer: int) -> NDArray[np.uint8]:
        blank = bytes(arithmetic.HASH_BYTES)
        content = b"".join([blank if frame in own else self.frames[frame][layer] for frame in op.reads])
        return np.frombuffer(content, np.uint8)

    def forget(self, kept: Sequence[int], before: int) -> None:
        """Drop the frames before this one that are not kept."""
        for frame in [frame for frame in self.frames if frame < before and frame not in kept]:
            del self.frames[frame]


@dataclass(slots=True, kw_only=True)
class _Stream:
    model: Model
    """Its recipe divides the stream into blocks as what is given does."""
    course: Course
    given_frames: int
    lanes: list[_Lane] = field(init=False)
    left: list[dict[int, tuple[bytes, float]]] = field(init=False)
    """By lane and block, the latents whose K/V is read of it, and the timestep that the model was told of them."""
    renewed: list[int] = field(default_factory=list)
    """Recaches so far; of those that moved the sinks only the last one counts."""

    def __post_init__(self) -> None:
        self.lanes = [_Lane(self.model) for _ in range(self.recipe.lane_count)]
        self.left = [{} for _ in self.lanes]

    @property
    def recipe(self) -> Recipe:
        return self.model.recipe

    @property
    def given_blocks(self) -> int:
        return self.recipe.blocks.block_of(self.given_frames - 1) + 1 if self.given_frames else 0

    def apart(self) -> Iterator[bytes]:
        """The latents of a stream of which each op is a forward for itself (DESIGN section 5, levels and ops)."""
        for block in count():
            if block and self.course.recaches(block):
                self._recache(block)
            text, reads = self.course.text(block), read_by(self.recipe, block, self.renewed)
            latents = self._given(block) if block < self.given_blocks else self._made(block, text, reads)
            is_first = block < self.given_blocks + self.recipe.context.start_blocks
            if self.recipe.level is Level.CLEAN:
                self._commit(0, block, (self._noised(latents, block), self.recipe.commit_timestep(0)), text, reads)
            elif is_first:
                for lane in range(len(self.lanes)):
                    self._commit(lane, block, (latents, 0.0), text, reads)
            self._forget(block)
            yield latents

    def _given(self, block: int) -> bytes:
        size, own = 4 * _values(self.model.geometry), self.recipe.blocks.own(block)
        return self.course.given[size * own.start : size * own.stop]

    def _made(self, block: int, text: bytes, reads: Sequence[int]) -> bytes:
        """A block through its steps, which are committed one by one at level OUTPUT."""
        recipe, seed = self.recipe, self.course.seed(block)
        is_first = block < self.given_blocks + recipe.context.start_blocks
        latents = arithmetic.latents_of(arithmetic.noise(seed, block, 0), self._geometry(block))
        entries = recipe.steps.entries(block - self.given_blocks, self.course.load(block))
        steps = [recipe.steps.ladder.index(entry) for entry in entries]
        for step, entered in zip(steps, (*steps[1:], None), strict=True):
            lane = 0 if recipe.level is Level.CLEAN else step
            entering = latents, recipe.timesteps[step]
            (left,) = self.lanes[lane].run(_Op(block, entering[0], text, entering[1], reads))
            latents = self._stepped(left, block, entered)
            if recipe.level is Level.INPUT:
                self.left[lane][block] = entering
            elif recipe.level is Level.OUTPUT and not is_first:
                timestep = 0.0 if entered is None else recipe.timesteps[entered]
                self._commit(lane, block, (latents, timestep), text, reads)
        return latents

    def _commit(self, lane: int, block: int, what: tuple[bytes, float], text: bytes, reads: Sequence[int]) -> None:
        self.left[lane][block] = what
        self.lanes[lane].run(_Op(block, what[0], text, what[1], reads))

    def _recache(self, block: int) -> None:
        """What every lane does before `block`, with the prompt of that."""
        made, text = recached(self.recipe, block, self.renewed), self.course.text(block)
        for lane, left in zip(self.lanes, self.left, strict=True):
            ops = [_Op(each, left[each][0], text, left[each][1], reads) for each, reads in made.reads.items()]
            if self.recipe.cues.change is CueRule.JOINT:
                lane.run(*ops)
            else:
                for op in ops:
                    lane.run(op)
        self.renewed[:] = [block]

    def staggered(self) -> Iterator[bytes]:
        """The latents of a stream whose blocks step together, iteration by iteration."""
        recipe, (lane,), blocks = self.recipe, self.lanes, self.course.blocks
        steps, lag = recipe.step_count, recipe.context.lag
        latents: dict[int, bytes] = {}
        done: dict[int, int] = {}
        texts: dict[int, bytes] = {}
        begun = 0
        for iteration in count():
            if iteration % lag == 0 and (blocks is None or begun < blocks):
                done[begun], texts[begun] = 0, self.course.text(begun)
                noise = arithmetic.noise(self.course.seed(begun), begun, 0)
                latents[begun] = arithmetic.latents_of(noise, self._geometry(begun))
                begun += 1
            if not done:
                return
            newest, times = max(done), (*recipe.timesteps, 0.0)
            sees = {block: newest if recipe.context.both_ways and done[block] < steps else block for block in done}
            ops = [
                _Op(block, latents[block], texts[block], times[done[block]], read_by(recipe, sees[block], ()))
                for block in done
            ]
            for op, left in zip(ops, lane.run(*ops), strict=True):
                step = done[op.block]
                done[op.block] += 1
                if step == steps:
                    del done[op.block], latents[op.block], texts[op.block]
                    continue
                entered = None if step + 1 == steps else step + 1
                latents[op.block] = self._stepped(left, op.block, entered)
                if entered is None:
                    yield latents[op.block]
            self._forget(min(done, default=begun))

    def _geometry(self, block: int) -> Geometry:
        """That of one block."""
        return self.model.geometry.divided(BlockPlan(frames=self.recipe.blocks.made(block)))

    def _stepped(self, left: bytes, block: int, entered: int | None) -> bytes:
        """What a denoise op puts out, by what left the last layer of its forward; it enters this step next, if any."""
        added = b"" if entered is None else arithmetic.noise(self.course.seed(block), block, entered)
        return arithmetic.denoised(left, added, self._geometry(block))

    def _noised(self, latents: bytes, block: int) -> bytes:
        """Latents with the noise of the context, for which the draw behind those of the steps is taken."""
        sigma, draw = self.recipe.commit_sigma, self.recipe.step_count
        if not sigma:
            return latents
        added = arithmetic.noise(self.course.seed(block), block, draw)
        return arithmetic.noised(latents, sigma, added, self._geometry(block))

    def _forget(self, block: int) -> None:
        """Drop what neither a later block nor a recache reads once `block` is done."""
        recipe, size = self.recipe, self.recipe.window_frames
        if size is None or recipe.cues.change is CueRule.FULL:
            return
        first = recipe.blocks.first_frame(block)
        sinks = [frame for frame in read_by(recipe, block, self.renewed) if frame <= first - size]
        oldest = first - size - recipe.blocks.most
        for lane, left in zip(self.lanes, self.left, strict=True):
            lane.forget([*range(recipe.sink_frames), *sinks], oldest)
            for gone in [each for each in left if recipe.blocks.own(each).stop <= oldest]:
                del left[gone]
