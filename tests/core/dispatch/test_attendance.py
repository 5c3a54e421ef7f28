"""Attendance: a session outlives its call, waits for its client as a paused one does, and goes on with another call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.effects import CueAccepted, Parked, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, WrongValue
from longtake.core.events import Ack, Attach, Cue, CueRequest, Detach, Drain, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import AttachRefused, ClientAway, Opened, Resumed
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.retention import Floors
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, CueId, SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.world import Cell, effects_of

GRACE_S = 10.0
AWAY_S = 100.0
LIMITS = Limits(park_after_s=GRACE_S, detached_s=AWAY_S)
SECOND = ConnectionNumber(1)
THIRD = ConnectionNumber(2)


def detach(cell: Cell, session: SessionId, connection: ConnectionNumber = FIRST_CONNECTION) -> None:
    cell.send(Detach(now_s=cell.now_s, session=session, connection=connection))


def attach(
    cell: Cell,
    session: SessionId,
    cursor: int | None,
    connection: ConnectionNumber = SECOND,
    held_from: int | None = 0,
) -> Resumed | AttachRefused:
    answers = cell.send(
        Attach(now_s=cell.now_s, session=session, connection=connection, cursor=cursor, held_from=held_from)
    )
    (answer,) = [effect for effect in answers if isinstance(effect, Resumed | AttachRefused)]
    return answer


def away(pace: Pace = Pace.FAST, *, window: int = 2) -> tuple[ImageCell, SessionId]:
    """A session of nine blocks whose client has acknowledged nothing of the first ones, and is away."""
    cell = ImageCell(recipe(), limits=LIMITS)
    session = cell.open("s", window=window, pictures=geometry().first_picture(9), pace=pace)
    cell.settle(acknowledge=False)
    assert cell.segments[session] == list(range(window))
    detach(cell, session)
    return cell, session


@pytest.mark.parametrize("pace", list(Pace))
def test_a_session_without_its_client_finishes_what_has_begun_and_begins_nothing(pace: Pace) -> None:
    cell = Cell(recipe(), limits=LIMITS)
    session = cell.open("s", window=30, pace=pace)
    cell.answer()
    cell.steps(6)
    begun = cell.session("s").next_block
    detach(cell, session)
    assert effects_of(cell, ClientAway) == [ClientAway(session=session)]
    (view,) = cell.scheduler.sessions()
    assert not view.attached and Hold.DETACHED in view.holds
    assert cell.scheduler.census().detached == 1
    cell.run(acknowledge=False)
    assert cell.segments[session] == list(range(begun)), "nothing that had begun is lost, and nothing else begins"
    answer = attach(cell, session, begun - 1)
    assert isinstance(answer, Resumed) and answer.opened.segment == begun and answer.held
    assert cell.scheduler.sessions()[0].attached and not cell.scheduler.census().detached
    cell.steps(20)
    assert len(cell.segments[session]) > begun


def test_what_is_told_to_who_comes_back_is_what_was_granted() -> None:
    cell, session = away()
    answer = attach(cell, session, 1)
    assert isinstance(answer, Resumed)
    (opened,) = effects_of(cell, Opened)
    assert (opened.segment, opened.window, opened.pace) == (0, 2, Pace.FAST)
    assert opened.picture_limit == geometry().first_picture(9)
    assert answer == Resumed(session=session, connection=SECOND, opened=replace(opened, segment=2), held=True)


def test_it_gives_up_its_place_after_the_grace_time_and_comes_back_exactly() -> None:
    cell, session = away()
    cell.later(GRACE_S - 0.1)
    assert cell.session("s").state is State.RUNNING
    cell.later(0.2)
    cell.settle()
    assert cell.session("s").state is State.PARKED and effects_of(cell, Parked)
    cell.send(Ack(now_s=cell.now_s, session=session, segment=1))  # of the old call, which read it late
    assert cell.session("s").state is State.PARKED, "without its client it wants no place"
    attach(cell, session, 1)
    cell.settle()
    assert cell.segments[session] == list(range(9))
    assert cell.ended_with(session, Ending.COMPLETED)
    cell.check_empty()


def test_a_client_that_stays_away_loses_its_session_whatever_state_that_is_in() -> None:
    for parked in (True, False):
        cell, session = away()
        cell.later(AWAY_S - 1 if parked else 1)
        cell.settle()
        assert (cell.session("s").state is State.PARKED) is parked
        cell.later(0.9 if parked else AWAY_S - 1.1)
        assert session not in cell.closed
        cell.later(0.2)
        cell.settle()
        assert cell.closed[session].ending is Ending.ABANDONED
        cell.check_empty()


def test_coming_back_begins_the_time_anew() -> None:
    cell, session = away()
    cell.later(AWAY_S - 1)
    attach(cell, session, None)
    detach(cell, session, SECOND)
    cell.later(AWAY_S - 1)
    assert session not in cell.closed
    cell.later(2)
    assert cell.closed[session].ending is Ending.ABANDONED


def test_the_end_of_a_call_that_has_lost_its_session_changes_nothing() -> None:
    cell = Cell(recipe(), limits=LIMITS)
    session = cell.open("s", window=2)
    cell.answer()
    assert isinstance(attach(cell, session, None, SECOND), Resumed), "the one before has not broken yet"
    assert isinstance(attach(cell, session, None, THIRD), Resumed)
    for connection in (FIRST_CONNECTION, SECOND):
        detach(cell, session, connection)
    assert cell.scheduler.sessions()[0].attached
    detach(cell, session, THIRD)
    assert not cell.scheduler.sessions()[0].attached
    detach(cell, session, THIRD)
    assert len(effects_of(cell, ClientAway)) == 1


@pytest.mark.parametrize("connects", [True, False])
def test_a_session_that_was_never_opened_ends_with_its_call(connects: bool) -> None:
    cell = Cell(recipe(), limits=Limits(max_sessions=1), denoisers=2)
    session = cell.open("s")
    queued = cell.open("queued")
    if connects:
        for each in (session, queued):
            answer = attach(cell, each, None)
            assert isinstance(answer, AttachRefused) and answer.problem.kind is Fault.WRONG_STATE
    detach(cell, session)
    detach(cell, queued)
    cell.run()
    assert {closed.ending for closed in cell.closed.values()} == {Ending.CLIENT} and len(cell.closed) == 2
    assert not cell.there


def test_where_nobody_may_come_back_a_session_ends_with_its_call() -> None:
    cell = Cell(recipe(), limits=Limits(detached_s=0.0))
    session = cell.open("s", window=2)
    cell.run(acknowledge=False)
    detach(cell, session)
    assert cell.closed[session].ending is Ending.CLIENT


def test_a_cursor_acknowledges_and_must_be_of_what_was_sent() -> None:
    cell, session = away()
    for cursor in (2, 7, 1 << 40):
        answer = attach(cell, session, cursor)
        assert isinstance(answer, AttachRefused) and answer.problem.kind is Fault.INVALID
        assert isinstance(answer.problem.about, WrongValue) and "0 to 1" in answer.problem.about.allowed
        assert not cell.scheduler.sessions()[0].attached, "nothing has changed"
    attach(cell, session, 0)
    cell.settle(acknowledge=False)
    assert cell.segments[session] == [0, 1, 2], "a window beyond what was consumed"


@pytest.mark.parametrize("state", [State.RUNNING, State.PARKED])
def test_what_nobody_holds_any_more_is_made_again_from_the_journal(state: State) -> None:
    cell, session = away()
    if state is State.PARKED:
        cell.later(cell.limits.park_after_s)
        cell.settle()
    assert cell.session(session).state is state
    sent = list(cell.segments[session])
    cell.struck.add(session)
    assert sent[-2:] == [0, 1] or len(sent) > 2
    acknowledged = cell.session(session).flow.acknowledged
    answer = attach(cell, session, acknowledged if acknowledged >= 0 else None, held_from=None)
    assert isinstance(answer, Resumed) and not answer.held
    cell.segments[session] = sent[: acknowledged + 1]
    cell.settle()
    assert cell.segments[session][: len(sent)] == sent, "each again, in order"
    assert cell.closed[session].ending is Ending.COMPLETED
    cell.check_empty()


def test_what_cannot_be_made_again_is_out_of_range_and_the_oldest_is_named() -> None:
    cell, session = away(window=4)
    record = cell.session(session)
    slot_blocks = cell.scheduler.cell.fleet.retention(record.graph).slot_blocks
    record.kept = Floors(latents=(0, 0, 0, record.emitted - slot_blocks), texts=0)
    for held_from in (record.emitted, None):
        answer = attach(cell, session, 0, held_from=held_from)
        assert isinstance(answer, AttachRefused) and answer.problem.kind is Fault.OUT_OF_RANGE
        assert f"segment {record.emitted} is the oldest" in answer.problem.message
    answer = attach(cell, session, record.emitted - 1, held_from=None)
    assert isinstance(answer, Resumed) and not answer.held, "nothing has to be sent again"


def test_a_session_that_is_gone_is_refused() -> None:
    cell, session = away()
    cell.later(AWAY_S + 1)
    cell.settle()
    answer = attach(cell, session, 1)
    assert isinstance(answer, AttachRefused) and answer.problem.kind is Fault.UNKNOWN_SESSION
    assert not effects_of(cell, Refused), "no Open was refused"


def test_a_pause_holds_while_the_client_is_away() -> None:
    cell, session = away()
    attach(cell, session, 1)
    cell.send(Pause(now_s=cell.now_s, session=session))
    cell.settle()
    sent = len(cell.segments[session])
    detach(cell, session, SECOND)
    attach(cell, session, sent - 1, THIRD)
    cell.settle()
    assert len(cell.segments[session]) == sent
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)


def test_a_drain_ends_sessions_whose_clients_are_away_as_all_others() -> None:
    cell, session = away()
    cell.send(Drain(now_s=cell.now_s))
    cell.settle(acknowledge=False)
    assert cell.closed[session].ending is Ending.DRAINED
    cell.check_empty()


def test_a_cue_that_is_asked_for_again_is_answered_again_and_changes_nothing() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=4)
    cell.answer()
    cue = Cue(now_s=0.0, session=session, request=CueRequest(cue=CueId("c"), prompt="blue"))
    cell.send(cue)
    cell.send(cue)  # its text is being encoded
    cell.answer()
    (accepted,) = effects_of(cell, CueAccepted)
    cell.send(cue)  # it waits for its block
    cell.steps(60)
    cell.send(cue)  # it is in effect
    assert effects_of(cell, CueAccepted) == [accepted] * 3
    cell.send(Cue(now_s=0.0, session=session, request=CueRequest(cue=CueId("d"), prompt="green")))
    cell.answer()
    cell.steps(60)
    cell.send(cue)  # another one has taken its place
    assert effects_of(cell, CueAccepted)[-1] == accepted
    versions = [max(cell.versions[session, block]) for block in range(cell.segments[session][-1])]
    assert sorted(set(versions)) == [0, 1, 2] and versions == sorted(versions)
    cell.send(Cue(now_s=0.0, session=session, request=CueRequest(cue=CueId("c"), prompt="red")))
    cell.answer()
    assert effects_of(cell, CueAccepted)[-1].block > accepted.block, "with another prompt it is another cue"


def test_who_is_away_for_long_comes_back_from_the_journal_and_not_from_images() -> None:
    limits = Limits(park_after_s=GRACE_S, detached_s=AWAY_S, detached_images_s=3 * GRACE_S)
    cell = ImageCell(recipe(), limits=limits)
    session = cell.open("s", window=2, pictures=geometry().first_picture(9))
    cell.settle(acknowledge=False)
    detach(cell, session)
    cell.later(GRACE_S)
    cell.settle(acknowledge=False)
    assert cell.session(session).state is State.PARKED and cell.images.stored
    cell.later(2 * GRACE_S)
    cell.settle(acknowledge=False)
    assert not cell.images.stored and session not in cell.closed
    cell.struck.add(session)
    assert isinstance(attach(cell, session, 1), Resumed)
    cell.settle()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert cell.replays, "it was rebuilt"
    cell.check_empty()
