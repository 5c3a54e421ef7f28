"""The recipe: what a checkpoint needs to be served rightly, validated as a whole."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from longtake.core.errors import InvalidField, InvalidFields
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.contradictions import check_can_run
from longtake.core.recipe.window import Window


class Level(Enum):
    """At which noise level earlier blocks are read while block n is denoised at step s."""

    CLEAN = "clean"
    """t = 0: one lane, one commit per block (Self-Forcing)."""
    OUTPUT = "output"
    """t_{s+1}: a lane and a commit per step (HiAR, arXiv 2603.08703)."""
    INPUT = "input"
    """t_s: a lane per step, no commit at all; the denoise pass leaves its own K/V."""


class Positions(Enum):
    """How K is rotated."""

    ABSOLUTE = "absolute"
    """Rotated once, at write, by the absolute number of its latent frame."""

    def of(self, frames: range) -> tuple[int, ...]:
        """The numbers by which queries and keys of these latent frames are rotated."""
        match self:
            case Positions.ABSOLUTE:
                return tuple(frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps, level, block plan, window, sinks and positions of one checkpoint.

    `steps` are entries of the 1000-step training schedule, strictly falling; `shift` is the flow shift.
    `window_frames` counts the own block; None means no window, which needs a finite `block_limit`.
    """

    steps: tuple[int, ...]
    shift: float
    level: Level
    blocks: BlockPlan
    window_frames: int | None
    sink_frames: int = 0
    positions: Positions = Positions.ABSOLUTE
    block_limit: int | None = None

    def __post_init__(self) -> None:
        wrong = [InvalidField(f"recipe.{name}", value, allowed) for name, value, allowed in self._wrong()]
        if wrong:
            raise wrong[0] if len(wrong) == 1 else InvalidFields(wrong)
        check_can_run(self)

    def _wrong(self) -> Iterator[tuple[str, object, str]]:
        """The fields whose values are not allowed, whatever the others are."""
        if not self.steps or any(not 1 <= step <= 1000 for step in self.steps):
            yield "steps", list(self.steps), "one or more whole numbers from 1 to 1000"
        elif any(later >= earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)):
            yield "steps", list(self.steps), "strictly falling numbers"
        if not 0 < self.shift < float("inf"):
            yield "shift", self.shift, "a number above 0"
        if self.window_frames is not None and self.window_frames < 1:
            yield "window_frames", self.window_frames, "1 or more latent frames"
        if self.sink_frames < 0:
            yield "sink_frames", self.sink_frames, "0 or more latent frames"
        if self.block_limit is not None and self.block_limit < 1:
            yield "block_limit", self.block_limit, "1 or more blocks, or none"

    @property
    def step_count(self) -> int:
        return len(self.steps)

    @property
    def lane_count(self) -> int:
        """Lanes of one session: one per step, or a single one at level CLEAN."""
        return 1 if self.level is Level.CLEAN else len(self.steps)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise level of the input of each step, in [0, 1]: shift s / (1 + (shift - 1) s), s = step / 1000, float32."""
        return _shifted(self.steps, self.shift)

    @property
    def timesteps(self) -> tuple[float, ...]:
        """What the model is told for each step: 1000 sigma, not rounded to whole numbers (float32)."""
        return _thousandfold(self.sigmas)

    @property
    def window(self) -> Window:
        """Which latent frames each block reads."""
        limits = [self.window_frames, None if self.block_limit is None else self.blocks.first_frame(self.block_limit)]
        ring = None if self.window_frames is None else self.window_frames - self.sink_frames
        size = min(frames for frames in limits if frames is not None)  # one is there, or __post_init__ refuses
        return Window(blocks=self.blocks, size=size, sinks=self.sink_frames, ring=ring)

    @property
    def page_count(self) -> int:
        """Pages of one lane: as many as its window has slots."""
        return self.window.size

    @property
    def shape(self) -> tuple[int, int]:
        """What ops with a full window have in common: how many frames a block makes, and how many pages it reads."""
        return self.blocks.frames, self.page_count

    @property
    def history_blocks(self) -> int:
        """Past blocks that reach into the window of a block (H)."""
        past_frames = max(0, self.page_count - self.sink_frames - self.blocks.frames)
        return -(-past_frames // self.blocks.frames)

    @property
    def past_timesteps(self) -> tuple[float, ...]:
        """At which noise level, as a timestep, each step reads the blocks before."""
        if self.level is Level.INPUT:
            return self.timesteps
        return tuple(map(self.commit_timestep, range(self.step_count)))

    def commit_timestep(self, step: int) -> float:
        """Timestep at which a block is committed to the lane of `step` (t_{s+1}, t_S = 0; CLEAN: 0)."""
        if self.level is Level.CLEAN or step + 1 == self.step_count:
            return 0.0
        return self.timesteps[step + 1]

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical text of all fields: equal recipes, equal digests."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, object]:
        """All fields, as a model's file has them."""
        return {
            "steps": self.steps,
            "shift": self.shift,
            "level": self.level.value,
            "frames_per_block": self.blocks.frames,
            "window_frames": self.window_frames,
            "sink_frames": self.sink_frames,
            "positions": self.positions.value,
            "block_limit": self.block_limit,
        }


@lru_cache  # asked for with every op
def _shifted(steps: tuple[int, ...], shift: float) -> tuple[float, ...]:
    return tuple(_float32(shift * (d / 1000) / (1 + (shift - 1) * (d / 1000))) for d in steps)


@lru_cache
def _thousandfold(sigmas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_float32(1000 * sigma) for sigma in sigmas)


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
