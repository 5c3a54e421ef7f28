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
    STAGGERED = "staggered"
    """t_{s + lag} of the block before, t_{s + 2 lag} of the one before that, …, at last 0: they step together in joint
    ops. One lane, one commit per block (CMDM; Rolling Forcing, arXiv 2509.25161)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What blocks read of the past."""

    level: Level
    window_frames: int | None
    """Latent frames that a block reads, its own, sinks, shots and the reference included; None: all, which needs a
    finite stream."""
    sink_frames: int = 0
    """The first latent frames of a stream, which every block reads."""
    memory_frames: int = 0
    """Pages of the window, behind the sinks, that hold what has left it, folded (memory.py)."""
    shot_frames: int = 0
    """Latent frames of a shelf for the first blocks of earlier shots, where a cue may cut (LongLive 2.0)."""
    reference_frames: int = 0
    """Latent frames of images that are given with a stream: every block reads them, and nobody is shown them."""
    commit_step: int = 0
    """A finished block is noised to this entry of the training schedule before it is committed, and so read with a
    little noise for as long as the window holds it (Ca2-VDM, arXiv 2411.16375, section 3.2); 0: it is read clean."""
    commit_label: float | None = None
    """The timestep that the model is told of what it commits; None: that of the entry."""
    lag: int = 0
    """Steps that a block has done when the next one begins; only at level STAGGERED."""
    both_ways: bool = False
    """Whether blocks that are not finished read the later ones, too; only at level STAGGERED."""
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
        if self.memory_frames < 0:
            yield InvalidField("recipe.memory_frames", self.memory_frames, "0 or more latent frames")
        if self.shot_frames < 0:
            yield InvalidField("recipe.shot_frames", self.shot_frames, "0 or more latent frames")
        if self.reference_frames < 0:
            yield InvalidField("recipe.reference_frames", self.reference_frames, "0 or more latent frames")
        if not 0 <= self.commit_step <= 999:
            yield InvalidField("recipe.commit_step", self.commit_step, "0 (no noise), or an entry from 1 to 999")
        if self.commit_label is not None and not -1 <= self.commit_label <= 1000:
            yield InvalidField("recipe.commit_label", self.commit_label, "a timestep from 0 to 1000, or -1")
        if self.lag < 0:
            yield InvalidField("recipe.lag", self.lag, "0 or more steps")
        if self.start_blocks < 0:
            yield InvalidField("recipe.start_blocks", self.start_blocks, "0 or more blocks")
