"""Shots: what is remembered of the shots of a story, and how one follows another.

Theory of operation (LongLive 2.0). A cue may cut: a new shot begins at its block. From there on no block reads what the
window held before; sinks stay in sight, and so do the first blocks of earlier shots, on a shelf of `shot_frames`. The
first block of a shot comes onto the shelf when the shot is over, or before when it leaves the window: then blocks of
its own shot read it there. The shelf is a queue: when it is full, what came first leaves.

A cue may go back to an earlier shot: that is a cut, too, and the first block of that shot comes onto the shelf as the
newest, committed anew from its latents with the prompt that it was made with. It then reads itself and the sinks before
it and nothing else, whether or not it was still on the shelf. So what it is depends on its latents, its prompt and the
sinks alone; what else is on the shelf came there in one of the last shots, as many as it has room for. That bounds what
a lane is rebuilt from: in L layers, no further than L times as many shots back.

A block whose frames are all sinks needs no shelf: it is in sight anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import Back, CueChange, CueEffect

REMEMBERED_SHOTS = 16
"""A stream may go back to one of so many shots, the newest: their first blocks are kept."""


class Pin(NamedTuple):
    """The first block of a shot."""

    block: int
    shot: int
    """The number of the shot, from 0."""
    again: int = -1
    """The block before which it was committed anew, because the story goes back to it; -1: it is as it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A shot, as it begins."""

    number: int = 0
    first: int = 0
    """Its first block."""
    shelf: tuple[Pin, ...] = ()
    """What its blocks see of the shots before; what leaves first comes first."""
    known: tuple[Pin, ...] = (Pin(0, 0),)
    """The shots that it, or what follows it, may go back to, itself the last one."""

    @property
    def is_first(self) -> bool:
        """Whether nothing was cut yet."""
        return self.first == 0

    @property
    def pin(self) -> Pin:
        """Its first block."""
        return Pin(self.first, self.number)

    def pinned(self, room: int, *, own: bool) -> tuple[Pin, ...]:
        """What is on a shelf with room for so many, with its `own` first block as the newest if that is there."""
        return _newest((*self.shelf, self.pin) if own else self.shelf, room)

    def number_of(self, block: int, room: int) -> int:
        """The number of the shot that a block belongs to, one of this shot or one that is remembered."""
        if block >= self.first:
            return self.number
        return next((pin.shot for pin in self.pinned(room, own=False) if pin.block == block), 0)


FIRST = Shot()


def shot_alone(first: int, number: int) -> Shot:
    """A shot of which nothing is known that was before."""
    return Shot(number=number, first=first, known=(Pin(first, number),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """How shots follow one another by one recipe."""

    can_cut: bool
    room: int
    """So many first blocks have room on the shelf."""
    sinks: int
    """Latent frames."""
    blocks: BlockPlan

    def next(self, shot: Shot, block: int, effect: CueEffect) -> Shot:
        """The shot that begins at `block`, with a cue that cuts or goes back; one to a shot that is not known cuts."""
        shelf = shot.shelf if self.is_sunk(shot.first) else (*shot.shelf, shot.pin)
        target = self.target(shot, effect)
        if target is not None and not self.is_sunk(target.block):
            shelf = (*(pin for pin in shelf if pin.block != target.block), target._replace(again=block))
        number = shot.number + 1
        known = (*shot.known, Pin(block, number))[-REMEMBERED_SHOTS:]
        return Shot(number=number, first=block, shelf=_newest(shelf, self.room), known=known)

    def target(self, shot: Shot, effect: CueEffect) -> Pin | None:
        """The shot that a cue goes back to, in or behind `shot`; None if it does not, or the shot is not known."""
        if not isinstance(effect, Back):
            return None
        return next((pin for pin in shot.known if pin.shot == effect.shot), None)

    def is_sunk(self, block: int) -> bool:
        """Whether all frames of a block are sinks."""
        return self.blocks.own(block).stop <= self.sinks

    def again(self, shot: Shot) -> Pin | None:
        """What is committed anew before the first block of a shot; None if that is nothing."""
        return next((pin for pin in reversed(shot.shelf) if pin.again == shot.first), None)


def cuts(effect: CueEffect) -> bool:
    """Whether a cue begins a new shot."""
    return effect is CueChange.CUT or isinstance(effect, Back)


def _newest(pins: tuple[Pin, ...], room: int) -> tuple[Pin, ...]:
    return pins[len(pins) - room :] if len(pins) > room else pins
