"""Recipes of published checkpoints, by name: what their training fixed, and where their authors differ."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.recipe import Level, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One family of checkpoints of Wan2.1."""

    name: str
    recipe: Recipe
    weights: str
    """Which weights its authors serve: a key of the training checkpoint."""
    licence: str
    """As the publisher of the checkpoint names it."""
    source: str
    """Where the checkpoint is published."""
    notes: str = ""
    """What is told to whoever converts it; empty if there is nothing to say."""


_STEPS = (1000, 750, 500, 250)
_BLOCKS = BlockPlan(frames=3)

PUBLISHED = {
    made.name: made
    for made in (
        Published(
            name="wan-hiar",
            recipe=Recipe(steps=_STEPS, shift=5.0, level=Level.OUTPUT, blocks=_BLOCKS, window_frames=21),
            weights="generator_ema",
            licence="Apache-2.0 (code); MIT (model card)",
            source="huggingface.co/jackyhate/HiAR",
        ),
        Published(
            name="wan-self-forcing",
            recipe=Recipe(steps=_STEPS, shift=5.0, level=Level.CLEAN, blocks=_BLOCKS, window_frames=21),
            weights="generator_ema",
            licence="Apache-2.0 (code); see the model card",
            source="huggingface.co/gdhe17/Self-Forcing",
            notes="flow shift 5.0 as in its own configuration; some public code serves it with 8.0 (--shift)",
        ),
        Published(
            name="wan-longlive",
            recipe=Recipe(
                steps=_STEPS, shift=5.0, level=Level.CLEAN, blocks=_BLOCKS, window_frames=12, sink_frames=3
            ),
            weights="generator",
            licence="Apache-2.0 (code); see the model card",
            source="huggingface.co/Efficient-Large-Model/LongLive-1.3B",
            notes="its own code computes the window's K/V anew at a cue, Longtake does not: a cue takes hold slower",
        ),
    )
}  # fmt: skip
"""By name. The first is hierarchical denoising (arXiv 2603.08703), four steps with six past blocks in the window."""
