"""The window: which latent frames a block attends to, and where in its lane each of them lies.

Theory of operation. A lane keeps the K/V of its sinks and of a sliding window that includes the block in flight. Frame
f lives in slot f (a sink) or sinks + (f - sinks) mod ring, where ring = window - sinks: a new frame takes the slot of
the one frame that has just left the window, and nothing is ever moved. Until the window is full slot and frame are the
same number, and from then on every slot is read, so what a block reads is always a prefix of the slots. The slots in
ascending order are the canonical order in which keys are presented to attention: mathematically the order is free, bit
for bit it is not (floating-point sums are not associative).

Where a cue may cut (shots.py), a shelf comes between sinks and window: sinks, shelf, ring. Which frames are on the
shelf (shelf.py), and from which on the window is in sight, is that of one shot, and so is a `Window` then: `of_shot`.
The ring begins anew with each shot, as it does with a stream. A frame that is in sight in two such windows may lie in
different slots, so pages change slots where one follows the other (pages.py); and not all slots before the last one are
read.

Where blocks step together (joint.py), older ones still read what has left the window of the newest. Then a lane keeps
so many frames more: the ring of its slots is longer, and the order in which keys are presented is that of the window
all the same, by (f - sinks) mod ring.

Memory (memory.py). The last of the sinks' slots may be those of the memory: what lies there are the first frames behind
the sinks until the first fold, and then what was folded. Nothing else is different: a page of memory is named by the
frame whose slot it has, and read in that place.

A reference (references.py) takes the first slots, and comes first in the canonical order: its frames are -r .. -1, all
others lie r slots further on, and the ring is r frames shorter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.shelf import Shelf
from longtake.core.recipe.shots import Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The frames that blocks of one recipe read, and their slots."""

    blocks: BlockPlan
    size: int
    """Frames that a block reads at most: the whole window, or all of a finite stream that is shorter or has none."""
    sinks: int
    """The first frames of a stream, which every block reads; those of the memory's slots, the last ones, among them."""
    ring: int | None
    """Frames of the window in which later ones take turns; None if no frame ever leaves."""
    behind: int = 0
    """Slots that a lane has beside, for what only older blocks read that are not finished."""
    sinks_from: int = 0
    """The first of the sinks; later than 0 only after a recache that has moved them, when the window is full."""
    is_renewed: bool = False
    """Whether what was sealed may be written anew, sinks and all (recipe/renewals.py)."""
    memory: int = 0
    """How many of the sinks' slots hold what was folded."""
    shelf: Shelf
    """What is in sight of shots, for blocks of one of them."""
    references: int = 0
    """Frames of the reference, which every block reads; 0 where a stream may be cut."""

    @property
    def span(self) -> int:
        """Frames of the stream itself that a block reads at most."""
        return self.size - self.references

    @property
    def reference_frames(self) -> range:
        """The frames of the reference, which come before all others."""
        return range(-self.references, 0)

    def own(self, block: int) -> range:
        """The frames of a block, or those of the reference, which goes by the number -1."""
        return self.blocks.own(block) if block >= 0 else self.reference_frames

    @property
    def slots(self) -> int:
        """Slots of a lane."""
        return self.size + self.behind

    @property
    def sink_frames(self) -> range:
        """The frames that every block reads."""
        return range(self.sinks_from, self.sinks_from + self.sinks)

    def moved(self, sinks_from: int) -> Window:
        """The same window with other sinks."""
        return self if sinks_from == self.sinks_from else replace(self, sinks_from=sinks_from)

    @property
    def has_gaps(self) -> bool:
        """Whether what a block reads need not be the first slots: there is a shelf, or the stream was cut."""
        return self.shelf.slots > 0 or not self.shelf.shot.is_first

    def of_shot(self, shot: Shot, block: int) -> Window:
        """The same window for a block of a shot."""
        oldest = 0 if self.ring is None else self.blocks.own(block).stop - self.ring
        shelf = self.shelf.of(shot, oldest)
        return self if shelf is self.shelf else replace(self, shelf=shelf)

    def at(self, block: int) -> Window:
        """The same for another block of the shot that it is for."""
        return self.of_shot(self.shelf.shot, block)

    def count(self, block: int) -> int:
        """How many frames, and so pages, `block` reads."""
        if self.has_gaps:
            return len(self.frames(block))
        return min(self.own(block).stop + self.references, self.size)

    def frames(self, block: int) -> tuple[int, ...]:
        """The frames that `block` attends to, its own among them, ascending.

        They are all of its own frames and every earlier frame g with g < sinks or g >= end - ring, where `end` is the
        frame after its last (hiar_spec 2.2).
        """
        end, oldest = self.blocks.own(block).stop, self.oldest(block)
        sinks, before = self.sink_frames, self.reference_frames
        if self.has_gaps:
            return tuple(sorted({*sinks[:end], *self.shelf.frames, *range(oldest, end)}))
        seen = tuple(range(sinks.start, end)) if oldest <= sinks.stop else (*sinks, *range(oldest, end))
        return (*before, *seen) if before else seen

    def oldest(self, block: int) -> int:
        """The oldest frame that `block` attends to, sinks left out."""
        end = self.blocks.own(block).stop
        last_sink = max(self.sinks_from + self.sinks, self.shelf.begin)
        return last_sink if self.ring is None else max(last_sink, end - self.ring)

    def slot(self, frame: int) -> int:
        """The slot of a lane in which `frame` lives."""
        if frame < 0:
            return self.references + frame
        if frame < self.sinks_from + self.sinks or self.ring is None:
            return self.references + frame - self.sinks_from
        if self.has_gaps:
            return self._slot_beside_shots(frame, self.shelf.frames)
        return self.references + self.sinks + (frame - self.sinks) % (self.ring + self.behind)

    def _slot_beside_shots(self, frame: int, shelved: list[int]) -> int:
        """The slot of a frame that is no sink, if these frames are on the shelf."""
        assert self.ring is not None
        if frame in shelved:
            return self.sinks + shelved.index(frame)
        origin = max(self.sinks, self.shelf.begin)
        return self.sinks + self.shelf.slots + (frame - origin) % self.ring

    def order(self, frame: int) -> int:
        """Where the keys of `frame` come in the canonical order, among all that a block reads."""
        if self.has_gaps:
            return self.slot(frame)
        if frame < 0:
            return self.references + frame
        if frame < self.sinks_from + self.sinks or self.ring is None:
            return self.references + frame - self.sinks_from
        return self.references + self.sinks + (frame - self.sinks) % self.ring

    def in_order(self, frames: Iterable[int]) -> list[int]:
        """The slots of these frames, which one block reads, in canonical order."""
        return [self.slot(frame) for frame in sorted(frames, key=self.order)]

    def own_slots(self, block: int) -> tuple[int, ...]:
        """The slots of the block's own frames, in the order of the frames."""
        own, before = self.own(block), self.references
        if self.has_gaps:
            return tuple(map(self.slot, own))
        if (own.stop + before <= self.slots and not self.sinks_from) or self.ring is None or block < 0:
            return tuple(range(own.start + before, own.stop + before))
        ring, sinks, first = self.ring + self.behind, self.sinks, self.sinks_from
        slots = [sinks + (frame - sinks) % ring if frame >= first + sinks else frame - first for frame in own]
        return tuple([before + slot for slot in slots] if before else slots)

    def kept_slots(self, block: int) -> tuple[int, ...]:
        """The slots of what is read from `block` on and not written by it, ascending.

        They are the whole state of a lane at the boundary before that block. Where blocks step together, some
        iterations begin none: what lies in the slots of the next block may be read until then.
        """
        if self.has_gaps:
            read = set(self.at(block).frames(block)) - set(self.blocks.own(block))
            return tuple(sorted(map(self.slot, read)))
        if self.behind:
            return tuple(range(min(self.blocks.own(block).start, self.slots)))
        own, end = set(self.own_slots(block)), self.blocks.own(block).stop
        if self.folded_before(block):  # what the block writes over is folded first
            return tuple(range(self.slots))
        return tuple(slot for slot in range(min(end + self.references, self.slots)) if slot not in own)

    def is_lasting(self, slot: int) -> bool:
        """Whether what was sealed in `slot` stays there to the end of the stream."""
        if self.has_gaps:
            return False
        if slot < self.references:
            return True
        return not self.is_renewed and (self.ring is None or slot < self.references + self.sinks - self.memory)

    @property
    def memory_slots(self) -> range:
        """The slots of the memory; there is no reference beside one."""
        return range(self.sinks - self.memory, self.sinks)

    def folded_before(self, block: int, missing: range = range(0)) -> range:
        """The slots of the memory if frames leave the window as `block` begins, none of a block in `missing`."""
        own, ring = self.blocks.own(block), self.ring or 0
        if not self.memory or own.stop <= self.sinks + ring:
            return range(0)
        is_whole = not any(self.blocks.block_of(frame - ring) in missing for frame in own)
        return self.memory_slots if is_whole else range(0)
