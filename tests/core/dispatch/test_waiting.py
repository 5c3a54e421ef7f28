"""The waiting room: FAST opens without room are queued, in order, hold nothing, and are let in when there is room."""

from __future__ import annotations

import re

import pytest

from longtake.core.effects import CueAccepted, EncodeText, Notice, PrepareStream, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Lack
from longtake.core.events import Close, Cue, CueRequest, Drain, Pause, Tick
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.sessions.life import State
from longtake.core.work import CueId, Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.world import effects_of

PAGES = 4 * 9
BLOCKS_3 = geometry().first_picture(3)


def full_cell(**changes: object) -> ImageCell:
    """A cell with room for one session, and that session; it generates for ever."""
    cell = ImageCell(recipe(), **({"denoisers": 1, "pages": PAGES, "slots": 2} | changes))  # type: ignore[arg-type]
    cell.open("first", window=1)
    cell.settle(acknowledge=False)
    return cell


def close(cell: ImageCell, session: str) -> None:
    cell.send(Close(now_s=cell.now_s, session=SessionId(session), ending=Ending.CLIENT))


def test_a_fast_stream_that_finds_no_room_waits_and_holds_nothing() -> None:
    cell = full_cell()
    before = cell.scheduler.workers()
    told = len(cell.effects)
    cell.open("second", pictures=BLOCKS_3)
    assert cell.scheduler.workers() == before
    assert [type(effect) for effect in cell.effects[told:]] == [Notice]
    assert effects_of(cell, Notice)[-1].text.startswith("queued at place 1")
    close(cell, "first")
    cell.settle()
    assert cell.ended_with(SessionId("second"), Ending.COMPLETED)
    cell.check_empty()


def test_they_are_let_in_in_the_order_of_their_arrival() -> None:
    cell = full_cell()
    names = [f"s{number}" for number in range(5)]
    for name in names:
        cell.open(name, pictures=BLOCKS_3)
    close(cell, "first")
    cell.settle()
    assert [effect.session for effect in effects_of(cell, Opened)] == ["first", *names]
    assert list(cell.closed) == ["first", *names]


def test_everybody_in_front_learns_each_change_of_place_and_who_is_last_the_first_one() -> None:
    cell = full_cell(limits=Limits(max_queued=100))
    for number in range(20):
        cell.open(f"s{number}")
    places = {effect.session: effect.text.split()[3].rstrip(":") for effect in effects_of(cell, Notice)}
    assert places == {f"s{number}": str(number + 1) for number in range(20)}
    told = len(cell.effects)
    close(cell, "s3")
    close(cell, "s15")
    after = {effect.session: effect.text.split()[3] for effect in cell.effects[told:] if isinstance(effect, Notice)}
    assert after == {f"s{number}": f"{number}:" for number in range(4, 9)}


def test_a_live_stream_is_refused_with_numbers_and_never_queued() -> None:
    cell = full_cell()
    cell.open("live", pace=Pace.REALTIME)
    problem = effects_of(cell, Refused)[-1].problem
    assert isinstance(problem.kind, Lack)
    pages = cell.graph.window.size
    assert problem.message == (
        f"No room for another live stream: denoise-0 has 0 pages free, each of its 4 lanes takes {pages}. "
        "Try again in 5 s, or choose pace fast."
    )
    shortage = Shortage(of="denoise-0", unit="pages", needed=pages, free=0)
    assert problem.about == Scarcity(retry_after_s=5.0, shortage=shortage, fast_instead=True)
    assert SessionId("live") not in cell.there


def test_a_full_queue_refuses_with_its_length() -> None:
    cell = full_cell(limits=Limits(max_queued=2))
    for number in range(3):
        cell.open(f"s{number}")
    problem = effects_of(cell, Refused)[-1].problem
    assert isinstance(problem.kind, Lack)
    assert problem.message == (
        "No room for another stream: 2 wait for a place, as many as may (limits.max_queued). Try again in 5 s."
    )
    cell.open("live", pace=Pace.REALTIME)
    assert "pace fast" not in effects_of(cell, Refused)[-1].problem.message, "it would not be queued either"


def test_what_could_never_have_room_is_refused_at_once() -> None:
    cell = ImageCell(recipe(), denoisers=1, pages=PAGES - 1)
    for pace in Pace:
        cell.open("s", pace=pace)
        problem = effects_of(cell, Refused)[-1].problem
        assert isinstance(problem.kind, Lack)
        assert re.fullmatch("No room for another (live )?stream, even if it were alone: .*", problem.message)
        assert isinstance(problem.about, Scarcity) and problem.about.retry_after_s is None
        assert not problem.about.fast_instead, "it would not do either"
    empty = ImageCell(recipe(), denoisers=0)
    empty.open("s")
    assert effects_of(empty, Refused)[-1].problem.kind is Fault.UNAVAILABLE


def test_queued_sessions_do_not_count_as_open_ones() -> None:
    cell = full_cell(limits=Limits(max_sessions=2), pages=4 * PAGES, slots=4)
    for number in range(3):
        cell.open(f"s{number}", pictures=BLOCKS_3, window=1)
    assert [view.state for view in cell.scheduler.sessions()][2:] == [State.QUEUED] * 2
    assert "2 sessions are open" not in str(effects_of(cell, Refused))
    close(cell, "first")
    cell.settle()
    assert len(cell.closed) == 4
    cell.check_empty()


def test_room_that_a_new_worker_brings_is_used_at_once() -> None:
    cell = full_cell()
    cell.open("second", pictures=BLOCKS_3)
    cell.join(WorkerId("denoise-7"), Role.DENOISE, PAGES)
    assert cell.session("second").state is State.OPENING
    close(cell, "first")
    cell.settle()
    cell.check_empty()


def test_a_queued_stream_takes_cues_and_a_pause_and_encodes_nothing_before_it_has_a_place() -> None:
    cell = full_cell()
    prompts = len(effects_of(cell, EncodeText))
    session = cell.open("s", pictures=BLOCKS_3)
    cell.send(Cue(now_s=0.0, session=session, request=CueRequest(cue=CueId("c"), prompt="q", block=2)))
    cell.send(Pause(now_s=0.0, session=session))
    assert len(effects_of(cell, EncodeText)) == prompts
    assert len(effects_of(cell, PrepareStream)) == 1
    close(cell, "first")
    cell.settle()
    assert [effect.block for effect in effects_of(cell, CueAccepted)] == [2]
    assert cell.session(session).state is State.PAUSED


@pytest.mark.parametrize("end", ["close", "drain", "lose"])
def test_whoever_leaves_the_queue_leaves_nothing_behind(end: str) -> None:
    cell = full_cell()
    session = cell.open("second")
    match end:
        case "close":
            close(cell, "second")
            assert cell.ended_with(session, Ending.CLIENT)
        case "drain":
            cell.send(Drain(now_s=0.0))
            assert cell.ended_with(session, Ending.DRAINED)
        case "lose":
            cell.lose(WorkerId("denoise-0"))
            assert cell.session(session).state is State.QUEUED, "it had nothing there"
            cell.join(WorkerId("denoise-0"), Role.DENOISE, PAGES)
            assert cell.session(session).state is State.OPENING
    cell.send(Drain(now_s=0.0))
    cell.check_empty()


def test_idle_streams_pass_through_one_place_into_the_parking_lot() -> None:
    """Paused before their first block they hold nothing, however many they are."""
    cell = full_cell(limits=Limits(max_sessions=10**6, max_queued=10**6, park_after_s=1.0, max_parked=0))
    close(cell, "first")
    for number in range(50):
        session = cell.open(f"s{number}")
        cell.send(Pause(now_s=cell.now_s, session=session))
    for _ in range(50):
        cell.answer()
        cell.now_s += 1.0
        cell.send(Tick(now_s=cell.now_s))
    assert {view.state for view in cell.scheduler.sessions()} == {State.PARKED}
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
