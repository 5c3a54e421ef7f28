"""The recipe of a model, as its model.json has it: flat, with the block plan as one number."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFields:
    """The fields of `Recipe.plain`."""

    steps: tuple[int, ...]
    shift: float
    level: Level
    frames_per_block: int
    window_frames: int | None
    sink_frames: int = 0
    positions: Positions = Positions.ABSOLUTE
    block_limit: int | None = None
    usual_steps: tuple[int, ...] = ()
    first_steps: tuple[int, ...] = ()
    first_blocks: int = 0
    shed_steps: tuple[tuple[int, ...], ...] = ()

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
            blocks=BlockPlan(frames=self.frames_per_block),
            context=Context(level=self.level, window_frames=self.window_frames, sink_frames=self.sink_frames),
            positions=self.positions,
            block_limit=self.block_limit,
        )
