"""Streams whose beginning is given, or begins clean: what runs, what it reads, and that storms change none of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.effects import Dispatch, Refused, Trim
from longtake.core.endings import Ending
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.events import CueRequest, Open
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.recipe.given import graph_with, plan_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import CueId, FromLatent, SessionId
from tests.core.support.parts import SETTINGS, recipe
from tests.core.support.recipes import altered
from tests.core.support.storm import Storm
from tests.core.support.world import Cell, effects_of, forwards_of
from tests.samples import covering, first

LEVELS = (Level.CLEAN, Level.OUTPUT, Level.INPUT)
"""At STAGGERED blocks step together from the first on."""
FRAMES = (1, 2, 3, 4, 6, 7, 9)


def began(level: Level, start: int = 0, **blocks: int) -> Recipe:
    made = recipe(level)
    return replace(
        made, context=replace(made.context, start_blocks=start), blocks=replace(made.blocks, **blocks)
    )  # fmt: skip


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("first", [None, 2, 5])
def test_what_is_given_is_whole_blocks_and_an_image_is_one_of_one_frame(frames: int, first: int | None) -> None:
    graph = graph_with(Graph(replace(recipe(), blocks=replace(recipe().blocks, first_frames=first))), frames)
    assert graph.blocks.first_frame(graph.given_blocks) == frames
    assert all(graph.blocks.made(block) == 3 for block in range(1, 9))
    assert plan_with(graph.blocks, frames) == graph.blocks, "what a fork has of it is divided as it was"


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_that_is_given_is_denoised_and_every_lane_commits_it_at_zero(level: Level, frames: int) -> None:
    cell = Cell(recipe(level), denoisers=3)
    session = cell.open("s", given=frames, pictures=70)
    cell.run()
    graph = cell.graph_of(session)
    works = forwards_of(cell)
    given = [work for work in works if work.block < graph.given_blocks]
    assert {(work.lane, work.block) for work in given} == {
        (lane, block) for lane in range(graph.lane_count) for block in range(graph.given_blocks)
    }
    assert len(given) == graph.lane_count * graph.given_blocks, "once each"
    for work in given:
        assert isinstance(work.input, FromLatent) and work.input.ref.step == graph.step_count
        assert set(work.times.timesteps) == {0.0} and len(work.times.timesteps) == graph.blocks.made(work.block)
        assert not (work.returns.are_sent or work.returns.are_kept)
    usual = [work for work in works if work.block >= graph.given_blocks]
    assert {work.step for work in usual if work.kind is Kind.DENOISE} == set(range(graph.step_count))
    assert cell.closed[session].ending is Ending.COMPLETED
    assert cell.segments[session] == list(range(cell.closed[session].segments)), "what is given is shown as well"


@pytest.mark.parametrize("level", LEVELS)
def test_what_was_given_is_never_dropped_however_far_a_stream_goes(level: Level) -> None:
    """Nothing makes it again, so an export, a fork or the next server must find it."""
    cell = Cell(recipe(level, steps=2))
    session = cell.open("s", given=7, pictures=400)
    cell.run()
    given, trims = cell.graph_of(session).given_blocks, effects_of(cell, Trim)
    assert given == 3 and trims[-1].floors[-1] > 2 * given, "everything else of that time is dropped"
    assert all(trim.sinks >= given for trim in trims)


def test_a_hybrid_start_commits_x0_of_its_blocks_in_every_lane_and_later_ones_as_ever() -> None:
    cell = Cell(began(Level.OUTPUT, start=2), denoisers=2)
    cell.open("s", given=1, pictures=70)
    cell.run()
    commits = {(work.lane, work.block): work for work in forwards_of(cell) if work.kind is Kind.COMMIT}
    for (lane, block), work in commits.items():
        clean = block < 3
        assert (work.times.timesteps[0] == 0.0) == (clean or lane == 3)
        assert not clean or work.input == FromLatent(replace(work.input.ref, step=4))  # type: ignore[union-attr]
    assert {block for _, block in commits if block < 3} == {0, 1, 2}


@pytest.mark.parametrize("level", LEVELS)
def test_a_cue_takes_the_first_block_that_is_not_given_at_the_earliest(level: Level) -> None:
    cell = Cell(recipe(level))
    cues = (CueRequest(cue=CueId("early"), prompt="q", block=1), CueRequest(cue=CueId("right"), prompt="q", block=2))
    session = cell.open("s", given=4, pictures=70, cues=cues)
    cell.run()
    assert cell.versions[session, 1] == {0} and cell.versions[session, 2] == {2}
    assert cell.closed[session].ending is Ending.COMPLETED


@pytest.mark.parametrize(
    ("given", "pictures", "field"), [(10, None, "open.given"), (4, 13, "open.length"), (1, 1, "open.length")]
)  # fmt: skip
def test_what_cannot_be_given_is_refused(given: int, pictures: int | None, field: str) -> None:
    cell = Cell(recipe())
    cell.send(
        Open(now_s=0.0, session=SessionId("s"), prompt="p", seed=1, pace=Pace.FAST, window=4, picture_limit=pictures,
             settings=SETTINGS, given_frames=given)
    )  # fmt: skip
    (refused,) = effects_of(cell, Refused)
    assert refused.problem.message.startswith(field)
    assert not cell.scheduler.sessions()
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


@pytest.mark.parametrize(
    ("level", "victim", "at"),
    covering(LEVELS, ["denoise-0", "denoise-1", "decode-0"], [0, 1, 2, 3, 5, 8, 13, 21, 34]),
)
def test_whatever_is_lost_and_when_the_stream_is_whole_again(level: Level, victim: str, at: int) -> None:
    start = 2 if level is Level.OUTPUT else 0
    cell = Cell(began(level, start), denoisers=2, decoders=2)
    session = cell.open("s", given=4, pictures=150)
    cell.answer()
    cell.run_with_a_loss(victim, at)
    assert cell.closed[session].ending is Ending.COMPLETED
    assert not cell.scheduler.sessions()
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())


def test_a_batch_of_shapes_that_no_worker_has_tried_is_not_made() -> None:
    cell = Cell(recipe(), batch_limit=4)
    for number in range(3):
        cell.open(f"s{number}", given=1, pictures=60)
    cell.run()
    graph = cell.graph_of(cell.open("last", given=1))
    sizes: dict[bool, set[int]] = {True: set(), False: set()}
    for dispatch in effects_of(cell, Dispatch):
        if isinstance(dispatch.work, tuple):
            shape = len(dispatch.work[0].positions), len(dispatch.work[0].pages.reads)
            sizes[graph.is_proven(shape)].add(len(dispatch.work))
    assert sizes[False] == {1} and max(sizes[True]) > 1


def test_what_a_recipe_cannot_have_as_its_first_block_cannot_be_given() -> None:
    made = altered(recipe(Level.CLEAN, sinks=3), positions=Positions(stream=Numbering.LISTED))
    with pytest.raises(InvalidField, match="the sinks must be frames of the first block"):
        graph_with(Graph(made), 1)
    assert graph_with(Graph(made), 3).given_blocks == 1


def test_where_blocks_step_together_nothing_can_be_given() -> None:
    made = recipe(Level.OUTPUT)
    joint = replace(made, context=replace(made.context, level=Level.STAGGERED, lag=1))
    with pytest.raises(InvalidField, match="step together from the first on"):
        graph_with(Graph(joint), 1)


class Beginnings(Storm):
    """A storm of streams that begin in all ways."""

    def begun(self, made: Recipe) -> Recipe:
        first = self.draw.choice([None, 1, 2, 4])
        start = self.draw.randrange(4) if made.level is Level.OUTPUT else 0
        made = altered(made, start_blocks=start)
        try:
            return altered(made, first_frames=first)
        except Contradiction:  # where places are listed, the first block holds the sinks
            return made

    def given(self) -> int:
        frames = self.draw.choice([0, 0, 1, 3, 4, 8])
        try:
            graph_with(self.cell.graph, frames)
        except InvalidField:
            return 0
        return frames


@pytest.mark.parametrize("seed", first(12, range(40)))
def test_storms_end_with_every_stream_as_it_would_have_been(seed: int) -> None:
    storm = Beginnings(seed)
    for _ in range(700):
        storm.step()
    storm.finish()
