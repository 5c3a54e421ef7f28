"""What a recache does, by hand: LongLive's window of 12 frames with 3 sinks, in blocks of 3, and others."""

from __future__ import annotations

import pytest

from benchmarks.recaches import read_by, recached
from longtake.core.errors import InvalidField
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import Back, CueChange, CuePolicy, CueRule
from tests.core.support.recaching import BLOCKS, EVERY, recaching

KEPT = recaching(CueRule.JOINT, sinks=3, keep=True, window=12).renewing
MOVED = recaching(CueRule.JOINT, sinks=3, keep=False, window=12).renewing


def test_past_the_window_kept_sinks_are_read_and_all_else_is_committed_anew() -> None:
    made = KEPT.renewal(6, 1)
    assert made.blocks == range(3, 6) and made.is_joint
    assert {tuple(made.reads(block)) for block in made.blocks} == {(0, 1, 2, *range(9, 18))}
    assert made.window.frames(6) == (0, 1, 2, *range(12, 21))
    assert not KEPT.writes_sinks(6)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_while_nothing_has_left_the_window_sinks_are_committed_anew_whatever_the_recipe_says(block: int) -> None:
    for renewing in (KEPT, MOVED):
        made = renewing.renewal(block, 1)
        assert made.blocks == range(block) and not made.kept and renewing.writes_sinks(block)
        assert {tuple(made.reads(each)) for each in made.blocks} == {tuple(range(3 * block))}
        assert made.window.sink_frames == range(3)


def test_sinks_that_are_not_kept_move_to_the_oldest_frames_of_the_last_window() -> None:
    made = MOVED.renewal(6, 1)
    assert made.blocks == range(2, 6)
    assert {tuple(made.reads(block)) for block in made.blocks} == {tuple(range(6, 18))}
    assert made.window.sink_frames == range(6, 9)
    assert [made.window.frames(block) for block in (6, 7)] == [
        (6, 7, 8, *range(12, 21)), (6, 7, 8, *range(15, 24))
    ]  # fmt: skip
    assert sorted(map(made.window.slot, range(6, 18))) == list(range(12)), "each in a slot of its own"


def test_one_after_the_other_only_what_the_coming_block_reads_is_committed_anew() -> None:
    plain = recaching(CueRule.WINDOW, window=12).renewing.renewal(6, 1)
    assert plain.blocks == range(3, 6)
    assert [plain.reads(block) for block in plain.blocks] == [list(range(9, end)) for end in (12, 15, 18)]
    kept = recaching(CueRule.WINDOW, sinks=3, keep=True, window=12).renewing.renewal(6, 1)
    assert kept.blocks == range(4, 6)
    assert [kept.reads(block) for block in kept.blocks] == [[0, 1, 2, 12, 13, 14], [0, 1, 2, *range(12, 18)]]


def test_a_full_recache_does_every_block_as_it_was_done() -> None:
    recipe = recaching(CueRule.FULL, Level.OUTPUT, sinks=3)
    made = recipe.renewing.renewal(7, 1)
    assert made.blocks == range(7)
    assert [made.reads(block) for block in made.blocks] == [list(recipe.window.frames(block)) for block in range(7)]


@pytest.mark.parametrize("name", EVERY)
def test_frame_by_frame_it_is_what_the_paper_says_whatever_came_before(name: str) -> None:
    recipe = EVERY[name]
    last = recipe.block_limit or BLOCKS
    for block in range(1, last):
        made = recipe.renewing.renewal(block, 1)
        right = recached(recipe, block, [1])
        assert list(made.blocks) == list(right.reads) and len(made.blocks) <= recipe.renewing.reach
        slot = made.window.slot
        assert [sorted(made.reads(each), key=slot) for each in made.blocks] == list(right.reads.values())
        for later in range(block, last):
            assert sorted(made.window.frames(later), key=slot) == read_by(recipe, later, [1, block])


def test_a_cue_swaps_under_any_recipe_and_recaches_where_that_says_how() -> None:
    joint, plain = CuePolicy(change=CueRule.JOINT), CuePolicy()
    swap, recache = CueChange.SWAP, CueChange.RECACHE
    assert [joint.of(asked) for asked in (None, swap, recache)] == [recache, swap, recache]
    assert [plain.of(asked) for asked in (None, CueChange.SWAP)] == [CueChange.SWAP, CueChange.SWAP]
    with pytest.raises(InvalidField, match=r"cue\.change"):
        plain.of(CueChange.RECACHE)
    for effect in (CueChange.CUT, Back(0)):
        assert CuePolicy(cut=True).of(effect) == effect
        with pytest.raises(InvalidField, match=r"cue\.change"):
            joint.of(effect)


def test_recipes_that_recache_are_others_and_those_that_do_not_are_what_they_were() -> None:
    digests = {name: recipe.digest for name, recipe in EVERY.items()}
    assert len(set(digests.values())) == len(EVERY)
    assert "cue_change" not in recaching(CueRule.SWAP).plain() and "keep_sinks" not in recaching(CueRule.SWAP).plain()
