"""The block plan: which latent frames each block of a stream makes."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.errors import InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """How the latent frames 0, 1, 2, … of a stream are divided into blocks."""

    frames: int
    """Latent frames of a block."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InvalidField("recipe.frames_per_block", self.frames, "1 or more latent frames")

    def first_frame(self, block: int) -> int:
        """Number of the first latent frame of `block`."""
        return block * self.frames

    def own(self, block: int) -> range:
        """The latent frames that `block` makes."""
        return range(block * self.frames, (block + 1) * self.frames)

    def block_of(self, frame: int) -> int:
        """The block that makes latent frame `frame`."""
        return frame // self.frames
