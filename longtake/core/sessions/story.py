"""The story of a session: its shots, and which frames a block of each of them sees.

Theory of operation. Each cue that cuts, or goes back, begins a shot (recipe/shots.py). A shot is a small value that
says all that its blocks need of those before it, so shots that are long past can be forgotten: what stays is what a
lane is rebuilt from, and what a cue may go back to. They follow from the cues alone, and are told anew from the first
block whose cue has changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from longtake.core.recipe.shots import FIRST, Shot, Shots, cuts, shot_alone
from longtake.core.sessions.prompts import Turn

_NONE: Mapping[int, int] = {}


@dataclass(slots=True)
class Story:
    """The shots of one session that are known."""

    shots: list[Shot] = field(default_factory=lambda: [FIRST])
    """In their order."""

    def at(self, block: int) -> Shot:
        """The shot that a block belongs to; the oldest that is known for one before."""
        return self.shots[max(0, bisect_right(self.shots, block, key=lambda shot: shot.first) - 1)]

    def retell(self, rule: Shots, turns: Iterable[Turn], block: int, numbers: Mapping[int, int] = _NONE) -> None:
        """Tell the shots from this block on, where a cue has changed, by the turns of the stream.

        `numbers` are those of the shots at some blocks, where it is not known how many were before.
        """
        if not rule.can_cut:
            return
        self.shots = [shot for shot in self.shots if shot.first < max(1, block)]
        for turn in turns:
            if turn.block >= max(1, block) and cuts(turn.change):
                shot = rule.next(self.shots[-1], turn.block, turn.change)
                number = numbers.get(turn.block, shot.number)
                self.shots.append(shot if number == shot.number else shot_alone(turn.block, number))

    def inherit(self, parent: Story, before: int) -> None:
        """Take over the shots of another stream, of which this one has everything `before` a block."""
        own = [shot for shot in self.shots if shot.first >= max(1, before)]
        self.shots = [*(shot for shot in parent.shots if shot.first < max(1, before)), *own]

    def forget_before(self, block: int, keep: Collection[int]) -> None:
        """Drop shots that began before `block`, but for those that began at these blocks."""
        if len(self.shots) > 1:
            self.shots = [shot for shot in self.shots if shot.first >= block or shot.first in keep]
