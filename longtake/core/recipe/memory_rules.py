"""What a recipe cannot ask of its memory: the part of the table of contradictions that is about folds."""

from __future__ import annotations

from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.positions import Numbering
from longtake.core.recipe.rule import Described, Rule


def _is_sized(of: Described) -> bool:
    """Whether there are a memory, a fold and a window: what is missing of them is told by rules of its own."""
    return bool(of.memory.folds and of.memory.fold_frames and of.context.memory_frames and of.window_frames)


def _leaves_a_rest(of: Described) -> bool:
    memory, k = of.context.memory_frames, of.memory.fold_frames
    return _is_sized(of) and memory + of.blocks.frames != memory * k


def _fills_within_a_block(of: Described) -> bool:
    window = of.window_frames or 0
    return _is_sized(of) and (window < of.blocks.lead or (window - of.blocks.lead) % of.blocks.frames != 0)


def _has_no_room(of: Described) -> bool:
    kept = of.sink_frames + of.context.memory_frames
    return _is_sized(of) and (of.window_frames or 0) < kept + of.blocks.frames


RULES_OF_MEMORY = (
    Rule(
        name="a memory of nothing",
        first=("memory_frames",),
        second=("on_leave",),
        is_broken=lambda recipe: recipe.context.memory_frames > 0 and not recipe.memory.folds,
        why="only what is folded as it leaves the window becomes memory",
    ),
    Rule(
        name="a fold into nothing",
        first=("on_leave",),
        second=("memory_frames",),
        is_broken=lambda recipe: recipe.memory.folds and not recipe.context.memory_frames,
        why="what is folded must lie somewhere: 1 or more frames of the window",
    ),
    Rule(
        name="a fold of nobody knows how many",
        first=("on_leave",),
        second=("fold_frames",),
        is_broken=lambda recipe: recipe.memory.folds is not bool(recipe.memory.fold_frames),
        why="it must be said how many pages become one, 2 or more, if there is a fold, and only then",
    ),
    Rule(
        name="a fold without a window",
        first=("on_leave",),
        second=("window_frames",),
        is_broken=lambda recipe: recipe.memory.folds and recipe.window_frames is None,
        why="without a window nothing leaves it",
    ),
    Rule(
        name="a fold that leaves a rest",
        first=("fold_frames", "memory_frames"),
        second=("frames_per_block",),
        is_broken=_leaves_a_rest,
        why="the memory and the frames of a block, which leave as the next one begins, are folded together into as "
        "many pages as the memory has: memory_frames x (fold_frames - 1) must be frames_per_block",
    ),
    Rule(
        name="a window that fills within a block",
        first=("on_leave", "window_frames"),
        second=("frames_per_block", "first_frames"),
        is_broken=_fills_within_a_block,
        why="the first frames that leave must be as many as a block has, so the window must be the first block and a "
        "number of whole ones",
    ),
    Rule(
        name="no room beside the memory",
        first=("window_frames",),
        second=("memory_frames", "sink_frames", "frames_per_block"),
        is_broken=_has_no_room,
        why="the window must hold the sinks, the memory and at least the own block",
    ),
    Rule(
        name="a fold of keys that have their places",
        first=("on_leave",),
        second=("positions",),
        is_broken=lambda recipe: (
            recipe.memory.folds
            and recipe.positions.stream is not Numbering.LISTED
            and recipe.context.level is not Level.STAGGERED
        ),
        why="keys of frames from several places become one, which can stand in none of them: they must be stored "
        'without their time, and the memory stands by its age, as with "listed"',
    ),
    Rule(
        name="a fold where blocks step together",
        first=("on_leave",),
        second=("level",),
        is_broken=lambda recipe: recipe.memory.folds and recipe.context.level is Level.STAGGERED,
        why="there is no moment between two blocks: what has left the window of the newest is still read by those that "
        "are not finished",
    ),
    Rule(
        name="a recache of what was folded",
        first=("cue_change",),
        second=("on_leave",),
        is_broken=lambda recipe: recipe.memory.folds and recipe.cues.change is not CueRule.SWAP,
        why="a page of memory is no frame that could be committed anew, and what is read beside it must be of its kind",
    ),
    Rule(
        name="a reference beside a memory",
        first=("reference_frames",),
        second=("on_leave",),
        is_broken=lambda recipe: recipe.memory.folds and recipe.context.reference_frames > 0,
        why="it has not been said how a memory stands behind an image that is always in sight",
    ),
    Rule(
        name="a cut of what was folded",
        first=("cut",),
        second=("on_leave",),
        is_broken=lambda recipe: recipe.memory.folds and recipe.cues.cut,
        why="what was folded is of all shots at once, and cannot leave the window with one of them",
    ),
)
"""In the order in which they are told."""
