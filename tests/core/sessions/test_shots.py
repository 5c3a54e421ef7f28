"""Shots: lanes see what the story says of its shots, whatever happens, and nobody else's pages."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from longtake.core.effects import CueAccepted, Emit, RequestRefused
from longtake.core.errors import LongtakeError
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CueRule
from longtake.core.recipe.shots import REMEMBERED_SHOTS, Shot
from longtake.core.recipe.window import Window
from longtake.core.sessions.retention import Retention
from longtake.core.work import Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry
from tests.core.support.recaching import ask, recaching
from tests.core.support.shooting import EVERY, ShotStorm
from tests.core.support.world import effects_of
from tests.samples import first


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", first(1, range(4)))
def test_whatever_happens_to_stories_they_see_what_they_must(name: str, seed: int) -> None:
    ShotStorm(seed, EVERY[name]).run()


S, BLOCKS = SessionId("s"), 16


def told(name: str, story: dict[int, CueEffect], blocks: int = BLOCKS, **changes: object) -> ImageCell:
    """A stream with a story, of which nothing is made yet."""
    cell = ImageCell(EVERY[name], **({"denoisers": 1} | changes))  # type: ignore[arg-type]
    cell.open("s", pictures=geometry().first_picture(blocks), window=2)
    cell.answer()
    for block, effect in story.items():
        ask(cell, S, f"c{block}", block, effect)
        cell.answer()
    return cell


def until(cell: ImageCell, emitted: int) -> None:
    """Let so many segments leave."""
    while cell.session("s").emitted < emitted:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.settle(acknowledge=False)


CUT_CUT_BACK: dict[int, CueEffect] = {4: CueChange.CUT, 9: CueChange.CUT, 12: Back(0)}


def test_a_block_behind_a_cut_sees_sinks_and_the_first_blocks_of_shots_and_its_own_shot() -> None:
    story: dict[int, CueEffect] = {2: CueChange.CUT, 7: CueChange.CUT, 9: CueChange.CUT, 11: Back(1)}
    cell = told("sinks and two shots", story)
    cell.settle()
    window, shots, shot, seen = cell.recipe.window, cell.recipe.shots, Shot(), {}
    for block in range(BLOCKS):
        effect = story.get(block)
        shot = shot if effect is None else shots.next(shot, block, effect)
        seen[block] = [frame // 3 for frame in window.of_shot(shot, block).frames(block)[::3]]
    assert (seen[2], seen[3], seen[4]) == ([0, 2], [0, 2, 3], [0, 2, 3, 4]), "2 has left the window and is on the shelf"
    assert seen[7] == [0, 2, 7], "the shot before; the first one is all sinks"
    assert seen[9] == [0, 2, 7, 9] and seen[10] == [0, 2, 7, 9, 10]
    assert seen[11] == [0, 2, 9, 11], "shot 1 is the newest again, and shot 2 has left"


def test_what_is_said_of_shots() -> None:
    cell = told("one shot", CUT_CUT_BACK)
    accepted = {effect.block: effect.shot for effect in effects_of(cell, CueAccepted)}
    assert accepted == {4: 1, 9: 2, 12: 3}
    ask(cell, S, "plain", 6)
    cell.answer()
    assert effects_of(cell, CueAccepted)[-1].shot is None
    cell.settle()
    assert [emit.shot for emit in effects_of(cell, Emit)] == [0] * 4 + [1] * 5 + [2] * 3 + [3] * 4


def test_a_later_cue_for_the_block_of_a_cut_takes_it_back_and_shots_are_numbered_anew() -> None:
    cell = told("one shot", CUT_CUT_BACK)
    ask(cell, S, "instead", 4)
    cell.answer()
    cell.settle()
    assert [emit.shot for emit in effects_of(cell, Emit)] == [0] * 9 + [1] * 3 + [2] * 4


@pytest.mark.parametrize(
    ("name", "effect", "why"),
    [
        ("one shot", Back(2), "a shot from 0 to 1"),
        ("one shot", CueChange.RECACHE, "cue.change"),
        ("nothing stays", Back(0), "nothing is kept"),
    ],
)
def test_what_cannot_be_gone_back_to_is_refused_and_nothing_changes(name: str, effect: CueEffect, why: str) -> None:
    cell = told(name, {4: CueChange.CUT})
    ask(cell, S, "wrong", 8, effect)
    cell.answer()
    assert why in effects_of(cell, RequestRefused)[-1].problem.message
    cell.settle()
    assert [emit.shot for emit in effects_of(cell, Emit)] == [0] * 4 + [1] * 12
    cell.check_empty()


def test_a_recipe_without_cuts_refuses_them() -> None:
    cell = ImageCell(recaching(CueRule.WINDOW), denoisers=1)
    cell.open("s", pictures=geometry().first_picture(6))
    cell.answer()
    for effect in (CueChange.CUT, Back(0)):
        ask(cell, S, str(effect), 4, effect)
        assert "no cue cuts" in effects_of(cell, RequestRefused)[-1].problem.message


def test_what_is_kept_of_a_long_story_is_bounded_and_enough() -> None:
    """A shot every three blocks: first blocks are kept of those that a lane is rebuilt from, or that can come again."""
    blocks = 120
    story: dict[int, CueEffect] = {}
    cell = told("sinks and a shot", story, blocks=blocks, pages=4000)
    sizes = []
    for block in range(3, blocks - 6, 3):
        until(cell, block - 2)
        back = Back(block // 3 - 16) if block % 15 == 0 and block > 60 else CueChange.CUT
        ask(cell, S, f"c{block}", max(block + 3, cell.session("s").next_block), back)
        cell.answer()
        sizes.append(len({block for owner, block, _ in cell.kept.latents if owner == "s"}))
    session = cell.session("s")
    assert len(session.story.shots) <= 1 + REMEMBERED_SHOTS + 2 + 6 and len(session.prompts.turns) <= 28
    assert max(sizes[30:]) <= max(sizes[20:30]) + 2, "it grows no more"
    cell.lose(session.place.lanes[0])
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 4000)
    cell.settle()
    cell.check_empty()


@pytest.mark.parametrize("name", ["one shot", "output", "input, sinks", "sinks and two shots"])
@pytest.mark.parametrize("emitted", [5, 10, 12])
def test_a_lane_that_is_lost_comes_back_from_first_blocks_and_its_window(name: str, emitted: int) -> None:
    cell = told(name, CUT_CUT_BACK, denoisers=2)
    until(cell, emitted)
    cell.lose(cell.session("s").place.lanes[0])
    cell.settle()
    cell.check_empty()


def twice(window: Window, block: int) -> tuple[int, ...]:
    """What a block reads, if what is on the shelf were read in the window as well."""
    end = window.blocks.own(block).stop
    return (*window.shelf.frames, *range(max(0, end - (window.ring or 0)), end))


BROKEN: dict[str, tuple[str, str, object, str]] = {
    "a cut that keeps the window": (
        "one shot", "longtake.core.recipe.shots.Shots.next", lambda self, shot, block, effect: shot, "reads"
    ),
    "nothing is pinned": (
        "one shot", "longtake.core.recipe.shots.Shot.pinned", lambda self, room, own: (), "reads"
    ),
    "the wrong shot comes back": (
        "one shot", "longtake.core.recipe.shots.Shots.target",
        lambda self, shot, effect: shot.known[-1] if isinstance(effect, Back) else None, "9",
    ),
    "a frame is listed twice": (
        "one shot", "longtake.core.recipe.window.Window.frames", lambda self, block: twice(self, block), "reads"
    ),
    "the offset is ignored": (
        "sinks and a shot", "longtake.core.recipe.shelf.Shelf.shot_of", lambda self, block: 0, "queries"
    ),
    "what comes back is not made anew": (
        "one shot", "longtake.core.sessions.renewing.due", lambda session, lane, block: None, "should read"
    ),
    "pages stay where they were": (
        "one shot", "longtake.core.pages.PageTable.enter",
        lambda self, window, block: self.move_sinks(window), "should read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, target, instead, told_of = BROKEN[name]
    monkeypatch.setattr(target, instead)
    if target.endswith("due"):
        monkeypatch.setattr("longtake.core.dispatch.offering.due", instead)
    with pytest.raises((AssertionError, LongtakeError, LookupError), match=told_of):
        told(recipe, CUT_CUT_BACK).settle()


@pytest.mark.parametrize("name", ["two shots", "sinks and two shots"])
def test_a_lane_that_is_rebuilt_from_one_shot_less_than_its_layers_see_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story: dict[int, CueEffect] = dict.fromkeys(range(2, 10), CueChange.CUT)
    for less in (0, 1):
        monkeypatch.setattr(Retention, "shots_back", 2 * 2 - less)
        cell = told(name, story)
        until(cell, 8)
        assert cell.session("s").next_block == 10, "in the middle of the last shot"
        cell.lose(cell.session("s").place.lanes[0])
        cell.join(WorkerId("denoise-0"), Role.DENOISE, 400)
        with pytest.raises(AssertionError, match="should read") if less else nullcontext():
            cell.settle()
            cell.check_empty()
