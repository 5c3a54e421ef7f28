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

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.places import Standing, turned, written
from benchmarks.recaches import Recached
from longtake.core.recipe.recipe import Recipe

Story = Sequence[tuple[int, int | None]]


@dataclass
class Scene:
    """Where a story stands."""

    number: int = 0
    first: int = 0
    """The first block of the shot."""
    shelf: list[int] = field(default_factory=list)
    """First blocks of shots, as they came."""
    starts: list[int] = field(default_factory=lambda: [0])
    """The first block of each shot so far."""

    def puts(self, recipe: Recipe, block: int) -> None:
        """A first block comes onto the shelf, if there is anything of it that is no sink."""
        if recipe.blocks.own(block).stop > recipe.sink_frames:
            self.shelf = [*(each for each in self.shelf if each != block), block]
            room = recipe.context.shot_frames // recipe.blocks.frames
            self.shelf = self.shelf[-room:] if room else []


def scene(recipe: Recipe, block: int, story: Story) -> Scene:
    """Where a story stands when a block is made, told from its beginning."""
    cuts, now = dict(story), Scene()
    ring = (recipe.window_frames or 0) - recipe.sink_frames - recipe.context.shot_frames
    for each in range(1, block + 1):
        if each in cuts:
            if now.first not in now.shelf:
                now.puts(recipe, now.first)
            target = cuts[each]
            if target is not None and target < len(now.starts):
                now.puts(recipe, now.starts[target])
            now.number, now.first = now.number + 1, each
            now.starts.append(each)
        elif now.first not in now.shelf and recipe.blocks.first_frame(now.first) < recipe.blocks.own(each).stop - ring:
            now.puts(recipe, now.first)
    return now


def read_in(recipe: Recipe, block: int, story: Story) -> list[int]:
    """What a block reads, its own frames among it, as the keys are presented: sinks, shots, then the window.

    There its frames take turns from the beginning of the shot on.
    """
    now, end = scene(recipe, block, story), recipe.blocks.own(block).stop
    sinks = [frame for frame in range(recipe.sink_frames) if frame < end]
    shots = [frame for first in sorted(now.shelf) for frame in recipe.blocks.own(first) if frame not in sinks]
    ring = (recipe.window_frames or 0) - recipe.sink_frames - recipe.context.shot_frames
    begin = max(recipe.blocks.first_frame(now.first), recipe.sink_frames)
    window = [frame for frame in range(max(begin, end - ring), end) if frame not in shots]
    return [*sinks, *shots, *sorted(window, key=lambda frame: (frame - begin) % ring)]


def again(recipe: Recipe, block: int, story: Story) -> Recached | None:
    """What is made anew before a block where the story goes back; None if it does not, or that is all sinks."""
    target, starts = dict(story).get(block), scene(recipe, block - 1, story).starts
    if target is None or target >= len(starts):
        return None
    own = recipe.blocks.own(starts[target])
    if own.stop <= recipe.sink_frames:
        return None
    sinks = [frame for frame in range(recipe.sink_frames) if frame < own.start]
    return Recached([*own], {recipe.blocks.block_of(own.start): [*sinks, *own]})


def shots_of(recipe: Recipe, frames: Sequence[int], story: Story) -> dict[int, int]:
    """The number of the shot that each frame belongs to."""
    blocks = {frame: recipe.blocks.block_of(frame) for frame in frames}
    return {frame: sum(cut <= at for cut, _ in story) for frame, at in blocks.items()}


def standing_in(recipe: Recipe, own: Sequence[int], seen: Sequence[int], story: Story) -> Standing:
    """The places of a block with these own frames: each shot stands so much further on than the one before."""
    further = {
        frame: recipe.positions.shot_offset * number for frame, number in shots_of(recipe, [*seen, *own], story).items()
    }
    if recipe.positions.plain() == "absolute":
        return written(recipe, own, seen, {frame: frame + further[frame] for frame in seen})
    place = {frame: number + further[frame] for number, frame in enumerate(sorted(seen))}
    return turned(recipe, own, seen, place)
