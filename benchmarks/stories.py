"""What blocks of a story read, frame by frame: written from the papers and their words, not from the core.

LongLive 2.0. A cut ends a shot; what the window held is out of sight from there on. In sight stay the sinks, which are
the first frames of the stream, and on a shelf the first blocks of shots: each comes there when its shot is over, or
before when the window has gone on past its beginning. Who comes last stays longest. A story that goes back to a shot
has that shot's first block on the shelf once more, as the last one, made anew from what it was made of: it sees itself
and the sinks before it.

A story that would go back to a shot that is not there, because another cue took the block of a cut, cuts.

A story is a list of its cuts: the first block of each new shot, and the number of the shot that it goes back to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.places import Standing, standing, turned, written
from benchmarks.recaches import Recached
from longtake.core.recipe.cues import Back, CueChange, CueEffect
from longtake.core.recipe.recipe import Recipe

Story = Sequence[tuple[int, int | None]]


@dataclass
class Scene:
    """Where a story stands; it goes on block by block."""

    shelf: list[int] = field(default_factory=list)
    """First blocks of shots, as they came."""
    starts: list[int] = field(default_factory=lambda: [0])
    """The first block of each shot so far."""

    @property
    def first(self) -> int:
        """The first block of the shot."""
        return self.starts[-1]

    def enters(self, recipe: Recipe, block: int, change: CueEffect | None) -> None:
        """The next block is to be made, with a cue that does this, if it has one."""
        ring = _ring(recipe)
        if change is CueChange.CUT or isinstance(change, Back):
            target = self.target(change)
            if self.first not in self.shelf:
                self._puts(recipe, self.first)
            if target is not None:
                self._puts(recipe, target)
            self.starts.append(block)
        elif (
            self.first not in self.shelf and recipe.blocks.own(self.first).start < recipe.blocks.own(block).stop - ring
        ):
            self._puts(recipe, self.first)

    def target(self, change: CueEffect | None) -> int | None:
        """The first block of the shot that such a cue goes back to; None if it does not, or there is no such shot."""
        if not isinstance(change, Back) or change.shot >= len(self.starts):
            return None
        return self.starts[change.shot]

    def _puts(self, recipe: Recipe, block: int) -> None:
        """A first block comes onto the shelf, if there is anything of it that is no sink."""
        if recipe.blocks.own(block).stop > recipe.sink_frames:
            self.shelf = [*(each for each in self.shelf if each != block), block]
            room = recipe.context.shot_frames // recipe.blocks.frames
            self.shelf = self.shelf[-room:] if room else []

    def reads(self, recipe: Recipe, block: int) -> list[int]:
        """What the block reads, its own frames among it, as the keys are presented: sinks, shots, then the window.

        There its frames take turns from the beginning of the shot on.
        """
        end = recipe.blocks.own(block).stop
        sinks = [frame for frame in range(recipe.sink_frames) if frame < end]
        shots = [frame for first in sorted(self.shelf) for frame in recipe.blocks.own(first) if frame not in sinks]
        ring = _ring(recipe)
        begin = max(recipe.blocks.first_frame(self.first), recipe.sink_frames)
        window = [frame for frame in range(max(begin, end - ring), end) if frame not in shots]
        return [*sinks, *shots, *sorted(window, key=lambda frame: (frame - begin) % ring)]

    def again(self, recipe: Recipe, change: CueEffect | None) -> Recached | None:
        """What is made anew before a block whose cue goes back from here; None if it does not, or that is all sinks."""
        target = self.target(change)
        own = range(0) if target is None else recipe.blocks.own(target)
        if target is None or own.stop <= recipe.sink_frames:
            return None
        sinks = [frame for frame in range(recipe.sink_frames) if frame < own.start]
        return Recached([*own], {target: [*sinks, *own]})

    def standing(self, recipe: Recipe, own: Sequence[int], seen: Sequence[int]) -> Standing:
        """The places of a block with these own frames: each shot stands so much further on than the one before."""
        places, offset = recipe.positions.plain(), recipe.positions.shot_offset
        if isinstance(places, dict):  # where places come round nothing stays of a shot, and none stands further on
            return standing(recipe, own, seen)
        further = {frame: offset * self.shot_of(recipe, frame) for frame in [*seen, *own]}
        if places == "absolute":
            return written(recipe, own, seen, {frame: frame + further[frame] for frame in seen})
        place = {frame: number + further[frame] for number, frame in enumerate(sorted(seen))}
        return turned(recipe, own, seen, place)

    def shot_of(self, recipe: Recipe, frame: int) -> int:
        """The number of the shot that a frame belongs to."""
        return bisect_right(self.starts, recipe.blocks.block_of(frame)) - 1


def scene(recipe: Recipe, block: int, story: Story) -> Scene:
    """Where a story stands when a block is made, told from its beginning."""
    changes = _changes(story)
    now = Scene()
    for each in range(1, block + 1):
        now.enters(recipe, each, changes.get(each))
    return now


def _ring(recipe: Recipe) -> int:
    """How many frames of the window take turns."""
    return (recipe.window_frames or 0) - recipe.sink_frames - recipe.context.shot_frames


def _changes(story: Story) -> dict[int, CueEffect]:
    """What the cues of a story do, by their blocks."""
    return {first: CueChange.CUT if target is None else Back(target) for first, target in story}


def read_in(recipe: Recipe, block: int, story: Story) -> list[int]:
    """What a block of a story reads: see Scene.reads."""
    return scene(recipe, block, story).reads(recipe, block)


def again(recipe: Recipe, block: int, story: Story) -> Recached | None:
    """What is made anew before a block of a story: see Scene.again."""
    changes = _changes(story)
    return scene(recipe, block - 1, story).again(recipe, changes.get(block))


def told(story: Story) -> Scene:
    """A story as far as it is known, to ask which shots there are and where their frames stand."""
    return Scene(starts=[0, *(first for first, _ in story)])
