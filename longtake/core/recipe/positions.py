"""Positions: the places on the time axis by which queries and keys are rotated.

Theory of operation. A frame that stands in one place for as long as its page lives has its keys rotated once, when they
are written. Where frames move up as others leave the window, keys are stored without their time, which is what a
rotation by place 0 does, and each read turns every page to the place it has then. Nobody but this file knows which of
the two it is: an op carries numbers.

A reference of r frames (references.py) comes before the stream: it stands at 0 .. r - 1, and frame f of the stream at
r + f. Or it runs ahead of it (Knot Forcing, arXiv 2512.21734): then frame f stands at f, and the reference always after
the last frame that is read. It goes on by `reference_stride` when that comes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from longtake.core.errors import InvalidField
from longtake.core.recipe.window import Window


class Numbering(Enum):
    """How places are counted, where no period says it."""

    ABSOLUTE = "absolute"
    """Each latent frame by its number, from the start of the stream."""
    LISTED = "listed"
    """What a block reads, in the order of time, from 0: the reference, the sinks, the window by age, and last the block
    itself (LongLive, arXiv 2509.22622, "infinite attention"). Until the first frame leaves the window, the same as
    absolute."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyclic:
    """Each latent frame by its number modulo a period (Ca2-VDM, arXiv 2411.16375): a frame keeps its place."""

    cyclic: int
    """The period, in latent frames."""

    def __post_init__(self) -> None:
        if self.cyclic < 1:
            raise InvalidField("recipe.positions", {"cyclic": self.cyclic}, "a period of 1 or more latent frames")


StreamPlaces = Cyclic | Numbering
"""How the frames of a stream are placed."""


class Places(NamedTuple):
    """Where the frames that one block reads stand on the time axis."""

    queries: tuple[int, ...]
    """The block's own frames, for their queries."""
    keys: tuple[int, ...]
    """The same, for their keys as they are stored."""
    read: tuple[int, ...]
    """The frame in each slot that the block reads, for keys that are stored without their time; empty if they have
    it."""
    seen: tuple[int, ...] = ()
    """The same whether or not keys are stored with their time, where a slope needs it; else empty."""


class Bias(NamedTuple):
    """What is added to the logits of attention for how far away a key stands."""

    slope: float = 0.0
    """So much for each place from the query on to the key; 0: nothing is added, not even 0."""
    places: tuple[int, ...] = ()
    """Where the keys of each page that is read stand on the time axis."""

    def rows(self, queries: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """slope (place of the key - place of the query) in float64, for each of these queries and each page.

        Nothing if nothing is added (FAR, arXiv 2503.19325, FlexRoPE).
        """
        if not self.slope:
            return ()
        return tuple([tuple([self.slope * (key - query) for key in self.places]) for query in queries])


NO_BIAS = Bias()
"""What is added where a recipe has no slope."""
_STEEPEST = 10.0
"""From here on a frame that is one place further away weighs next to nothing, and logits stay far from infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """The places of all frames of a stream."""

    stream: StreamPlaces = Numbering.ABSOLUTE
    shot_offset: int = 0
    """So many places more for each cut before a frame (LongLive 2.0): frame f of shot n stands n times as much further
    on."""
    reference_lead: int = 0
    """Where the reference stands first if it runs ahead of the stream; 0: it comes before it."""
    reference_stride: int = 1
    """By so many places it runs on."""
    slope: float = 0.0
    """By so much for each place a key loses weight that is further in the past (FAR's FlexRoPE): `Bias`."""

    def __post_init__(self) -> None:
        if self.shot_offset < 0:
            raise InvalidField("recipe.shot_offset", self.shot_offset, "0 or more latent frames")
        if self.reference_lead < 0:
            raise InvalidField("recipe.reference_lead", self.reference_lead, "0 or more places")
        if self.reference_stride < 1:
            raise InvalidField("recipe.reference_stride", self.reference_stride, "1 or more places")
        if not 0.0 <= self.slope <= _STEEPEST:
            raise InvalidField("recipe.slope", self.slope, f"a number from 0 to {_STEEPEST:g}")

    @property
    def turn_reads(self) -> bool:
        """Whether frames move while their pages live, so that keys are turned with every read."""
        return self.stream is Numbering.LISTED or self.reference_lead > 0

    def ahead(self, end: int) -> int:
        """Where the first frame of a reference stands that runs ahead, for who reads the stream's frames before `end`.

        It is lead + stride max(0, ceil((end - lead) / stride)), so never before `end` ("running ahead").
        """
        lead, stride = self.reference_lead, self.reference_stride
        return lead + stride * max(0, -((lead - end) // stride))

    def of(self, window: Window, block: int, frames: Sequence[int] = ()) -> Places:
        """The places of what `block` reads in an undisturbed stream, or of these frames, in the order of time."""
        own = window.own(block)
        if not self.turn_reads and not self.slope:
            fixed = tuple([self._fixed(window, frame) for frame in own])
            return Places(fixed, fixed, ())
        place = self._placed(window, frames or window.frames(block))
        queries = tuple([place[frame] for frame in own])
        by_slot = tuple([place[frame] for frame in sorted(place, key=window.order)])
        stored, read = ((0,) * len(own), by_slot) if self.turn_reads else (queries, ())
        return Places(queries, stored, read, by_slot if self.slope else ())

    def _placed(self, window: Window, frames: Sequence[int]) -> dict[int, int]:
        """Where each of these frames stands, which one block reads."""
        if self.reference_lead:
            first = self.ahead(max(frames) + 1) + window.references
            return {frame: frame if frame >= 0 else first + frame for frame in frames}
        if self.stream is not Numbering.LISTED:
            return {frame: self._fixed(window, frame) for frame in frames}
        place = {frame: number for number, frame in enumerate(frames)}
        return {frame: place[frame] + self._further(window, frame) for frame in place} if self.shot_offset else place

    def _fixed(self, window: Window, frame: int) -> int:
        """Where a frame stands that keeps its place."""
        if isinstance(self.stream, Cyclic):
            return frame % self.stream.cyclic
        return frame + (self._further(window, frame) if self.shot_offset else window.references)

    def _further(self, window: Window, frame: int) -> int:
        """How much further on a frame stands because of the cuts before it."""
        return self.shot_offset * window.shelf.shot_of(window.blocks.block_of(frame))

    def plain(self) -> object:
        """As a file has it."""
        match self.stream:
            case Numbering():
                return self.stream.value
            case Cyclic(cyclic=period):
                return {"cyclic": period}
