"""Sizes and times: how pictures, latent frames, tokens and blocks of any model relate to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

from longtake.core.errors import InvalidField
from longtake.core.recipe.blocks import BlockPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Everything that follows from picture size, VAE strides, patch size and frames per block.

    The first latent frame decodes to one picture, every later one to `stride_time` pictures
    (Wan VAE, causal in time), so block 0 is shorter than all others.
    """

    width: int
    height: int
    fps: Fraction
    latent_channels: int
    blocks: BlockPlan
    stride_time: int = 4
    stride_space: int = 8
    patch_space: int = 2
    pictures_per_s: float = field(init=False, repr=False, compare=False)
    """The picture rate where a float will do: deadlines, not presentation times."""

    def __post_init__(self) -> None:
        cell = self.stride_space * self.patch_space
        for name, value in (("video.width", self.width), ("video.height", self.height)):
            if value < cell or value % cell:
                raise InvalidField(name, value, f"a positive multiple of {cell} pixels")
        if self.fps <= 0:
            raise InvalidField("video.fps", str(self.fps), "a positive number of pictures a second")
        object.__setattr__(self, "pictures_per_s", float(self.fps))

    def divided(self, blocks: BlockPlan) -> Geometry:
        """The same model, with its latent frames divided into other blocks."""
        return self if blocks == self.blocks else replace(self, blocks=blocks)

    @property
    def latent_height(self) -> int:
        return self.height // self.stride_space

    @property
    def latent_width(self) -> int:
        return self.width // self.stride_space

    @property
    def block_s(self) -> float:
        """Playing time of one block (of any but the first, which may be shorter)."""
        return self.pictures(1) / self.pictures_per_s

    @property
    def tokens_per_frame(self) -> int:
        return (self.latent_height // self.patch_space) * (self.latent_width // self.patch_space)

    @property
    def block_shape(self) -> tuple[int, int, int, int]:
        """Shape (F, C, H, W) of the latents of a block (of any but the first, which may have other frames)."""
        return (self.blocks.frames, *self._frame_shape)

    def shape_of(self, block: int) -> tuple[int, int, int, int]:
        """The same of this block."""
        return (self.blocks.made(block), *self._frame_shape)

    @property
    def _frame_shape(self) -> tuple[int, int, int]:
        return self.latent_channels, self.latent_height, self.latent_width

    @property
    def latent_bytes(self) -> int:
        """Bytes of the latents of a block as they travel, the largest there is: float32."""
        return 4 * self.blocks.most * math.prod(self._frame_shape)

    def first_frame(self, block: int) -> int:
        """Number of the first latent frame of `block`."""
        return self.blocks.first_frame(block)

    def first_picture(self, block: int) -> int:
        """Number of the first picture of `block`: 0, or 1 + stride (f - 1) if its first latent frame is f > 0."""
        frame = self.blocks.first_frame(block)
        return 0 if frame == 0 else 1 + (frame - 1) * self.stride_time

    def pictures(self, block: int) -> int:
        """How many pictures `block` decodes to."""
        return self.first_picture(block + 1) - self.first_picture(block)

    def block_of_picture(self, picture: int) -> int:
        """The block that contains `picture`."""
        if picture == 0:
            return 0
        return self.blocks.block_of(1 + (picture - 1) // self.stride_time)

    def first_block_from(self, picture: int) -> int:
        """The first block that starts at or after `picture`."""
        block = self.block_of_picture(picture)
        return block if self.first_picture(block) >= picture else block + 1

    def blocks_for(self, pictures: int) -> int:
        """How many blocks are needed to hold the first `pictures` pictures."""
        return 0 if pictures <= 0 else self.block_of_picture(pictures - 1) + 1

    def time_s(self, picture: int) -> Fraction:
        """Presentation time of `picture`, in seconds from the start of the stream."""
        return Fraction(picture) / self.fps

    def picture_at(self, time_s: Fraction) -> int:
        """The first picture shown at or after `time_s`."""
        return math.ceil(time_s * self.fps)
