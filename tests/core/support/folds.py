"""The rules about folds: what breaks each of them, what does not, and how the sides are named."""

from __future__ import annotations

from typing import Any

from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.memory import OnLeave
from longtake.core.recipe.positions import Cyclic, Numbering, Positions

Fields = dict[str, Any]

LISTED = Positions(stream=Numbering.LISTED)
FOLDING: Fields = {
    "on_leave": OnLeave.FOLD, "fold_frames": 2, "memory_frames": 1, "window_frames": 2, "positions": LISTED,
}  # fmt: skip
"""The smallest fold: one page of memory, and one that leaves."""
OF_FOLDS: dict[str, tuple[Fields, Fields, tuple[str, str]]] = {
    "a memory of nothing": (
        {"memory_frames": 1, "window_frames": 2},
        FOLDING,
        ("recipe.memory_frames = 1", "recipe.on_leave = none"),
    ),
    "a fold into nothing": (
        FOLDING | {"memory_frames": 0},
        FOLDING,
        ("recipe.on_leave = fold", "recipe.memory_frames = none"),
    ),
    "a fold of nobody knows how many": (
        FOLDING | {"fold_frames": 0},
        FOLDING,
        ("recipe.on_leave = fold", "recipe.fold_frames = none"),
    ),
    "a fold without a window": (
        FOLDING | {"window_frames": None, "block_limit": 3},
        FOLDING | {"block_limit": 3},
        ("recipe.on_leave = fold", "recipe.window_frames = none"),
    ),
    "a fold that leaves a rest": (
        FOLDING | {"memory_frames": 2, "window_frames": 3},
        FOLDING | {"memory_frames": 2, "window_frames": 4, "frames": 2},
        ("recipe.fold_frames = 2 with recipe.memory_frames = 2", "recipe.frames_per_block = 1"),
    ),
    "a window that fills within a block": (
        FOLDING | {"fold_frames": 3, "frames": 2, "window_frames": 5},
        FOLDING | {"fold_frames": 3, "frames": 2, "window_frames": 5, "first_frames": 1},
        (
            "recipe.on_leave = fold with recipe.window_frames = 5",
            "recipe.frames_per_block = 2 with recipe.first_frames = none",
        ),
    ),
    "no room beside the memory": (
        FOLDING | {"sink_frames": 1},
        FOLDING | {"sink_frames": 1, "window_frames": 3},
        (
            "recipe.window_frames = 2",
            "recipe.memory_frames = 1 with recipe.sink_frames = 1 with recipe.frames_per_block = 1",
        ),
    ),
    "a fold of keys that have their places": (
        FOLDING | {"positions": Positions(stream=Cyclic(cyclic=2))},
        FOLDING,
        ("recipe.on_leave = fold", "recipe.positions = { cyclic = 2 }"),
    ),
    "a fold where blocks step together": (
        FOLDING | {"level": Level.STAGGERED, "lag": 1, "positions": Positions()},
        FOLDING | {"level": Level.OUTPUT},
        ("recipe.on_leave = fold", "recipe.level = staggered"),
    ),
    "a cut of what was folded": (
        FOLDING | {"cut": True},
        FOLDING | {"cut": False},
        ("recipe.cut = True", "recipe.on_leave = fold"),
    ),
    "a recache of what was folded": (
        FOLDING | {"change": CueRule.WINDOW},
        FOLDING | {"change": CueRule.SWAP},
        ("recipe.cue_change = recache-window", "recipe.on_leave = fold"),
    ),
    "a reference beside a memory": (
        FOLDING | {"reference_frames": 1, "window_frames": 4},
        FOLDING | {"window_frames": 4},
        ("recipe.reference_frames = 1", "recipe.on_leave = fold"),
    ),
}
