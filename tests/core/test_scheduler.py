"""Any mix of sessions, workers and completion orders: ops in order, segments gapless, pages never shared or leaked."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.effects import CueAccepted, CueApplied, DropJournal, Refused, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Lack, WrongValue
from longtake.core.events import Ack, Drain, Pause
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.recipe.context import Level
from longtake.core.work import DecodeWork, SessionId
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, effects_of

LEVELS = st.sampled_from(APART)
BLOCKS_4 = geometry().first_picture(4)


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(), level=LEVELS, denoisers=st.integers(1, 5), steps=st.integers(1, 4), sinks=st.integers(0, 3),
    batch_limit=st.integers(1, 8), chain_length=st.integers(1, 4),
)  # fmt: skip
def test_any_mix_of_sessions_runs_in_order_and_leaks_nothing(
    data: st.DataObject, level: Level, denoisers: int, steps: int, sinks: int, batch_limit: int, chain_length: int
) -> None:
    cell = Cell(
        recipe(level, sinks=sinks, steps=steps), denoisers=denoisers, batch_limit=batch_limit, chain_length=chain_length
    )
    names = [SessionId(f"s{number}") for number in range(data.draw(st.integers(1, 4)))]
    lengths = {}
    for name in names:
        lengths[name] = data.draw(st.integers(1, 90), label="pictures")
        cell.open(name, pictures=lengths[name], window=data.draw(st.integers(1, 5)))
    acknowledged = dict.fromkeys(names, -1)
    for _ in range(5000):
        choices = ["finish"] * bool(cell.busy) + ["answer"] * bool(cell.answers)
        owing = [n for n in names if n not in cell.closed and len(cell.segments.get(n, [])) > acknowledged[n] + 1]
        choices += ["ack"] * bool(owing)
        if not choices:
            break
        match data.draw(st.sampled_from(choices)):
            case "finish":
                cell.finish(data.draw(st.sampled_from(cell.busy)))
            case "answer":
                cell.send(cell.answers.popleft())
            case "ack":
                name = data.draw(st.sampled_from(owing))
                acknowledged[name] = len(cell.segments[name]) - 1
                cell.send(Ack(now_s=0.0, session=SessionId(name), segment=acknowledged[name]))
    for name in names:
        blocks = geometry().blocks_for(lengths[name])
        assert cell.segments[SessionId(name)] == list(range(blocks))
        assert cell.closed[SessionId(name)].ending is Ending.COMPLETED
    assert cell.scheduler.sessions() == ()
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
    assert len(effects_of(cell, DropJournal)) == len(names)


def test_the_cell_fails_when_two_lanes_share_a_page() -> None:
    cell = Cell(recipe(), denoisers=1)
    cell.open("s", pictures=BLOCKS_4)
    cell.answer()
    session = cell.session("s")
    session.place = dataclasses.replace(session.place, tables=(session.place.tables[0],) * 4)
    with pytest.raises(Exception, match="pages are mapped"):
        cell.run()


def test_after_its_end_a_session_answers_requests_but_not_late_acknowledgements() -> None:
    cell = Cell(recipe())
    session = cell.open("s", pictures=BLOCKS_4)
    cell.run()
    assert cell.send(Ack(now_s=0.0, session=session, segment=3)) == []
    (refused,) = cell.send(Pause(now_s=0.0, session=session))
    assert isinstance(refused, RequestRefused)
    assert refused.problem.kind is Fault.UNKNOWN_SESSION


def test_drain_delivers_the_blocks_begun_and_refuses_new_sessions() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.answer()
    begun = cell.scheduler.sessions()[0].blocks_begun
    cell.send(Drain(now_s=0.0))
    cell.run()
    assert cell.closed[session].ending is Ending.DRAINED
    assert cell.segments[session] == list(range(begun))
    cell.open("later")
    assert effects_of(cell, Refused)[0].problem.kind is Fault.DRAINING
    assert cell.scheduler.sessions() == ()


def test_an_open_that_cannot_be_names_the_field_and_starts_nothing() -> None:
    cell = Cell(recipe())
    cell.open("s", recipe="unknown")
    problem = effects_of(cell, Refused)[0].problem
    assert problem.kind is Fault.INVALID
    assert isinstance(problem.about, WrongValue) and problem.about.field == "open.recipe"
    assert len(cell.effects) == 1
    assert cell.scheduler.sessions() == ()


def test_a_full_cell_says_what_is_missing_and_takes_nothing() -> None:
    cell = Cell(recipe(), denoisers=1, pages=4 * 9, slots=2, limits=Limits(max_queued=0))
    cell.open("first")
    cell.open("second")
    problem = effects_of(cell, Refused)[0].problem
    assert isinstance(problem.kind, Lack)
    assert "4 lanes" in problem.message
    assert cell.scheduler.workers()[0].free == 1


def test_the_record_of_a_session_does_not_grow_with_its_length() -> None:
    cell = Cell(recipe(), denoisers=2)
    cell.open("s", window=4)
    cell.answer()

    def run_to(block: int) -> int:
        while len(cell.segments.get(SessionId("s"), [])) < block:
            cell.effects.clear()
            done = cell.finish(cell.busy[0])
            if isinstance(done.work, DecodeWork):
                cell.send(Ack(now_s=0.0, session=done.work.session, segment=done.work.block))
        return len(repr(cell.records)) + len(repr(cell.fleet))

    assert run_to(300) <= run_to(150) + 100  # numbers get longer, nothing else does


def test_the_same_events_give_the_same_effects() -> None:
    def once() -> list[object]:
        cell = Cell(recipe(), denoisers=3)
        for number in range(3):
            cell.open(f"s{number}", pictures=BLOCKS_4)
        cell.run()
        return list(cell.effects)

    assert once() == once()


def test_opened_comes_once_and_before_anything_else_of_the_stream() -> None:
    cell = Cell(recipe())
    cell.open("s", pictures=BLOCKS_4, cues=(cue("c", block=1),))
    cell.run()
    told = [e for e in cell.effects if isinstance(e, Opened | CueAccepted | CueApplied)]
    assert [type(e).__name__ for e in told] == ["Opened", "CueAccepted", "CueApplied"]
