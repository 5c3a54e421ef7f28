"""The shelf: the first blocks of shots, as far as blocks of one shot see them (shots.py).

In a lane its slots come between those of the sinks and those in which the frames of the shot take turns; they are taken
in the order of the frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.shots import FIRST, Pin, Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What is on the shelf for blocks of one shot."""

    blocks: BlockPlan
    sinks: int
    """The first frames of a stream, which every block reads: they need no shelf."""
    slots: int = 0
    shot: Shot = FIRST
    has_left: bool = False
    """Whether the first block of the shot has left the window, and is on the shelf."""

    @property
    def begin(self) -> int:
        """The first frame of the shot."""
        return self.blocks.first_frame(self.shot.first)

    @property
    def frames(self) -> list[int]:
        """The frames that are on it, ascending: in the order of its slots."""
        return sorted(frame for pin in self._pins for frame in self.blocks.own(pin.block) if frame >= self.sinks)

    @property
    def _pins(self) -> tuple[Pin, ...]:
        return self.shot.pinned(self.slots // self.blocks.frames, own=self.has_left)

    def shot_of(self, block: int) -> int:
        """The number of the shot that a block belongs to which is in sight, or is committed anew."""
        return self.shot.number_of(block, self.slots // self.blocks.frames)

    def of(self, shot: Shot, oldest: int) -> Shelf:
        """The same for blocks of a shot before which the window has dropped every frame before `oldest`."""
        is_gone = self.slots > 0 and self.blocks.first_frame(shot.first) < oldest
        has_left = is_gone and self.blocks.own(shot.first).stop > self.sinks
        is_same = shot is self.shot and has_left == self.has_left
        return self if is_same else replace(self, shot=shot, has_left=has_left)
