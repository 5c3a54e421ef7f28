"""Memory: what becomes of the frames that leave the window; they are dropped, or folded into pages that stay.

Theory of operation. SoulX-LiveAct's ConvKV, for any sizes that fit. With s sinks, m frames of memory, k pages folded
into one, F frames in a block and W in the window, what a lane holds between two blocks is, by age,

    sinks 0 .. s-1      memory M(0) .. M(m-1)      the last W - s - m frames of the stream

The first m frames after the sinks lie where the memory will be, and are plain frames until the first fold. That comes
before the first block for which the window has no room: from then on F frames leave with each block, the oldest F of
the window, and before the block begins, in every lane for itself, the m pages of the memory and the F that leave, in
this order, are cut into m groups of k, and group i becomes M(i):

    block 2      M(0) <- frames 2, 3, 4, 5, 6             M(1) <- frames 7, 8, 9, 10, 11
    block 3      M(0) <- M(0), M(1), frames 12, 13, 14    M(1) <- frames 15, 16, 17, 18, 19
    (s = 2, m = 2, k = 5, F = 8, W = 14, and 6 frames in block 0, as in LiveAct)

So a page of memory is folded again with every block, and m k = m + F must hold; and the window must be full exactly as
a block ends, or the first fold would lack frames. Nothing else is defined, and everything else is refused
(memory_rules.py).

A fold is of keys without their place on the time axis, since what comes of it has another: it stands where its slot
does, which is why places must be listed. It belongs to the first op of the block in its lane and to no other: whoever
runs that again runs on what the fold has left. As it takes what it has made before, a memory depends on everything
since the stream began: a lane that is rebuilt from less has another one (`Retention.continuity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longtake.core.errors import InvalidField


class OnLeave(Enum):
    """What becomes of a frame that leaves the window."""

    DROP = "drop"
    """Nothing: no later block knows of it."""
    FOLD = "fold"
    """It becomes a part of the memory (SoulX-LiveAct)."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """How the memory of a stream is made."""

    on_leave: OnLeave = OnLeave.DROP
    fold_frames: int = 0
    """k: pages that become one; 0: none do."""

    def __post_init__(self) -> None:
        if self.fold_frames and self.fold_frames < 2:
            raise InvalidField("recipe.fold_frames", self.fold_frames, "2 or more latent frames, or 0")

    @property
    def folds(self) -> bool:
        """Whether what leaves the window is folded."""
        return self.on_leave is OnLeave.FOLD

    def check_tokens(self, tokens_per_frame: int) -> None:
        """InvalidField if a frame of so many tokens cannot be folded: tokens of two frames would become one."""
        if self.folds and tokens_per_frame % self.fold_frames:
            allowed = f"a divisor of {tokens_per_frame}, the tokens of a latent frame: neighbours become one"
            raise InvalidField("recipe.fold_frames", self.fold_frames, allowed)


DROPPING = MemoryPolicy()
"""What becomes of frames where nothing is said."""
