"""Recipes of published checkpoints, by name: what their training fixed, and where their authors differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CuePolicy, CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan


class Base(Enum):
    """The models of Wan-AI that checkpoints are trained from, by their names there."""

    SMALL = "Wan2.1-T2V-1.3B"
    LARGE = "Wan2.1-T2V-14B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One family of checkpoints of Wan2.1."""

    name: str
    base: Base
    """What the checkpoint was trained from: its sizes, and where autoencoder and text encoder come from."""
    recipe: Recipe
    weights: str
    """Which weights its authors serve: a key of the training checkpoint; empty if they publish no choice."""
    licence: str
    """As the publisher of the checkpoint names it."""
    source: str
    """Where the checkpoint is published."""
    notes: str = ""
    """What is told to whoever converts it; empty if there is nothing to say."""


_STEPS = StepPlan(ladder=(1000, 750, 500, 250), shift=5.0)
_BLOCKS = BlockPlan(frames=3)

PUBLISHED = {
    made.name: made
    for made in (
        Published(
            name="wan-hiar",
            base=Base.SMALL,
            recipe=Recipe(steps=_STEPS, blocks=_BLOCKS, context=Context(level=Level.OUTPUT, window_frames=21)),
            weights="generator_ema",
            licence="Apache-2.0 (code); MIT (model card)",
            source="huggingface.co/jackyhate/HiAR",
        ),
        Published(
            name="wan-self-forcing",
            base=Base.SMALL,
            recipe=Recipe(steps=_STEPS, blocks=_BLOCKS, context=Context(level=Level.CLEAN, window_frames=21)),
            weights="generator_ema",
            licence="Apache-2.0 (code); see the model card",
            source="huggingface.co/gdhe17/Self-Forcing",
            notes="flow shift 5.0 as in its own configuration; some public code serves it with 8.0 (--shift)",
        ),
        Published(
            name="wan-longlive",
            base=Base.SMALL,
            recipe=Recipe(
                steps=_STEPS,
                blocks=_BLOCKS,
                context=Context(level=Level.CLEAN, window_frames=12, sink_frames=3),
                cues=CuePolicy(change=CueRule.JOINT, keep_sinks=True),
            ),
            weights="generator",
            licence="Apache-2.0 (code); see the model card",
            source="huggingface.co/Efficient-Large-Model/LongLive-1.3B",
            notes="a cue computes the window's K/V anew in one forward, as its own code does",
        ),
        Published(
            name="wan-14b-krea",
            base=Base.LARGE,
            recipe=Recipe(steps=_STEPS, blocks=_BLOCKS, context=Context(level=Level.CLEAN, window_frames=21)),
            weights="",
            licence="CC-BY-NC-SA-4.0 (code); see the model card",
            source="huggingface.co/krea/krea-realtime-video",
            notes="its own code reads 3 past frames and computes their K/V anew before each block, Longtake keeps the "
            "window of 21 frames that Self-Forcing trains with: streams longer than that may drift",
        ),
    )
}  # fmt: skip
"""By name. The first is hierarchical denoising (arXiv 2603.08703), four steps with six past blocks in the window."""
