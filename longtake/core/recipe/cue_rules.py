"""What a recipe cannot ask of its cues: the part of the table of contradictions that is about recaches and shots."""

from __future__ import annotations

from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.positions import Cyclic
from longtake.core.recipe.rule import Described, Rule

_OF_WINDOW = (CueRule.WINDOW, CueRule.JOINT)
"""The recaches that may meet sinks: some of what is remembered is not committed anew."""


def _meets_sinks(of: Described) -> bool:
    return of.cues.change in _OF_WINDOW and of.sink_frames > 0 and of.window_frames is not None


def _halves_blocks(of: Described) -> bool:
    """Whether sinks or window end inside a block."""
    frames = (of.sink_frames, (of.window_frames or 0) - of.context.reference_frames)
    return any(each % of.blocks.frames for each in frames) or of.blocks.first_frames is not None


def _comes_round_to_shots(of: Described) -> bool:
    return isinstance(of.positions.stream, Cyclic) and (of.context.shot_frames > 0 or of.positions.shot_offset > 0)


RULES_OF_SHOTS = (
    Rule(
        name="a cut where blocks step together",
        first=("cut",),
        second=("level",),
        is_broken=lambda recipe: recipe.cues.cut and recipe.context.level is Level.STAGGERED,
        why="there is no moment at which no block is in the middle of its steps",
    ),
    Rule(
        name="a cut of what has no window",
        first=("cut",),
        second=("window_frames",),
        is_broken=lambda recipe: recipe.cues.cut and recipe.window_frames is None,
        why="a cut empties the window, and without one every frame stays in sight",
    ),
    Rule(
        name="a cut and a recache",
        first=("cut",),
        second=("cue_change",),
        is_broken=lambda recipe: recipe.cues.cut and recipe.cues.change is not CueRule.SWAP,
        why="what is on the shelf is of earlier shots and their prompts, and no recache says what becomes of it",
    ),
    Rule(
        name="no room beside shots",
        first=("window_frames",),
        second=("shot_frames", "sink_frames", "frames_per_block"),
        is_broken=lambda recipe: (
            recipe.window_frames is not None
            and recipe.context.shot_frames > 0
            and 0 <= recipe.window_frames - recipe.sink_frames - recipe.blocks.frames < recipe.context.shot_frames
        ),
        why="the window must hold what is remembered of shots beside the sinks and the own block",
    ),
    Rule(
        name="shots that never end",
        first=("shot_frames",),
        second=("cut",),
        is_broken=lambda recipe: recipe.context.shot_frames > 0 and not recipe.cues.cut,
        why="without cuts there is one shot, and nothing to remember of others",
    ),
    Rule(
        name="an offset between no shots",
        first=("shot_offset",),
        second=("cut",),
        is_broken=lambda recipe: recipe.positions.shot_offset > 0 and not recipe.cues.cut,
        why="without cuts there is one shot, and no other stands further on",
    ),
    Rule(
        name="half a block of a shot",
        first=("shot_frames",),
        second=("frames_per_block", "first_frames"),
        is_broken=lambda recipe: (
            recipe.context.shot_frames > 0
            and (recipe.context.shot_frames % recipe.blocks.frames > 0 or recipe.blocks.lead > recipe.blocks.frames)
        ),
        why="whole blocks are remembered, each in as much room as a usual block needs",
    ),
    Rule(
        name="shots in the way",
        first=("positions",),
        second=("shot_frames", "shot_offset"),
        is_broken=_comes_round_to_shots,
        why="what is remembered of a shot keeps its places, and later frames come round to them",
    ),
)
"""What a recipe cannot ask of its shots, in the order in which it is told."""


RULES_OF_CUES = (
    *RULES_OF_SHOTS,
    Rule(
        name="blocks that read one another in a lane of a step",
        first=("cue_change",),
        second=("level",),
        is_broken=lambda recipe: recipe.cues.change is CueRule.JOINT and recipe.lane_count > 1,
        why="in the lane of a step no block knows of those after it; only finished blocks are committed anew jointly",
    ),
    Rule(
        name="a full recache without an end",
        first=("cue_change",),
        second=("block_limit",),
        is_broken=lambda recipe: recipe.cues.change is CueRule.FULL and recipe.block_limit is None,
        why="all blocks from the first one on are committed anew, so their number must be finite",
    ),
    Rule(
        name="sinks that a recache meets",
        first=("cue_change",),
        second=("sink_frames", "keep_sinks"),
        is_broken=lambda recipe: _meets_sinks(recipe) and recipe.cues.keep_sinks is None,
        why="it must be said whether the sinks stay as they are, or move to the oldest frames that are committed anew",
    ),
    Rule(
        name="sinks kept from nothing",
        first=("keep_sinks",),
        second=("cue_change", "sink_frames"),
        is_broken=lambda recipe: recipe.cues.keep_sinks is not None and not _meets_sinks(recipe),
        why="only where a recache of the window meets sinks there is something to keep or not",
    ),
    Rule(
        name="a recache of half a block",
        first=("cue_change", "frames_per_block"),
        second=("sink_frames", "window_frames"),
        is_broken=lambda recipe: _meets_sinks(recipe) and _halves_blocks(recipe),
        why="whole blocks are committed anew, so sinks and window must be whole blocks",
    ),
    Rule(
        name="a recache where blocks step together",
        first=("cue_change",),
        second=("level",),
        is_broken=lambda recipe: recipe.cues.change is not CueRule.SWAP and recipe.context.level is Level.STAGGERED,
        why="there is no moment at which no block is in the middle of its steps",
    ),
)
"""In the order in which they are told."""
