"""The recipe of a model, as its model.json has it: flat, with the block plan as one number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.memory import OnLeave
from longtake.core.recipe.parts import PARTS
from longtake.core.recipe.positions import Numbering, StreamPlaces
from longtake.core.recipe.recipe import Recipe


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
    slope: float = 0.0
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
        parts: dict[str, Any] = {name: part.of(partial(getattr, self)) for name, part in PARTS.items()}
        return Recipe(**parts, block_limit=self.block_limit)
