"""Each rule of the table of contradictions: the smallest recipe that breaks it, and the smallest that does not."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.core.errors import Contradiction, Contradictions
from longtake.core.recipe.context import Level
from longtake.core.recipe.contradictions import RULES, check
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from tests.core.support.folds import OF_FOLDS
from tests.core.support.recipes import SMALLEST, altered
from tests.core.support.slopes import OF_SLOPES

Fields = dict[str, Any]


def cyclic(period: int) -> Positions:
    return Positions(stream=Cyclic(cyclic=period))


LISTED = Positions(stream=Numbering.LISTED)
CASES: dict[str, tuple[Fields, Fields, tuple[str, str]]] = {
    **OF_FOLDS,
    **OF_SLOPES,
    "endless without a window": (
        {"window_frames": None},
        {"window_frames": None, "block_limit": 1},
        ("recipe.window_frames = none", "recipe.block_limit = none"),
    ),
    "sinks without a window": (
        {"window_frames": None, "block_limit": 1, "sink_frames": 1},
        {"window_frames": 2, "block_limit": 1, "sink_frames": 1},
        ("recipe.sink_frames = 1", "recipe.window_frames = none"),
    ),
    "window too small": (
        {"window_frames": 1, "sink_frames": 1},
        {"window_frames": 2, "sink_frames": 1},
        ("recipe.window_frames = 1", "recipe.frames_per_block = 1 with recipe.sink_frames = 1"),
    ),
    "first block too large": (
        {"window_frames": 2, "first_frames": 3},
        {"window_frames": 3, "first_frames": 3},
        ("recipe.window_frames = 2", "recipe.first_frames = 3"),
    ),
    "nothing but a first block": (
        {"first_frames": 2, "window_frames": 2, "block_limit": 1},
        {"first_frames": 2, "window_frames": 2, "block_limit": 2},
        ("recipe.first_frames = 2", "recipe.block_limit = 1"),
    ),
    "a clean start of what has one, or has no commits": (
        {"start_blocks": 1},
        {"start_blocks": 1, "level": Level.OUTPUT},
        ("recipe.start_blocks = 1", "recipe.level = clean"),
    ),
    "a past of noise": (
        {"level": Level.INPUT},
        {"level": Level.INPUT, "ladder": (999,)},
        ("recipe.level = input", "recipe.steps = [1000]"),
    ),
    "period too short": (
        {"window_frames": 2, "positions": cyclic(1)},
        {"window_frames": 2, "positions": cyclic(2)},
        ("recipe.positions = { cyclic = 1 }", "recipe.window_frames = 2"),
    ),
    "sinks in the way": (
        {"window_frames": 2, "positions": cyclic(2), "sink_frames": 1},
        {"window_frames": 2, "positions": LISTED, "sink_frames": 1},
        ("recipe.positions = { cyclic = 2 }", "recipe.sink_frames = 1"),
    ),
    "sinks of several blocks, listed": (
        {"window_frames": 3, "positions": LISTED, "sink_frames": 2},
        {"window_frames": 4, "positions": LISTED, "sink_frames": 2, "frames": 2},
        ("recipe.positions = listed", "recipe.frames_per_block = 1 with recipe.sink_frames = 2"),
    ),
    "noise in a context that has its own": (
        {"level": Level.OUTPUT, "commit_step": 50},
        {"level": Level.CLEAN, "commit_step": 50, "commit_label": 0.0},
        ("recipe.commit_step = 50 with recipe.commit_label = none", "recipe.level = output"),
    ),
    "usual list where each step has a lane": (
        {"level": Level.OUTPUT, "ladder": (2, 1), "usual": (2,)},
        {"level": Level.OUTPUT, "ladder": (2, 1), "usual": (2, 1)},
        ("recipe.level = output", "recipe.usual_steps = [2]"),
    ),
    "usual list beyond the ladder": (
        {"ladder": (2, 1), "usual": (1,), "first": (2, 1), "first_blocks": 1},
        {"ladder": (2, 1), "usual": (2,), "first": (2, 1), "first_blocks": 1},
        ("recipe.usual_steps = [1]", "recipe.steps = [2, 1]"),
    ),
    "first list where each step has a lane": (
        {"level": Level.INPUT, "ladder": (2, 1), "first": (2,), "first_blocks": 1},
        {"ladder": (2, 1), "first": (2,), "first_blocks": 1},
        ("recipe.level = input", "recipe.first_steps = [2]"),
    ),
    "first list beyond the ladder": (
        {"ladder": (3, 1), "first": (3, 2), "first_blocks": 1},
        {"ladder": (3, 1), "first": (3, 1), "first_blocks": 1},
        ("recipe.first_steps = [3, 2]", "recipe.steps = [3, 1]"),
    ),
    "shed list where each step has a lane": (
        {"level": Level.OUTPUT, "ladder": (2, 1), "shed": ((2,),)},
        {"ladder": (2, 1), "shed": ((2,),)},
        ("recipe.level = output", "recipe.shed_steps = [[2]]"),
    ),
    "shed list beyond the ladder": (
        {"ladder": (2, 1), "shed": ((1,),)},
        {"ladder": (2, 1), "shed": ((2,),)},
        ("recipe.shed_steps = [[1]]", "recipe.steps = [2, 1]"),
    ),
    "a first list for no block": (
        {"ladder": (2, 1), "first": (2,)},
        {"ladder": (2, 1), "first": (2,), "first_blocks": 1},
        ("recipe.first_steps = [2]", "recipe.first_blocks = none"),
    ),
    "first blocks without a list": (
        {"first_blocks": 1},
        {"first_blocks": 1, "first": (1000,)},
        ("recipe.first_blocks = 1", "recipe.first_steps = none"),
    ),
    "nothing shed": (
        {"ladder": (3, 2, 1), "usual": (3, 2), "first": (3, 2, 1), "first_blocks": 1, "shed": ((3, 1),)},
        {"ladder": (3, 2, 1), "shed": ((3, 1),)},
        ("recipe.shed_steps = [[3, 1]]", "recipe.usual_steps = [3, 2] with recipe.steps = [3, 2, 1]"),
    ),
    "a stream of first blocks": (
        {"block_limit": 1, "first": (1000,), "first_blocks": 1},
        {"block_limit": 2, "first": (1000,), "first_blocks": 1},
        ("recipe.first_blocks = 1", "recipe.block_limit = 1"),
    ),
    "a step that no block takes": (
        {"ladder": (3, 2, 1), "usual": (3, 2), "shed": ((3,),)},
        {"ladder": (3, 2, 1), "usual": (3, 2), "first": (3, 1), "first_blocks": 1},
        ("recipe.steps = [3, 2, 1]", "recipe.usual_steps = [3, 2]"),
    ),
    "a lag that says nothing": (
        {"level": Level.STAGGERED, "ladder": (1000, 500)},
        {"level": Level.STAGGERED, "lag": 1, "ladder": (1000, 500)},
        ("recipe.lag = none", "recipe.level = staggered"),
    ),
    "a lag of more than all steps": (
        {"level": Level.STAGGERED, "lag": 2},
        {"level": Level.STAGGERED, "lag": 2, "ladder": (1000, 500)},
        ("recipe.lag = 2", "recipe.steps = [1000]"),
    ),
    "blocks of several sizes that step together": (
        {"level": Level.STAGGERED, "lag": 1, "first_frames": 2, "window_frames": 2},
        {"level": Level.CLEAN, "first_frames": 2, "window_frames": 2},
        ("recipe.first_frames = 2", "recipe.level = staggered"),
    ),
    "places that change where blocks step together": (
        {"level": Level.STAGGERED, "lag": 1, "positions": LISTED},
        {"level": Level.STAGGERED, "lag": 1},
        ("recipe.positions = listed", "recipe.level = staggered"),
    ),
    "both ways where nothing is shared": (
        {"both_ways": True},
        {"level": Level.STAGGERED, "lag": 1, "both_ways": True},
        ("recipe.both_ways = True", "recipe.level = clean"),
    ),
    "a window that does not hold the blocks that read one another": (
        {"level": Level.STAGGERED, "lag": 1, "both_ways": True, "ladder": (1000, 500)},
        {"level": Level.STAGGERED, "lag": 1, "both_ways": True, "ladder": (1000, 500), "window_frames": 2},
        (
            "recipe.window_frames = 1",
            "recipe.both_ways = True with recipe.lag = 1 with recipe.steps = [1000, 500] "
            "with recipe.frames_per_block = 1 with recipe.sink_frames = 0",
        ),
    ),
    "blocks that read one another in a lane of a step": (
        {"change": CueRule.JOINT, "level": Level.OUTPUT, "ladder": (1000, 500)},
        {"change": CueRule.JOINT, "level": Level.CLEAN, "ladder": (1000, 500)},
        ("recipe.cue_change = recache-joint", "recipe.level = output"),
    ),
    "a full recache without an end": (
        {"change": CueRule.FULL},
        {"change": CueRule.FULL, "block_limit": 1},
        ("recipe.cue_change = recache-full", "recipe.block_limit = none"),
    ),
    "sinks that a recache meets": (
        {"change": CueRule.WINDOW, "window_frames": 2, "sink_frames": 1},
        {"change": CueRule.WINDOW, "window_frames": 2, "sink_frames": 1, "keep_sinks": False},
        ("recipe.cue_change = recache-window", "recipe.sink_frames = 1 with recipe.keep_sinks = none"),
    ),
    "sinks kept from nothing": (
        {"keep_sinks": True},
        {"keep_sinks": True, "change": CueRule.JOINT, "window_frames": 2, "sink_frames": 1},
        ("recipe.keep_sinks = True", "recipe.cue_change = none with recipe.sink_frames = 0"),
    ),
    "a recache of half a block": (
        {"change": CueRule.JOINT, "keep_sinks": True, "window_frames": 6, "sink_frames": 1, "frames": 2},
        {"change": CueRule.JOINT, "keep_sinks": True, "window_frames": 6, "sink_frames": 2, "frames": 2},
        (
            "recipe.cue_change = recache-joint with recipe.frames_per_block = 2",
            "recipe.sink_frames = 1 with recipe.window_frames = 6",
        ),
    ),
    "a recache where blocks step together": (
        {"change": CueRule.WINDOW, "level": Level.STAGGERED, "lag": 1, "ladder": (1000, 500)},
        {"level": Level.STAGGERED, "lag": 1, "ladder": (1000, 500)},
        ("recipe.cue_change = recache-window", "recipe.level = staggered"),
    ),
    "a reference where blocks step together": (
        {"level": Level.STAGGERED, "lag": 1, "window_frames": 2, "reference_frames": 1},
        {"level": Level.CLEAN, "window_frames": 2, "reference_frames": 1},
        ("recipe.reference_frames = 1", "recipe.level = staggered"),
    ),
    "a reference in the way": (
        {"window_frames": 2, "positions": cyclic(2), "reference_frames": 1},
        {"window_frames": 2, "positions": LISTED, "reference_frames": 1},
        ("recipe.positions = { cyclic = 2 }", "recipe.reference_frames = 1"),
    ),
    "a place for no reference": (
        {"reference_lead": 8},
        {"window_frames": 2, "reference_lead": 8, "reference_frames": 1},
        ("recipe.reference_lead = 8", "recipe.reference_frames = none"),
    ),
    "a reference that runs ahead of a list": (
        {"window_frames": 2, "reference_lead": 8, "reference_frames": 1, "positions": LISTED},
        {"window_frames": 2, "reference_lead": 8, "reference_frames": 1, "reference_stride": 4},
        ("recipe.reference_lead = 8", "recipe.positions = listed"),
    ),
    "a stride without a lead": (
        {"window_frames": 2, "reference_frames": 1, "reference_stride": 4},
        {"window_frames": 2, "reference_frames": 1, "reference_stride": 1},
        ("recipe.reference_stride = 4", "recipe.reference_lead = none"),
    ),
    "a reference beside cuts": (
        {"cut": True, "window_frames": 2, "reference_frames": 1},
        {"window_frames": 2, "reference_frames": 1},
        ("recipe.reference_frames = 1", "recipe.cut = True"),
    ),
    "a cut where blocks step together": (
        {"cut": True, "level": Level.STAGGERED, "lag": 1, "ladder": (1000, 500)},
        {"level": Level.STAGGERED, "lag": 1, "ladder": (1000, 500)},
        ("recipe.cut = True", "recipe.level = staggered"),
    ),
    "a cut of what has no window": (
        {"cut": True, "window_frames": None, "block_limit": 1},
        {"cut": True, "window_frames": 1, "block_limit": 1},
        ("recipe.cut = True", "recipe.window_frames = none"),
    ),
    "a cut and a recache": (
        {"cut": True, "change": CueRule.WINDOW},
        {"cut": True},
        ("recipe.cut = True", "recipe.cue_change = recache-window"),
    ),
    "no room beside shots": (
        {"cut": True, "shot_frames": 1, "sink_frames": 1, "window_frames": 2},
        {"cut": True, "shot_frames": 1, "sink_frames": 1, "window_frames": 3},
        (
            "recipe.window_frames = 2",
            "recipe.shot_frames = 1 with recipe.sink_frames = 1 with recipe.frames_per_block = 1",
        ),
    ),
    "shots that never end": (
        {"shot_frames": 1, "window_frames": 2},
        {"shot_frames": 1, "window_frames": 2, "cut": True},
        ("recipe.shot_frames = 1", "recipe.cut = none"),
    ),
    "an offset between no shots": (
        {"positions": Positions(shot_offset=8)},
        {"positions": Positions(shot_offset=8), "cut": True},
        ("recipe.shot_offset = 8", "recipe.cut = none"),
    ),
    "half a block of a shot": (
        {"cut": True, "shot_frames": 1, "window_frames": 3, "frames": 2},
        {"cut": True, "shot_frames": 2, "window_frames": 4, "frames": 2},
        ("recipe.shot_frames = 1", "recipe.frames_per_block = 2 with recipe.first_frames = none"),
    ),
    "shots in the way": (
        {"cut": True, "shot_frames": 1, "window_frames": 2, "positions": cyclic(2)},
        {"cut": True, "window_frames": 2, "positions": cyclic(2)},
        ("recipe.positions = { cyclic = 2 }", "recipe.shot_frames = 1 with recipe.shot_offset = none"),
    ),
}
"""By the name of a rule: what breaks it, what does not, and how the sides are named."""


def test_every_rule_is_tried_here() -> None:
    assert sorted(rule.name for rule in RULES) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_that_breaks_a_rule_is_told_with_both_sides_and_the_next_is_not(name: str) -> None:
    broken, right, sides = CASES[name]
    (rule,) = (rule for rule in RULES if rule.name == name)
    with pytest.raises(Contradiction) as caught:
        check(altered(SMALLEST, **broken))
    assert str(caught.value) == f"{sides[0]} contradicts {sides[1]}: {rule.why}"
    check(altered(SMALLEST, **right))
    if rule.can_run:
        altered(SMALLEST, **broken)  # as a model may have it that is older than the rule
    else:
        with pytest.raises(Contradiction):
            altered(SMALLEST, **broken)


@pytest.mark.parametrize(
    ("fields", "second"),
    [
        ({"window_frames": 3, "frames": 3}, "recipe.frames_per_block = 3 with recipe.sink_frames = 0"),
        ({"window_frames": 3, "first_frames": 3}, "recipe.first_frames = 3"),
    ],
)
def test_a_window_must_hold_the_reference_beside_a_block(fields: Fields, second: str) -> None:
    with pytest.raises(Contradiction) as caught:
        altered(SMALLEST, reference_frames=1, **fields)
    assert f"recipe.window_frames = 3 contradicts {second} with recipe.reference_frames = 1" in str(caught.value)
    altered(SMALLEST, reference_frames=1, **(fields | {"window_frames": 4}))


def test_all_that_contradicts_itself_is_told_at_once() -> None:
    with pytest.raises(Contradictions) as caught:
        altered(SMALLEST, **{"level": Level.INPUT, "window_frames": None, "sink_frames": 3})
    assert len(caught.value.all) == 3
    assert all(side in str(caught.value) for name in ("endless without a window", "a past of noise")
               for side in CASES[name][2])  # fmt: skip
    assert caught.value.problem.is_callers


def test_the_whole_of_a_stream_without_a_window_must_have_places_of_its_own() -> None:
    with pytest.raises(Contradiction, match="same place"):
        altered(SMALLEST, window_frames=None, block_limit=3, positions=cyclic(2))
    altered(SMALLEST, window_frames=None, block_limit=3, positions=cyclic(3))


def test_a_recipe_that_reads_noise_in_some_steps_is_right() -> None:
    check(altered(SMALLEST, **{"level": Level.INPUT, "ladder": (1000, 500)}))
    check(altered(SMALLEST, **{"level": Level.OUTPUT}))
