"""The recipe: what a checkpoint needs to be served rightly, validated as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from longtake.core.errors import InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.contradictions import check_can_run
from longtake.core.recipe.cues import SWAPPING, CuePolicy, CueRule
from longtake.core.recipe.joint import Joint
from longtake.core.recipe.memory import DROPPING, MemoryPolicy
from longtake.core.recipe.parts import PARTS
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.renewals import Renewing
from longtake.core.recipe.shelf import Shelf
from longtake.core.recipe.shots import Shots
from longtake.core.recipe.steps import StepPlan
from longtake.core.recipe.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps, block plan, context and positions of one checkpoint."""

    steps: StepPlan
    blocks: BlockPlan
    context: Context
    positions: Positions = field(default_factory=Positions)
    cues: CuePolicy = SWAPPING
    memory: MemoryPolicy = DROPPING
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
    def usual_count(self) -> int:
        """How many steps a block takes as a rule."""
        return len(self.steps.usual_entries)

    @property
    def lane_count(self) -> int:
        """Lanes of one session: one per step, or a single one at the levels CLEAN and STAGGERED."""
        return 1 if self.level in (Level.CLEAN, Level.STAGGERED) else self.step_count

    @property
    def joint(self) -> Joint | None:
        """How blocks step together; None if each has its forwards for itself."""
        lag, level = self.context.lag, self.level
        if level is not Level.STAGGERED or not lag:  # such a lag is refused
            return None
        return Joint(steps=self.step_count, lag=lag, both_ways=self.context.both_ways)

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
        memory, before, limit = self.context.memory_frames, self.context.reference_frames, self.block_limit
        limits = [self.window_frames, None if limit is None else before + self.blocks.first_frame(limit)]
        if self.cues.cut:  # then slots are not those of the first frames
            limits = [self.window_frames]
        sinks, shelf = self.sink_frames + memory, self.context.shot_frames
        ring = None if self.window_frames is None else self.window_frames - sinks - shelf - before
        size = min(frames for frames in limits if frames is not None)  # one is there, or __post_init__ refuses
        joint, is_renewed = self.joint, self.cues.change is not CueRule.SWAP
        return Window(
            blocks=self.blocks,
            size=size,
            sinks=sinks,
            shelf=Shelf(blocks=self.blocks, sinks=sinks, slots=shelf),
            ring=ring,
            behind=0 if joint is None or ring is None else (joint.live - 1) * self.blocks.frames,
            is_renewed=is_renewed,
            memory=memory,
            references=before,
        )

    @property
    def shots(self) -> Shots:
        """How shots follow one another."""
        room, sinks = self.context.shot_frames // self.blocks.frames, self.sink_frames
        return Shots(can_cut=self.cues.cut, room=room, sinks=sinks, blocks=self.blocks)

    @property
    def renewing(self) -> Renewing:
        """How recaches are done."""
        return Renewing(cues=self.cues, window=self.window, most_blocks=self.block_limit or 0)

    @property
    def most_together(self) -> int:
        """The most ops of one stream that are one forward: of blocks that step together, or are committed anew so."""
        if self.joint is not None:
            return self.joint.live
        return self.window.size // self.blocks.frames if self.cues.change is CueRule.JOINT else 1

    @property
    def page_count(self) -> int:
        """Pages of one lane: as many as its window has slots."""
        return self.window.slots

    @property
    def shape(self) -> tuple[int, int]:
        """What ops with a full window have in common: how many frames a block makes, and how many pages it reads."""
        return self.blocks.frames, self.window.size

    @property
    def history_blocks(self) -> int:
        """Past blocks that reach into the window of a block (H), or that are folded as it begins."""
        own = 0 if self.memory.folds else self.blocks.frames
        past_frames = max(0, self.window.span - self.window.sinks - self.context.shot_frames - own)
        return -(-past_frames // self.blocks.frames)

    @property
    def past_timesteps(self) -> tuple[float, ...]:
        """At which noise level, as a timestep, each step reads the blocks before."""
        match self.level:
            case Level.INPUT:
                return self.timesteps
            case Level.OUTPUT:
                return (*self.timesteps[1:], 0.0)
            case Level.CLEAN:
                return (self.steps.timestep_of(self.context.commit_step),) * self.step_count
            case Level.STAGGERED:
                read = (*self.timesteps, 0.0)
                return tuple(read[min(step + self.context.lag, self.step_count)] for step in range(self.step_count))

    def commit_timestep(self, step: int) -> float:
        """What the model is told of a block that is committed to the lane of `step`.

        It is t_{s+1}, with t_S = 0, at level STAGGERED 0, and at CLEAN the label of the context, or else the entry that
        it names.
        """
        if self.level is Level.CLEAN:
            label = self.context.commit_label
            return self.steps.timestep_of(self.context.commit_step) if label is None else label
        is_clean = self.level is Level.STAGGERED or step + 1 == self.step_count
        return 0.0 if is_clean else self.timesteps[step + 1]

    @property
    def commit_sigma(self) -> float:
        """Noise level that finished blocks are taken back to before they are committed; 0: they are not."""
        return self.steps.sigma_of(self.context.commit_step)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical text of all fields: equal recipes, equal digests."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, object]:
        """All fields, as a model's file has them; those that came later only where they are not as they always were."""
        parts = (part.plain(getattr(self, name)) for name, part in PARTS.items())
        return {"block_limit": self.block_limit} | {name: value for each in parts for name, value in each.items()}
