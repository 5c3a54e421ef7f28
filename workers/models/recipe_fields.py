"""The recipe of a model, as its model.json has it: flat, with the block plan as one number."""

from __future__ import annotations

from dataclasses import dataclass, fields

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.memory import MemoryPolicy, OnLeave
from longtake.core.recipe.positions import Numbering, Positions, StreamPlaces
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFields:
    """The fields of `Recipe.plain`."""

    steps: tuple[int, ...]
    shift: float
    level: Level
    frames_per_block: int
    first_frames: int | None = None
    window_frames: int | None
    sink_frames: int = 0
    shot_frames: int = 0
    positions: StreamPlaces = Numbering.ABSOLUTE
    shot_offset: int = 0
    block_limit: int | None = None
    start_blocks: int = 0
    commit_step: int = 0
    commit_label: float | None = None
    lag: int = 0
    both_ways: bool = False
    reference_frames: int = 0
    reference_lead: int = 0
    reference_stride: int = 1
    usual_steps: tuple[int, ...] = ()
    first_steps: tuple[int, ...] = ()
    first_blocks: int = 0
    shed_steps: tuple[tuple[int, ...], ...] = ()
    cue_change: CueRule = CueRule.SWAP
    keep_sinks: bool | None = None
    memory_frames: int = 0
    on_leave: OnLeave = OnLeave.DROP
    fold_frames: int = 0
    cut: bool = False

    def recipe(self) -> Recipe:
        """The recipe, checked as a whole."""
        return Recipe(
            steps=StepPlan(
                ladder=self.steps,
                shift=self.shift,
                usual=self.usual_steps,
                first=self.first_steps,
                first_blocks=self.first_blocks,
                shed=self.shed_steps,
            ),
            blocks=BlockPlan(frames=self.frames_per_block, first_frames=self.first_frames),
            context=Context(**{each.name: getattr(self, each.name) for each in fields(Context)}),
            positions=Positions(
                stream=self.positions,
                shot_offset=self.shot_offset,
                reference_lead=self.reference_lead,
                reference_stride=self.reference_stride,
            ),
            cues=CuePolicy(change=self.cue_change, keep_sinks=self.keep_sinks, cut=self.cut),
            memory=MemoryPolicy(on_leave=self.on_leave, fold_frames=self.fold_frames),
            block_limit=self.block_limit,
        )
