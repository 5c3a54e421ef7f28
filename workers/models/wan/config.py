"""The sizes of Wan2.1's networks: the sections `dit`, `vae` and `tiny_decoder` of a model.json."""

from __future__ import annotations

import math
from dataclasses import dataclass

from longtake.core.errors import InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class WanConfig:
    """Sizes of a Wan2.1 transformer; `patch_size` is (latent frames, rows, columns) and must start with 1."""

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int
    out_dim: int
    freq_dim: int
    text_dim: int
    text_len: int
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(f"dim {self.dim} does not split into {self.num_heads} heads of even size")
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim {self.freq_dim} is odd")
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size {self.patch_size} joins latent frames, which are paged one by one")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // self.num_heads

    @property
    def space_pairs(self) -> int:
        """Rotary pairs of a head that stand for rows, and as many for columns."""
        return self.head_dim // 6

    @property
    def time_pairs(self) -> int:
        """Rotary pairs of a head that stand for time: the first ones."""
        return self.head_dim // 2 - 2 * self.space_pairs

    def tokens_per_frame(self, height: int, width: int) -> int:
        """Tokens of a latent frame of `height` x `width`; ValueError if it does not divide into patches."""
        _, rows, columns = self.patch_size
        if height % rows or width % columns:
            raise ValueError(f"latent {height}x{width} does not divide into patches of {rows}x{columns}")
        return (height // rows) * (width // columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class WanVAEConfig:
    """Architecture of encoder and decoder; the defaults are Wan2.1's."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temporal_downsample: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            allowed = f"{len(self.dim_mult) - 1} entries, one less than dim_mult {self.dim_mult} has"
            raise InvalidField("vae.temporal_downsample", self.temporal_downsample, allowed)
        if self.dim < 2 or self.dim % 2:
            raise InvalidField("vae.dim", self.dim, "a positive even number (every upsampling halves the channels)")
        for name, value in (("z_dim", self.z_dim), ("num_res_blocks", self.num_res_blocks)):
            if value < 1:
                raise InvalidField(f"vae.{name}", value, "1 or more")

    @property
    def spatial_stride(self) -> int:
        """Picture rows per latent row (and columns per column)."""
        return 1 << len(self.temporal_downsample)

    @property
    def temporal_stride(self) -> int:
        """Pictures per latent frame, for all but the first latent frame, which is one picture."""
        return 1 << sum(self.temporal_downsample)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaehvConfig:
    """Sizes of the tiny decoder TAEHV: the section `tiny_decoder` of a model.json."""

    z_dim: int
    """Channels of a latent."""
    widths: tuple[int, int, int, int]
    """Channels of each stage, and of what follows the last."""
    growth: tuple[int, int, int]
    """Frames that each stage makes of one."""

    def __post_init__(self) -> None:
        for name, sizes in (("z_dim", (self.z_dim,)), ("widths", self.widths), ("growth", self.growth)):
            if min(sizes) < 1:
                raise InvalidField(f"tiny_decoder.{name}", min(sizes), "1 or more")

    @property
    def spatial_stride(self) -> int:
        """Picture rows per latent row (and columns per column)."""
        return 1 << len(self.growth)

    @property
    def temporal_stride(self) -> int:
        """Pictures per latent frame, for all but the first latent frame, which is one picture."""
        return math.prod(self.growth)
