"""Small recipes and what orders say, for tests of the core."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.effects import Dispatch
from longtake.core.events import CueRequest
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Kind, Op
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.work import CueId, DecodeWork, ForwardWork, SegmentSettings

SETTINGS = SegmentSettings(codec="raw", quality=0)


def recipe(level: Level = Level.OUTPUT, *, window: int | None = 9, sinks: int = 0, steps: int = 4) -> Recipe:
    entries = tuple(1000 - 1000 * step // steps for step in range(steps))
    return Recipe(
        steps=StepPlan(ladder=entries, shift=5.0),
        blocks=BlockPlan(frames=3),
        context=Context(
            level=level, window_frames=window, sink_frames=sinks, lag=min(2, steps) * (level is Level.STAGGERED)
        ),
        block_limit=None if window else 8,
    )


def geometry(frames: int = 3) -> Geometry:
    """Small pictures, and so many latent frames in a block."""
    return Geometry(width=64, height=64, fps=Fraction(16), latent_channels=16, blocks=BlockPlan(frames=frames))


def works_of(dispatch: Dispatch) -> tuple[ForwardWork, ...] | tuple[DecodeWork]:
    """The ops of a dispatch."""
    return (dispatch.work,) if isinstance(dispatch.work, DecodeWork) else dispatch.work


def cue(name: str, *, block: int | None = None, picture: int | None = None, prompt: str = "q") -> CueRequest:
    return CueRequest(cue=CueId(name), prompt=prompt, block=block, picture=picture)


def op_of(work: ForwardWork | DecodeWork) -> Op:
    if isinstance(work, DecodeWork):
        return Op(Kind.DECODE, 0, work.block)
    return Op(work.kind, work.step, work.block)
