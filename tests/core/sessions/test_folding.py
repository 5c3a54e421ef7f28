"""Folding in a whole cell: whatever happens to a stream it reads the memory of the paper, or its client is told."""

from __future__ import annotations

import pytest

from longtake.core.effects import Notice, Recovered
from longtake.core.events import Pause, Play
from longtake.core.limits import Limits, Recover
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.life import State
from longtake.core.work import Continuity, SessionId
from tests.core.support.folded import folding
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry
from tests.core.support.recaching import BLOCKS, CueStorm
from tests.core.support.world import effects_of, forwards_of
from tests.samples import first
from workers.simulated.arithmetic import REACH

S = SessionId("s")
EVERY = {
    "input": folding(),
    "output": folding(Level.OUTPUT, steps=3),
    "clean": folding(Level.CLEAN),
    "no past but memory": folding(sinks=0, memory=3, k=2, window=6),
    "two sinks": folding(Level.CLEAN, sinks=2, memory=1, window=12),
}


class FoldStorm(CueStorm):
    """The same, and no lane moves that the balance would not move."""

    def _move(self, session: SessionId) -> None:
        record = self.cell.session(session)
        is_bound = record.kin.forks or record.kin.depends
        if record.state in (State.OPENING, State.RUNNING) and not is_bound:
            super()._move(session)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", first(2, range(4)))
def test_whatever_happens_to_streams_that_fold_they_read_what_they_must_or_are_told(name: str, seed: int) -> None:
    storm = FoldStorm(seed, EVERY[name])
    storm.run()
    told = {each.session for each in effects_of(storm.cell, Recovered) if each.continuity is Continuity.APPROXIMATE}
    assert {each.session for each in effects_of(storm.cell, Notice) if "memory" in each.text} >= told


def running(recipe: Recipe, emitted: int, **changes: object) -> ImageCell:
    """A stream that has shown so many blocks."""
    cell = ImageCell(recipe, **({"denoisers": 3} | changes))  # type: ignore[arg-type]
    cell.open("s", pictures=geometry().first_picture(BLOCKS), window=2)
    cell.answer()
    while cell.session("s").emitted < emitted:
        cell.settle(acknowledge=False)
        cell.acknowledge(S)
    cell.settle(acknowledge=False)
    return cell


def lost(cell: ImageCell) -> list[tuple[Continuity, bool]]:
    """What a client is told of the loss of a lane, and whether that says why."""
    cell.lose(cell.session("s").place.lanes[0])
    cell.settle()
    notices = [each.text for each in effects_of(cell, Notice) if "folded into a memory" in each.text]
    assert len(notices) <= 1
    cell.check_empty()
    return [(each.continuity, bool(notices)) for each in effects_of(cell, Recovered)]


@pytest.mark.parametrize("name", EVERY)
def test_a_stream_that_is_rebuilt_from_its_beginning_is_exact_and_one_that_is_not_is_told_why(name: str) -> None:
    past = EVERY[name].history_blocks * REACH.layers
    young = running(EVERY[name], emitted=past - 2)
    assert young.session("s").next_block == past
    assert any(work.folds for work in forwards_of(young)) or past < 3
    assert lost(young) == [(Continuity.EXACT, False)]
    old = running(EVERY[name], emitted=past - 1)
    assert lost(old) == [(Continuity.APPROXIMATE, True)]


def test_what_is_rebuilt_from_the_window_alone_is_told_too_and_reads_nothing_that_was_never_written() -> None:
    cell = running(EVERY["input"], emitted=7, limits=Limits(recover=Recover.FAST))
    assert lost(cell) == [(Continuity.APPROXIMATE, True)]


@pytest.mark.parametrize("name", EVERY)
def test_parked_moved_and_forked_streams_keep_their_memory_to_the_bit(name: str) -> None:
    cell = running(EVERY[name], emitted=10, limits=Limits(park_after_s=1.0))
    cell.send(Pause(now_s=cell.now_s, session=S))
    cell.settle()
    cell.later(1.5)
    cell.settle()
    assert not cell.session("s").place.lanes, "it is parked"
    cell.send(Play(now_s=cell.now_s, session=S))
    cell.settle(acknowledge=False)
    assert cell.fork("child", S, pictures=geometry().first_picture(BLOCKS)) > 0
    cell.settle(acknowledge=False)
    place = cell.session("s").place
    target = next(worker.id for worker in cell.fleet if worker.id not in (place.lanes[0], place.decoder))
    cell.move(S, 0, target)
    cell.settle()
    assert not cell.contents.vague and not effects_of(cell, Recovered)
    assert cell.images.moved >= 1 + len(place.lanes)
    cell.check_empty()


def test_a_memory_of_which_only_the_image_was_lost_is_told_of_as_well() -> None:
    """Nothing of the stream was lost but what lay in host memory: its client did not know that it was parked."""
    cell = running(EVERY["input"], emitted=10, limits=Limits(park_after_s=1.0))
    cell.send(Pause(now_s=cell.now_s, session=S))
    cell.settle()
    cell.later(1.5)
    cell.settle()
    cell.send(Play(now_s=cell.now_s, session=S))
    cell.carry_out(cell.session("s").place.lanes[0], fails=True)
    cell.settle()
    assert [each.continuity for each in effects_of(cell, Recovered)] == [Continuity.APPROXIMATE]
    assert any("folded into a memory" in each.text for each in effects_of(cell, Notice))
    cell.check_empty()


@pytest.mark.parametrize("name", EVERY)
def test_each_lane_folds_once_before_each_block_and_no_pass_is_fused_across_a_fold(name: str) -> None:
    cell = ImageCell(EVERY[name], denoisers=1, batch_limit=4, limits=Limits(fused_passes=True))
    for other in ("s", "t"):
        cell.open(other, pictures=geometry().first_picture(BLOCKS), window=4)
    cell.settle()
    works = forwards_of(cell)
    found = [(work.session, work.lane, work.block) for work in works if work.folds]
    first = 1 + (cell.recipe.window_frames or 0) // 3 - 1
    lanes = range(cell.recipe.lane_count)
    assert sorted(found) == [(SessionId(each), lane, block) for each in "st" for lane in lanes
                             for block in range(first, BLOCKS)]  # fmt: skip
    assert all(work.key_positions == (0,) * 3 for work in works), "keys are stored without their time"
    cell.check_empty()
