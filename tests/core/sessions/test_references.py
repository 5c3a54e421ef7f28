"""Streams with a reference: what is read, when and where, and that nothing which befalls them changes any of it."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from longtake.core.effects import Dispatch, Emit, Refused, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import Contradiction, InternalFault, Missed
from longtake.core.facts import LaneMoved, Renewed
from longtake.core.limits import Limits
from longtake.core.parts import EncodePictures
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.positions import Cyclic, Numbering, Places, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.references import REFERENCE, placing
from longtake.core.sessions import renewing
from longtake.core.sessions.life import State
from longtake.core.work import FromLatent, Role, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, recipe
from tests.core.support.recaching import CueStorm, ask, recaching
from tests.core.support.recipes import APART, altered
from tests.core.support.storm import Storm
from tests.core.support.world import Cell, effects_of, forwards_of
from tests.samples import covering, first


def with_reference(made: Recipe, count: int = 1, **changes: object) -> Recipe:
    """The same with a reference beside what its window holds."""
    window = None if made.window_frames is None else made.window_frames + count
    return altered(made, reference_frames=count, window_frames=window, **changes)


AHEAD: dict[str, object] = {"reference_lead": 4, "reference_stride": 4}


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize("given", [0, 1, 4])
@pytest.mark.parametrize("count", [1, 2])
def test_every_lane_commits_it_once_at_zero_before_all_blocks(level: Level, given: int, count: int) -> None:
    cell = Cell(with_reference(recipe(level), count), batch_limit=4)
    session = cell.open("s", pictures=90, given=given)
    cell.run()
    graph, works = cell.graph_of(session), forwards_of(cell)
    placed = [work for work in works if work.block == REFERENCE]
    assert Counter(work.lane for work in placed) == {lane: 1 for lane in range(graph.lane_count)}
    for work in placed:
        assert set(work.times.timesteps) == {0.0} and work.times.noised is None
        assert isinstance(work.input, FromLatent)
        assert (work.input.ref.block, work.input.ref.step) == (0, graph.step_count + 1)
        assert work.pages.reads == work.pages.writes and len(work.pages.writes) == count
        later = [other for other in works if other.lane == work.lane and other is not work]
        assert all(other.pages.reads[:count] == work.pages.writes for other in later), "first of what all others read"
        assert works.index(work) < min(works.index(other) for other in later)
    parts = effects_of(cell, EncodePictures)
    assert {part.session for part in parts} == {session} and len(parts) == given + count
    assert [part.is_reference for part in parts] == [False] * given + [True] * count
    assert [emit.block for emit in effects_of(cell, Emit)] == list(range(cell.closed[session].segments))
    assert min(emit.first_picture for emit in effects_of(cell, Emit)) == 0, "nobody is shown it"
    assert not effects_of(cell, Renewed), "that is no recache"
    assert cell.closed[session].ending is Ending.COMPLETED


def test_its_op_shares_no_forward_that_no_worker_has_tried() -> None:
    cell = Cell(with_reference(recipe(Level.CLEAN)), batch_limit=4)
    for number in range(3):
        cell.open(f"s{number}", pictures=40)
    cell.run()
    batches = [each.work for each in effects_of(cell, Dispatch) if isinstance(each.work, tuple)]
    assert {len(batch) for batch in batches if batch[0].block == REFERENCE} == {1}
    assert max(map(len, batches)) > 1


@pytest.mark.parametrize("seed", range(60))
def test_a_reference_that_runs_ahead_is_always_ahead(seed: int) -> None:
    """Of random plans, over 10^6 blocks: it stands after all that is read, and moves by its stride alone."""
    draw = random.Random(seed)
    frames, lead, stride = draw.randrange(1, 9), draw.randrange(1, 40), draw.randrange(1, 12)
    made = with_reference(
        altered(recipe(Level.CLEAN, window=draw.randrange(9, 30)), frames=frames, first_frames=draw.choice([None, 2])),
        draw.randrange(1, 4),
        reference_lead=lead,
        reference_stride=stride,
    )
    window, blocks = made.window, sorted({*range(40), *(draw.randrange(10**6) for _ in range(300)), 10**6})
    places = [made.positions.of(window, block) for block in blocks]
    firsts = []
    for block, place in zip(blocks, places, strict=True):
        first = place.read[0]
        assert first > place.queries[-1] == window.blocks.own(block).stop - 1, "ahead of the last that is generated"
        assert place.read[: window.references] == tuple(range(first, first + window.references))
        assert not set(place.read[: window.references]) & set(place.read[window.references :])
        assert first == lead or first - stride <= place.queries[-1], "no further than it must be"
        assert (first - lead) % stride == 0
        firsts.append(first)
    assert all(earlier <= later for earlier, later in pairwise(firsts))


def test_the_places_of_the_paper() -> None:
    """Knot Forcing: a lead of 8, a stride of 4, blocks of 3."""
    made = with_reference(recipe(Level.CLEAN), reference_lead=8, reference_stride=4)
    firsts = [made.positions.of(made.window, block).read[0] for block in range(8)]
    assert firsts == [8, 8, 12, 12, 16, 20, 24, 24]


def test_where_it_stands_otherwise_it_comes_first() -> None:
    made = with_reference(recipe(Level.CLEAN), 2)
    absolute, listed = made.positions, Positions(stream=Numbering.LISTED)
    assert absolute.of(made.window, REFERENCE, [-2, -1]).queries == (0, 1)
    assert absolute.of(made.window, 0).queries == (2, 3, 4)
    assert absolute.of(made.window, 7) == Places((23, 24, 25), (23, 24, 25), ())
    for block in range(3):
        assert listed.of(made.window, block).queries == absolute.of(made.window, block).queries, "nothing has left"
    assert listed.of(made.window, 7).queries == (8, 9, 10)
    assert sorted(listed.of(made.window, 7).read) == list(range(11)) and listed.of(made.window, 7).read[:2] == (0, 1)


def placed(draw: random.Random) -> dict[str, object]:
    """Any way to stand."""
    return draw.choice([{}, {"positions": Positions(stream=Numbering.LISTED)}, AHEAD])


class References(Storm):
    """A storm of streams with references."""

    def begun(self, made: Recipe) -> Recipe:
        first = self.draw.choice([None, None, 1, 4])
        if isinstance(made.positions.stream, Cyclic):
            made = altered(made, positions=Positions())
        made = altered(made, start_blocks=self.draw.randrange(3) if made.level is Level.OUTPUT else 0)
        count, window = self.draw.choice([1, 1, 2]), made.window_frames
        assert window is not None and window == 9  # the pages of the storm's workers are counted for it
        made = altered(made, reference_frames=count, sink_frames=min(made.sink_frames, 3))
        try:
            return altered(made, first_frames=first, **(AHEAD if self.draw.random() < 0.3 else {}))
        except Contradiction:
            return made

    def given(self) -> int:
        listed = self.cell.recipe.positions.stream is Numbering.LISTED
        return 0 if listed else self.draw.choice([0, 0, 1, 3, 4])


@pytest.mark.parametrize("seed", range(12))
def test_storms_end_with_every_stream_as_it_would_have_been(seed: int) -> None:
    storm = References(seed)
    for _ in range(600):
        storm.step()
    storm.finish()


RECACHED = {
    "none": recipe(Level.CLEAN),
    "none, sinks": recipe(Level.OUTPUT, sinks=2, steps=2),
    "none, listed": altered(recipe(Level.INPUT, steps=2), positions=Positions(stream=Numbering.LISTED)),
    "ahead": altered(recipe(Level.CLEAN)),
    "ahead, moved": recaching(CueRule.JOINT, sinks=3, keep=False, window=12),
    "ahead, window, moved": recaching(CueRule.WINDOW, Level.OUTPUT, sinks=3, keep=False, window=12),
    "window": recaching(CueRule.WINDOW, Level.OUTPUT, steps=2),
    "window, kept": recaching(CueRule.WINDOW, sinks=3, keep=True, window=12),
    "joint, moved": recaching(CueRule.JOINT, sinks=3, keep=False, window=12),
    "joint": recaching(CueRule.JOINT),
    "full": recaching(CueRule.FULL, Level.INPUT, steps=2),
}
"""One of each way of recaching."""


@pytest.mark.parametrize("seed", first(1, range(2)))
@pytest.mark.parametrize("name", RECACHED)
def test_cues_forks_moves_and_losses_leave_it_as_it_is(name: str, seed: int) -> None:
    changes = AHEAD if name.startswith("ahead") else {}
    storm = CueStorm(seed, with_reference(RECACHED[name], 1 + seed % 2, **changes))
    storm.run(260)
    assert any(work.block == REFERENCE for work in forwards_of(storm.cell))


@pytest.mark.parametrize(
    ("level", "at", "victim"), covering(APART, [0, 1, 2, 3, 5, 9, 20], ["denoise-0", "denoise-1", "decode-0"])
)
def test_it_is_there_again_whatever_is_lost_and_when(level: Level, at: int, victim: str) -> None:
    cell = Cell(with_reference(recipe(level, sinks=2)), denoisers=2, decoders=2)
    session = cell.open("s", pictures=150)
    cell.answer()
    cell.run_with_a_loss(victim, at)
    assert cell.closed[session].ending is Ending.COMPLETED
    assert not cell.scheduler.sessions()


@pytest.mark.parametrize("level", APART)
def test_a_lane_that_moves_before_the_stream_begins_takes_it_along(level: Level) -> None:
    cell = ImageCell(with_reference(recipe(level)), denoisers=3)
    session = cell.open("s", pictures=90)
    for lane, worker in enumerate(cell.session(session).place.lanes):
        cell.move(session, lane, next(view.id for view in cell.fleet if view.id not in (worker, "decode-0")))
    for _ in range(3 * len(cell.session(session).place.lanes)):  # whatever was copied is not there yet
        if cell.images.ready:
            cell.carry_out(cell.images.ready[0])
    cell.answer()
    cell.settle()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert effects_of(cell, LaneMoved)
    cell.check_empty()


def test_no_cue_changes_the_prompt_that_it_was_committed_with() -> None:
    cell = Cell(with_reference(recipe(Level.CLEAN)))
    session = cell.open("s", pictures=60, window=1)
    cell.answer()
    ask(cell, session, "late", 0)
    cell.answer()
    (refused,) = effects_of(cell, RequestRefused)
    assert refused.problem.about == Missed(earliest_block=1)
    cell.run()
    (placed,) = [work for work in forwards_of(cell) if work.block == REFERENCE]
    assert placed.conditioning.version == 0


def test_a_cue_that_comes_with_the_stream_at_block_0_is_its_prompt() -> None:
    cell = Cell(with_reference(recipe(Level.OUTPUT)))
    cell.open("s", pictures=200, cues=(cue("first", block=0, prompt="q"),))
    cell.run()
    assert {work.conditioning.version for work in forwards_of(cell)} == {1}


def test_a_fork_goes_on_with_the_reference_of_its_parent_but_not_from_before_all_blocks() -> None:
    cell = ImageCell(with_reference(recipe(Level.CLEAN)), limits=Limits(rewind_blocks=9))
    parent = cell.open("parent", pictures=150)
    cell.answer()
    assert cell.fork("none", parent, at=0, pictures=150) == -1
    assert "1 or more" in effects_of(cell, Refused)[-1].problem.message
    cell.steps(30)
    assert cell.fork("present", parent, pictures=200) > 0
    assert cell.fork("past", parent, at=1, pictures=200) == 1
    cell.settle()
    cell.check_empty()
    assert all(closed.ending is Ending.COMPLETED for name, closed in cell.closed.items() if name != "none")
    again = [work for work in forwards_of(cell) if work.block == REFERENCE]
    assert Counter(work.session for work in again) == {"parent": 1, "past": 1}, "the other one shares the page"


@pytest.mark.parametrize("broken", ["not committed", "not committed again", "of another prompt", "dropped"])
def test_a_mistake_is_seen(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests would say if the reference were not treated as it is."""
    if broken == "not committed":
        monkeypatch.setattr(renewing, "place", lambda session: None)
    elif broken == "of another prompt":
        monkeypatch.setattr(renewing, "placing", lambda window, version: placing(window, version + 1))
    cell = ImageCell(with_reference(recipe(Level.CLEAN)))
    with pytest.raises((AssertionError, KeyError, InternalFault)):
        session = cell.open("s", pictures=200)
        cell.answer()
        cell.steps(40)
        if broken == "not committed again":
            monkeypatch.setattr(renewing, "reference", lambda session: ())
        if broken == "dropped":
            del cell.kept.latents[session, 0, Graph(cell.recipe).step_count + 1]
        cell.lose(WorkerId("denoise-0"))
        cell.join(WorkerId("denoise-0"), Role.DENOISE, 400)
        cell.lose(WorkerId("denoise-1"))
        cell.run()


def test_a_stream_that_loses_its_place_before_it_begins_commits_it_all_the_same() -> None:
    cell = ImageCell(with_reference(recipe(Level.CLEAN)), denoisers=1)
    session = cell.open("s", pictures=90)
    cell.lose(WorkerId("denoise-0"))
    assert cell.session(session).state is State.PARKED
    cell.join(WorkerId("denoise-0"), Role.DENOISE, 400)
    cell.answer()
    cell.settle()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert [work.lane for work in forwards_of(cell) if work.block == REFERENCE] == [0]
