"""The course of a stream: which forwards make it, in which order, and what each reads, as the papers have it.

Every mechanism of a recipe is here once more, block after block, without pages, ops or engine: levels, step lists, what
is given, a hybrid start, blocks that step together, recaches (recaches.py says what they read), stories (stories.py),
and where all of it stands (places.py). What a forward computes is for others to say: hashes (by_hand.py), or a network
over contiguous keys. Memory does not grow with the stream, so that streams of 10^5 blocks are computed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, Protocol, TypeVar

from benchmarks.places import Standing, standing
from benchmarks.recaches import read_by, recached
from benchmarks.stories import Scene
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueChange, CueEffect, CueRule
from longtake.core.recipe.recipe import Recipe

T = TypeVar("T")
"""Latents of a block."""
P = TypeVar("P")
"""A prompt, as forwards take it."""
P_co = TypeVar("P_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Course(Protocol[T_co, P_co]):
    """What a stream is a function of beside its recipe. Of a block is asked once that is begun, as it may not be
    settled before."""

    @property
    def blocks(self) -> int | None:
        """How many the stream has; where blocks see later ones, the last ones depend on it."""
        ...

    @property
    def given_frames(self) -> int:
        """So many latent frames at its beginning are given."""
        ...

    def given(self, frames: range) -> T_co:
        """These frames, which are given."""
        ...

    @property
    def reference(self) -> T_co:
        """The frames of the reference; asked for only if the recipe has one."""
        ...

    def seed(self, block: int) -> int:
        """That of the block's noise."""
        ...

    def text(self, block: int) -> P_co:
        """The block's prompt."""
        ...

    def load(self, block: int) -> int:
        """The load under which the block was begun."""
        ...

    def change(self, block: int) -> CueEffect | None:
        """What the cue that takes effect at the block does, beside changing the prompt; None if there is none."""
        ...


REFERENCE = -1
"""The number of a block that stands for the reference, whose frames are -r .. -1 (Knot Forcing, arXiv 2512.21734)."""


def own_frames(recipe: Recipe, block: int) -> range:
    """The frames of a block, or those of the reference."""
    return recipe.blocks.own(block) if block >= 0 else range(-recipe.context.reference_frames, 0)


LoadOf = Callable[[int], int]
"""Under which load each block was begun."""


def no_load(_: int) -> int:
    """That of all blocks of a stream that sheds nothing."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Generic[P]):
    """The course of a stream of which everything is known beforehand, but for what is given."""

    number: int
    """Its seed."""
    texts: Mapping[int, P]
    """Its prompts, by the first blocks that they apply to."""
    changes: Mapping[int, CueEffect] = field(default_factory=dict)
    """What its cues do, by their blocks."""
    loads: LoadOf = no_load
    blocks: int | None = None

    def seed(self, block: int) -> int:
        """See Course."""
        return self.number

    def text(self, block: int) -> P:
        """See Course."""
        return self.texts[max(first for first in self.texts if first <= block)]

    def load(self, block: int) -> int:
        """See Course."""
        return self.loads(block)

    def change(self, block: int) -> CueEffect | None:
        """See Course."""
        return self.changes.get(block)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a block sees."""

    own: range
    """Its own frames."""
    reads: Sequence[int]
    """Frames, its own among them, in the order of reading."""
    places: Standing
    """Where they stand."""


@dataclass(frozen=True, slots=True)
class Op(Generic[T, P]):
    """One forward over a block, or a part of one over several."""

    block: int
    latents: T
    text: P
    timestep: float
    sight: Sight


class LaneOf(Protocol[T, P]):
    """The frames of one lane: what each layer has left of them."""

    def run(self, *ops: Op[T, P]) -> list[T]:
        """What leaves the last layer of each op of one forward, in which all of a layer is written before it is read.

        What is left of the ops' own frames stays in the lane.
        """
        ...

    def fold(self, frames: Sequence[int], into: int) -> None:
        """In each layer these frames become one, which is called `into`."""
        ...

    def forget(self, kept: Sequence[int], before: int) -> None:
        """Drop the frames before this one that are not kept."""
        ...


class Forwards(Protocol[T, P]):
    """What computes the blocks of streams by one recipe."""

    def lane(self) -> LaneOf[T, P]:
        """An empty one."""
        ...

    def noise(self, seed: int, block: int, frames: int) -> T:
        """What a block of so many frames starts from."""
        ...

    def stepped(self, op: Op[T, P], left: T, step: int, entered: int | None, seed: int) -> T:
        """What a denoise op at `step` puts out, by what left its forward; it enters another step next, or is x0."""
        ...

    def noised(self, latents: T, sigma: float, seed: int, block: int, draw: int) -> T:
        """Finished latents, taken back to a noise level with this draw."""
        ...


def finished(recipe: Recipe, forwards: Forwards[T, P], course: Course[T, P]) -> Iterator[T]:
    """Finished latents of block 0, 1, … of a stream; for ever, but where blocks step together and `blocks` says so."""
    stream = Stream(recipe=begun_with(recipe, course.given_frames), forwards=forwards, course=course)
    return stream.staggered() if recipe.level is Level.STAGGERED else stream.apart()


def begun_with(recipe: Recipe, given_frames: int) -> Recipe:
    """The recipe as it is for streams of which so many frames are given: they are whole blocks."""
    plan = recipe.blocks
    later = given_frames - plan.lead
    if not given_frames or (later >= 0 and later % plan.frames == 0):
        return recipe
    first = given_frames % plan.frames or plan.frames
    return replace(recipe, blocks=BlockPlan(frames=plan.frames, first_frames=first))


@dataclass(slots=True, kw_only=True)
class Stream(Generic[T, P]):
    """A stream on its way."""

    recipe: Recipe
    """It divides the stream into blocks as what is given does."""
    forwards: Forwards[T, P]
    course: Course[T, P]
    lanes: list[LaneOf[T, P]] = field(init=False)
    left: list[dict[int, tuple[T, float]]] = field(init=False)
    """By lane and block, the latents whose K/V is read of it, and the timestep that the model was told of them."""
    renewed: list[int] = field(default_factory=list)
    """The block of the last recache: of those that moved the sinks only that one counts."""
    scene: Scene = field(default_factory=Scene)
    """Where it stands, if cues may cut."""
    begins: dict[int, P] = field(default_factory=dict)
    """The prompts of the first blocks of its shots."""

    def __post_init__(self) -> None:
        self.lanes = [self.forwards.lane() for _ in range(self.recipe.lane_count)]
        self.left = [{} for _ in self.lanes]

    @property
    def given_blocks(self) -> int:
        """So many blocks are given."""
        frames = self.course.given_frames
        return self.recipe.blocks.block_of(frames - 1) + 1 if frames else 0

    @property
    def clean_blocks(self) -> int:
        """So many blocks are read as they are when finished, at every step."""
        return self.given_blocks + self.recipe.context.start_blocks

    def apart(self) -> Iterator[T]:
        """The latents of a stream of which each op is a forward for itself (DESIGN section 5, levels and ops)."""
        self._refer()
        for block in count():
            self._renew(block)
            self._fold(block)
            text, sight = self.course.text(block), self._sight(block)
            if block < self.given_blocks:
                latents = self.course.given(self.recipe.blocks.own(block))
            else:
                latents = self._made(block, text, sight)
            if self.recipe.level is Level.CLEAN:
                self._commit(0, block, (self._noised(latents, block), self.recipe.commit_timestep(0)), text, sight)
            elif block < self.clean_blocks:
                for lane in range(len(self.lanes)):
                    self._commit(lane, block, (latents, 0.0), text, sight)
            self._forget(block)
            yield latents

    def _refer(self) -> None:
        """Commit the reference into every lane, as a block before block 0 that reads itself alone (Knot Forcing)."""
        if self.recipe.context.reference_frames:
            op = Op(REFERENCE, self.course.reference, self.course.text(0), 0.0, self._sight(REFERENCE))
            for lane in self.lanes:
                lane.run(op)

    def _sight(self, block: int) -> Sight:
        """What a block sees as it is made; of a story that is the one that comes next."""
        is_told = self.recipe.cues.cut
        reads = self.scene.reads(self.recipe, block) if is_told else read_by(self.recipe, block, self.renewed)
        return self._seen(block, reads)

    def _seen(self, block: int, reads: Sequence[int]) -> Sight:
        """What a block sees that reads these frames."""
        own, is_told = own_frames(self.recipe, block), self.recipe.cues.cut
        places = self.scene.standing(self.recipe, own, reads) if is_told else standing(self.recipe, own, reads)
        return Sight(own, reads, places)

    def _made(self, block: int, text: P, sight: Sight) -> T:
        """A block through its steps, which are committed one by one at level OUTPUT."""
        recipe, seed = self.recipe, self.course.seed(block)
        latents = self.forwards.noise(seed, block, recipe.blocks.made(block))
        entries = recipe.steps.entries(block - self.given_blocks, self.course.load(block))
        steps = [recipe.steps.ladder.index(entry) for entry in entries]
        for step, entered in zip(steps, (*steps[1:], None), strict=True):
            lane = 0 if recipe.level is Level.CLEAN else step
            op = Op(block, latents, text, recipe.timesteps[step], sight)
            (left,) = self.lanes[lane].run(op)
            latents = self.forwards.stepped(op, left, step, entered, seed)
            if recipe.level is Level.INPUT:
                self.left[lane][block] = op.latents, op.timestep
            elif recipe.level is Level.OUTPUT and block >= self.clean_blocks:
                timestep = 0.0 if entered is None else recipe.timesteps[entered]
                self._commit(lane, block, (latents, timestep), text, sight)
        return latents

    def _commit(self, lane: int, block: int, what: tuple[T, float], text: P, sight: Sight) -> None:
        self.left[lane][block] = what
        self.lanes[lane].run(Op(block, what[0], text, what[1], sight))

    def _fold(self, block: int) -> None:
        """Make one of each k frames of the memory and of those that have no room beside this block (SoulX-LiveAct)."""
        recipe, own, window = self.recipe, self.recipe.blocks.own(block), self.recipe.window_frames
        k, sinks, memory = recipe.memory.fold_frames, recipe.sink_frames, recipe.context.memory_frames
        if not k or window is None or own.stop <= window:
            return
        ring = window - sinks - memory
        row = [*range(sinks, sinks + memory), *(frame - ring for frame in own)]
        for lane in self.lanes:
            for number in range(memory):
                lane.fold(row[number * k :][:k], sinks + number)

    def _renew(self, block: int) -> None:
        """What every lane does between two blocks, because of the cue of the second one."""
        change = self.course.change(block) if block else None
        if self.recipe.cues.cut:
            self._cut(block, change)
        elif change is CueChange.RECACHE:
            self._recache(block)

    def _recache(self, block: int) -> None:
        """Everything that is remembered, with the prompt of `block`."""
        made, text = recached(self.recipe, block, self.renewed), self.course.text(block)
        sights = {each: self._seen(each, reads) for each, reads in made.reads.items()}
        for lane, left in zip(self.lanes, self.left, strict=True):
            ops = [Op(each, left[each][0], text, left[each][1], sight) for each, sight in sights.items()]
            if self.recipe.cues.change is CueRule.JOINT:
                lane.run(*ops)
            else:
                for op in ops:
                    lane.run(op)
        self.renewed[:] = [block]

    def _cut(self, block: int, change: CueEffect | None) -> None:
        """The story goes on to `block`; the shot that it goes back to is committed anew, with the prompt it had."""
        again = self.scene.again(self.recipe, change)
        if again is not None:
            ((target, reads),) = again.reads.items()
            sight = self._seen(target, reads)
            for lane, left in zip(self.lanes, self.left, strict=True):
                lane.run(Op(target, left[target][0], self.begins[target], left[target][1], sight))
        if block:
            self.scene.enters(self.recipe, block, change)
        if self.scene.first == block:
            self.begins[block] = self.course.text(block)

    def staggered(self) -> Iterator[T]:
        """The latents of a stream whose blocks step together, iteration by iteration."""
        recipe, (lane,), blocks = self.recipe, self.lanes, self.course.blocks
        steps, lag = recipe.step_count, recipe.context.lag
        latents: dict[int, T] = {}
        done: dict[int, int] = {}
        texts: dict[int, P] = {}
        begun = 0
        for iteration in count():
            if iteration % lag == 0 and (blocks is None or begun < blocks):
                done[begun], texts[begun] = 0, self.course.text(begun)
                latents[begun] = self.forwards.noise(self.course.seed(begun), begun, recipe.blocks.made(begun))
                begun += 1
            if not done:
                return
            newest, times = max(done), (*recipe.timesteps, 0.0)
            sees = {block: newest if recipe.context.both_ways and done[block] < steps else block for block in done}
            ops = [
                Op(
                    block,
                    latents[block],
                    texts[block],
                    times[done[block]],
                    self._seen(block, read_by(recipe, sees[block], ())),
                )
                for block in done
            ]
            for op, left in zip(ops, lane.run(*ops), strict=True):
                step = done[op.block]
                done[op.block] += 1
                if step == steps:
                    del done[op.block], latents[op.block], texts[op.block]
                    continue
                entered = None if step + 1 == steps else step + 1
                latents[op.block] = self.forwards.stepped(op, left, step, entered, self.course.seed(op.block))
                if entered is None:
                    yield latents[op.block]
            self._forget(min(done, default=begun))

    def _noised(self, latents: T, block: int) -> T:
        """Latents with the noise of the context, for which the draw behind those of the steps is taken."""
        sigma, draw = self.recipe.commit_sigma, self.recipe.step_count
        return self.forwards.noised(latents, sigma, self.course.seed(block), block, draw) if sigma else latents

    def _forget(self, block: int) -> None:
        """Drop what neither a later block nor a recache reads once `block` is done."""
        recipe, size = self.recipe, self.recipe.window_frames
        if size is None or recipe.cues.change is CueRule.FULL:
            return
        first = recipe.blocks.first_frame(block)
        sinks = [frame for frame in self._sight(block).reads if frame <= first - size]
        oldest = first - size - recipe.blocks.most
        for lane, left in zip(self.lanes, self.left, strict=True):
            lane.forget([*range(recipe.sink_frames), *sinks], oldest)
            for gone in [each for each in left if recipe.blocks.own(each).stop <= oldest and each not in self.begins]:
                del left[gone]
