"""Renewals: what a lane commits anew before it begins a block, because the prompt changes there.

Theory of operation. A renewal is nothing but the ops that seal a lane's pages, run once more over blocks that are done,
from the latents that they started from, with the conditioning of the block that comes. So it is a pure function of the
recipe and of the blocks at which cues recache; a rebuild of the lane runs the same ops again and gets the same bits.

With W frames in the window, k sinks and the coming block's first frame c:

    recache-window   the past blocks of the window of the coming block, each reading itself and those before it
    recache-joint    the blocks of the last W - k frames, in one forward, each reading all of them
    recache-full     all blocks, each reading what it read when it was made

Sinks (LongLive v1, arXiv 2509.22622, as its code does it). While nothing has left the window, c <= W, they are
committed anew with everything else. After that they are read and stay as they are (`keep_sinks`), or the blocks of the
last W frames are committed anew and the first k of those frames are the sinks from then on, at their own positions.
A reference (references.py) is read by all and stays as it is; W is what it leaves of the window.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a lane commits anew before `block`."""

    block: int
    version: int
    """Of the conditioning: that of `block`, or of the shot that a story goes back to (recipe/shots.py)."""
    blocks: range
    """The blocks that are committed anew, in this order; the last one comes before `block`."""
    kept: range
    """Frames that are read as they are: sinks."""
    window: Window
    """That of the lane from then on."""
    is_joint: bool
    """Whether the blocks read one another, so that they are one dispatch."""

    def reads(self, block: int) -> list[int]:
        """The frames that the commit of `block` reads, its own among them, ascending."""
        window, blocks = self.window, self.window.blocks
        if not self.is_recache:
            return [*window.reference_frames]
        end = blocks.first_frame(self.block if self.is_joint else block + 1)
        oldest = 0 if window.ring is None else end - window.ring
        sinks, first = window.sink_frames, blocks.first_frame(self.blocks.start)
        seen = (frame for frame in range(first, end) if frame >= oldest or frame in sinks)
        return [*window.reference_frames, *self.kept, *seen]

    @property
    def is_recache(self) -> bool:
        """Whether blocks are committed anew; else it is the reference that is committed (references.py)."""
        return self.blocks.start >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewing:
    """How the recaches of one recipe are done."""

    cues: CuePolicy
    window: Window
    """That of a stream whose sinks have not moved."""
    most_blocks: int
    """The most blocks that a stream has, where a renewal may commit all of them anew; else it does not matter."""

    @property
    def is_possible(self) -> bool:
        """Whether a cue may recache at all."""
        return self.cues.change is not CueRule.SWAP

    @property
    def moves_sinks(self) -> bool:
        """Whether a recache may make other frames the sinks."""
        return bool(self._has_sinks and not self.cues.keep_sinks)

    @property
    def _has_sinks(self) -> bool:
        """Whether there are frames that a recache has to treat on their own."""
        return self.is_possible and self.window.sinks > 0 and self._has_ring

    @property
    def _has_ring(self) -> bool:
        return self.window.ring is not None and self.cues.change is not CueRule.FULL

    @property
    def reach(self) -> int:
        """How many blocks before its own a renewal may start from, at most."""
        if not self.is_possible:
            return 0
        return 1 + self.window.span // self.window.blocks.frames if self._has_ring else self.most_blocks

    @property
    def lasting_blocks(self) -> int:
        """The first blocks of a stream, from whose latents sinks may have to be made again as long as it lives."""
        frames = self.window.blocks.frames
        if self._has_sinks and self.cues.change is CueRule.JOINT:
            return self.window.span // frames
        return -(-self.window.sinks // frames)

    def writes_sinks(self, block: int) -> bool:
        """Whether the renewal before `block` commits sinks anew."""
        if self.cues.change is CueRule.FULL:
            return self.window.sinks > 0
        return self._has_sinks and (not self.cues.keep_sinks or self._is_whole(block))

    def moved(self, block: int | None) -> Window:
        """The window of a lane whose last renewal was the one before `block`; None: there was none."""
        if block is None or not self.moves_sinks or self._is_whole(block):
            return self.window
        return self.window.moved(self.window.blocks.first_frame(block) - self.window.span)

    def renewal(self, block: int, version: int) -> Renewal:
        """The renewal before `block`, whose conditioning is of this version."""
        keeps = self._has_sinks and not self.writes_sinks(block)
        return Renewal(
            block=block,
            version=version,
            blocks=range(self._first(block), block),
            kept=self.window.sink_frames if keeps else range(0),
            window=self.moved(block),
            is_joint=self.cues.change is CueRule.JOINT,
        )

    def _is_whole(self, block: int) -> bool:
        """Whether nothing has left the window when `block` begins."""
        return self.window.blocks.first_frame(block) <= self.window.span

    def _first(self, block: int) -> int:
        """The first block that the renewal before `block` commits anew."""
        window, blocks = self.window, self.window.blocks
        if not self._has_ring or (self._has_sinks and self._is_whole(block)):
            return 0
        if self.moves_sinks:
            return block - window.span // blocks.frames
        if self.cues.change is CueRule.WINDOW:
            return blocks.block_of(window.oldest(block))
        oldest = window.oldest(block - 1)
        first = blocks.block_of(oldest)
        return first + (blocks.first_frame(first) < oldest)
