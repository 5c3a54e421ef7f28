"""The recipe: what a checkpoint needs to be served rightly, validated as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from longtake.core.errors import InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.contradictions import check_can_run
from longtake.core.recipe.cues import SWAPPING, CuePolicy, CueRule
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.renewals import Renewing
from longtake.core.recipe.steps import StepPlan
from longtake.core.recipe.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps, block plan, context and positions of one checkpoint."""

    steps: StepPlan
    blocks: BlockPlan
    context: Context
    positions: Positions = Positions.ABSOLUTE
    cues: CuePolicy = SWAPPING
    block_limit: int | None = None
    """No stream has more blocks; None: streams may be endless."""

    def __post_init__(self) -> None:
        if self.block_limit is not None and self.block_limit < 1:
            raise InvalidField("recipe.block_limit", self.block_limit, "1 or more blocks, or none")
        check_can_run(self)

    @property
    def level(self) -> Level:
        """That of the context."""
        return self.context.level

    @property
    def window_frames(self) -> int | None:
        """Those of the context."""
        return self.context.window_frames

    @property
    def sink_frames(self) -> int:
        """Those of the context."""
        return self.context.sink_frames

    @property
    def step_count(self) -> int:
        return len(self.steps.ladder)

    @property
    def lane_count(self) -> int:
        """Lanes of one session: one per step, or a single one at level CLEAN."""
        return 1 if self.level is Level.CLEAN else self.step_count

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Those of the steps."""
        return self.steps.sigmas

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Those of the steps."""
        return self.steps.timesteps

    @property
    def window(self) -> Window:
        """Which latent frames each block reads."""
        limits = [self.window_frames, None if self.block_limit is None else self.blocks.first_frame(self.block_limit)]
        ring = None if self.window_frames is None else self.window_frames - self.sink_frames
        size = min(frames for frames in limits if frames is not None)  # one is there, or __post_init__ refuses
        is_renewed = self.cues.change is not CueRule.SWAP
        return Window(blocks=self.blocks, size=size, sinks=self.sink_frames, ring=ring, is_renewed=is_renewed)

    @property
    def renewing(self) -> Renewing:
        """How recaches are done."""
        return Renewing(cues=self.cues, window=self.window, most_blocks=self.block_limit or 0)

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
            "steps": self.steps.ladder,
            "shift": self.steps.shift,
            "level": self.level.value,
            "frames_per_block": self.blocks.frames,
            "window_frames": self.window_frames,
            "sink_frames": self.sink_frames,
            "positions": self.positions.value,
            "block_limit": self.block_limit,
            **self.cues.further(),
        }
