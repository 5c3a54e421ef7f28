"""The block plan: which latent frames each block of a stream makes."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.errors import InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """How the latent frames 0, 1, 2, … of a stream are divided into blocks."""

    frames: int
    """Latent frames of a block."""
    first_frames: int | None = None
    """Those of block 0; None: as many as of any other. The number of the others means the same as None, and becomes
    it."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InvalidField("recipe.frames_per_block", self.frames, "1 or more latent frames")
        if self.first_frames is not None and self.first_frames < 1:
            raise InvalidField("recipe.first_frames", self.first_frames, "1 or more latent frames, or none")
        if self.first_frames == self.frames:
            object.__setattr__(self, "first_frames", None)

    @property
    def lead(self) -> int:
        """Latent frames of block 0."""
        return self.frames if self.first_frames is None else self.first_frames

    @property
    def most(self) -> int:
        """Latent frames of the largest block."""
        return max(self.frames, self.lead)

    def made(self, block: int) -> int:
        """How many latent frames `block` makes."""
        return self.frames if block else self.lead

    def first_frame(self, block: int) -> int:
        """Number of the first latent frame of `block`."""
        return self.lead + (block - 1) * self.frames if block else 0

    def own(self, block: int) -> range:
        """The latent frames that `block` makes."""
        end = self.lead + block * self.frames
        return range(end - self.frames if block else 0, end)

    def block_of(self, frame: int) -> int:
        """The block that makes latent frame `frame`."""
        return 0 if frame < self.lead else 1 + (frame - self.lead) // self.frames
