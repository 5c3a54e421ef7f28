"""The context: which earlier blocks a block reads, and at which noise level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from longtake.core.errors import InvalidField, refuse


class Level(Enum):
    """At which noise level earlier blocks are read while block n is denoised at step s."""

    CLEAN = "clean"
    """t = 0: one lane, one commit per block (Self-Forcing)."""
    OUTPUT = "output"
    """t_{s+1}: a lane and a commit per step (HiAR, arXiv 2603.08703)."""
    INPUT = "input"
    """t_s: a lane per step, no commit at all; the denoise pass leaves its own K/V."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What blocks read of the past."""

    level: Level
    window_frames: int | None
    """Latent frames that a block reads, its own and the sinks included; None: all, which needs a finite stream."""
    sink_frames: int = 0
    """The first latent frames of a stream, which every block reads."""
    start_blocks: int = 0
    """The hybrid start of HiAR's code: so many blocks at the beginning of a stream, those that are given not counted,
    read earlier ones as they are when finished, and are read so by every later block, whatever the level says."""

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[InvalidField]:
        if self.window_frames is not None and self.window_frames < 1:
            yield InvalidField("recipe.window_frames", self.window_frames, "1 or more latent frames")
        if self.sink_frames < 0:
            yield InvalidField("recipe.sink_frames", self.sink_frames, "0 or more latent frames")
        if self.start_blocks < 0:
            yield InvalidField("recipe.start_blocks", self.start_blocks, "0 or more blocks")
