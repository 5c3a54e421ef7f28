"""Parking: idle sessions give up their place, come back exactly as they were, and nothing of it leaks."""

from __future__ import annotations

import pytest

from longtake.core.effects import Discard, Dispatch, EncodeText, Forget, Give, LoadImage, Notice, Refused, Stow, Take
from longtake.core.endings import Ending
from longtake.core.errors import Lack
from longtake.core.events import Close, Cue, CueRequest, Drain, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.sessions.life import State
from longtake.core.work import CueId, Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.recipes import APART
from tests.core.support.storm import Storm
from tests.core.support.world import effects_of, forwards_of

PAGES = 4 * 9
"""Of one session at level OUTPUT."""
GRACE_S = 10.0
LIMITS = Limits(park_after_s=GRACE_S)


def state_of(cell: ImageCell, session: SessionId) -> State:
    return cell.session(session).state


def free_pages(cell: ImageCell) -> int:
    return sum(worker.free for worker in cell.scheduler.workers() if worker.role is Role.DENOISE)


def paused_cell(level: Level = Level.OUTPUT, **changes: object) -> tuple[ImageCell, SessionId]:
    """One session that has begun two blocks and is paused between blocks."""
    cell = ImageCell(recipe(level), **({"limits": LIMITS} | changes))  # type: ignore[arg-type]
    session = cell.open("s", window=2, pictures=geometry().first_picture(9))
    cell.settle(acknowledge=False)
    cell.send(Pause(now_s=cell.now_s, session=session))
    cell.acknowledge(session)
    return cell, session


@pytest.mark.parametrize("level", APART)
def test_a_paused_session_keeps_its_place_for_the_grace_time_then_it_holds_nothing(level: Level) -> None:
    cell, session = paused_cell(level)
    taken = sum(worker.ability.capacity - worker.free for worker in cell.scheduler.workers())
    assert taken == recipe(level).lane_count * 9 + 1
    cell.later(GRACE_S - 0.1)
    assert not effects_of(cell, Stow)
    cell.later(0.2)
    assert state_of(cell, session) is State.PARKING
    assert sum(worker.ability.capacity - worker.free for worker in cell.scheduler.workers()) == taken
    cell.settle()
    assert state_of(cell, session) is State.PARKED
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
    assert len(cell.images.stored) == recipe(level).lane_count + 1
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.segments[session] == list(range(9))
    assert cell.ended_with(session, Ending.COMPLETED)
    cell.check_empty()


def test_the_slot_is_stowed_only_when_all_lanes_are() -> None:
    cell, session = paused_cell()
    cell.later(GRACE_S)
    assert len(effects_of(cell, Stow)) == 4
    for _ in range(3):
        cell.carry_out(cell.images.ready[0])
    assert len(effects_of(cell, Stow)) == 4
    cell.carry_out(cell.images.ready[0])
    assert isinstance(effects_of(cell, Stow)[-1].source, int)
    assert state_of(cell, session) is State.PARKING
    cell.carry_out(cell.images.ready[0])
    assert state_of(cell, session) is State.PARKED


def test_a_wrong_order_of_pages_in_an_image_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = PageTable.kept
    cell, session = paused_cell()
    cell.later(GRACE_S)
    monkeypatch.setattr(PageTable, "kept", lambda *given: tuple(reversed(kept(*given))))
    cell.settle()
    cell.send(Play(now_s=cell.now_s, session=session))
    with pytest.raises(AssertionError, match="should read"):
        cell.settle()


def test_a_session_that_began_no_block_leaves_no_image() -> None:
    cell = ImageCell(recipe(), limits=LIMITS)
    session = cell.open("s", pictures=30)
    cell.send(Pause(now_s=0.0, session=session))
    cell.settle()
    assert state_of(cell, session) is State.PAUSED
    cell.later(GRACE_S)
    assert state_of(cell, session) is State.PARKED
    assert not effects_of(cell, Stow) and not cell.images.slots
    assert all(worker.free == worker.ability.capacity for worker in cell.scheduler.workers())
    for worker in [*cell.queues]:  # nothing of it lies anywhere
        cell.lose(worker)
    cell.join(WorkerId("denoise-9"), Role.DENOISE, 100)
    cell.join(WorkerId("decode-9"), Role.DECODE, 3)
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    cell.check_empty()


def test_without_credit_a_session_parks_and_an_acknowledgement_wakes_it() -> None:
    cell = ImageCell(recipe(), limits=LIMITS)
    session = cell.open("s", window=2, pictures=geometry().first_picture(6))
    cell.settle(acknowledge=False)
    assert cell.segments[session] == [0, 1]
    cell.later(GRACE_S)
    cell.settle(acknowledge=False)
    assert state_of(cell, session) is State.PARKED
    cell.settle()
    assert cell.segments[session] == list(range(6))
    cell.check_empty()


def test_play_before_everything_is_stowed_needs_no_other_place_and_moves_no_page() -> None:
    for carried_out in range(6):
        cell, session = paused_cell(denoisers=1, pages=PAGES, slots=1)
        cell.later(GRACE_S)
        for _ in range(carried_out):
            cell.carry_out(cell.images.ready[0])
        assert state_of(cell, session) is (State.PARKED if carried_out == 5 else State.PARKING)
        cell.send(Play(now_s=cell.now_s, session=session))
        cell.settle()
        assert len(effects_of(cell, LoadImage)) == (4 if carried_out == 5 else 0)
        assert cell.segments[session] == list(range(9))
        cell.check_empty()


def test_pause_on_the_way_back_ends_in_pause() -> None:
    cell, session = paused_cell()
    cell.later(GRACE_S)
    cell.settle()
    cell.send(Play(now_s=cell.now_s, session=session))
    assert state_of(cell, session) is State.RESTORING
    cell.send(Pause(now_s=cell.now_s, session=session))
    cell.settle()
    assert state_of(cell, session) is State.PAUSED
    assert cell.segments[session] == [0, 1]
    cell.later(GRACE_S)
    cell.settle()
    assert state_of(cell, session) is State.PARKED
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.segments[session] == list(range(9))
    cell.check_empty()


def moving_cell() -> tuple[ImageCell, SessionId, SessionId]:
    """One session that is on its way back from workers which another one has taken, to others; and that other one."""
    cell, session = paused_cell(denoisers=1, decoders=1, pages=PAGES, slots=1)
    cell.later(GRACE_S)
    cell.settle()
    other = cell.open("other", window=30)
    cell.answer()
    cell.join(WorkerId("denoise-9"), Role.DENOISE, PAGES)
    cell.join(WorkerId("decode-9"), Role.DECODE, 1)
    cell.send(Play(now_s=cell.now_s, session=session))
    return cell, session, other


def test_a_parked_session_comes_back_to_other_workers_with_its_state() -> None:
    cell, session, other = moving_cell()
    while session not in cell.closed:
        for worker in cell.busy:
            cell.finish(worker)
        for worker in cell.images.ready:
            cell.carry_out(worker)
        cell.answer()
        for name in cell.owing():
            cell.acknowledge(name)
    assert len(effects_of(cell, Give)) == cell.images.given == 5
    assert cell.ended_with(session, Ending.COMPLETED)
    left = [effect for effect in effects_of(cell, Forget) if effect.session == session and effect.version is None]
    assert {effect.worker for effect in left} == {"denoise-0", "decode-0", "denoise-9", "decode-9"}
    cell.send(Close(now_s=cell.now_s, session=other, ending=Ending.CLIENT))
    cell.check_empty()


def test_it_comes_back_to_where_its_images_lie_if_there_is_room() -> None:
    cell, session = paused_cell(denoisers=4, decoders=2)
    lanes = cell.session(session).place.lanes
    cell.later(GRACE_S)
    cell.settle()
    for number in range(4):  # elsewhere there is less to do now
        cell.open(f"o{number}", window=1)
    cell.settle(acknowledge=False)
    cell.send(Play(now_s=cell.now_s, session=session))
    assert cell.session(session).place.lanes == lanes
    assert not effects_of(cell, Give)


def test_who_wants_to_go_on_is_served_before_every_new_stream_and_never_refused() -> None:
    cell, session = paused_cell(denoisers=1, pages=PAGES, slots=2)
    cell.later(GRACE_S)
    cell.settle()
    first, second = cell.open("first", window=1), cell.open("second", window=1, pictures=30)
    cell.settle(acknowledge=False)
    cell.send(Play(now_s=cell.now_s, session=session))
    assert state_of(cell, session) is State.PARKED
    cell.open("live", pace=Pace.REALTIME)
    problem = effects_of(cell, Refused)[-1].problem
    assert (
        isinstance(problem.kind, Lack)
        and "a parked session gets its place back before a new one is let in" in problem.message
    )
    cell.send(Close(now_s=cell.now_s, session=first, ending=Ending.CLIENT))
    assert state_of(cell, session) is State.RESTORING
    assert state_of(cell, second) is State.QUEUED
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert cell.segments[second], "the queue goes on behind it"


def test_text_is_kept_nowhere_and_encoded_again_for_the_prompt_in_use() -> None:
    cell = ImageCell(recipe(), limits=LIMITS)
    cue = CueRequest(cue=CueId("c"), prompt="another", block=1)
    session = cell.open("s", window=2, pictures=geometry().first_picture(6), cues=(cue,))
    cell.settle(acknowledge=False)
    cell.send(Pause(now_s=0.0, session=session))
    cell.acknowledge(session)
    cell.later(GRACE_S)
    cell.settle()
    forgotten = {effect.version for effect in effects_of(cell, Forget)}
    assert forgotten >= {0, 1}
    cell.send(Cue(now_s=cell.now_s, session=session, request=CueRequest(cue=CueId("d"), prompt="third", block=4)))
    before = len(effects_of(cell, EncodeText))
    begun = len(effects_of(cell, Dispatch))
    cell.send(Play(now_s=cell.now_s, session=session))
    prompts = [effect.prompt for effect in effects_of(cell, EncodeText)][before:]
    assert prompts == ["p", "another", "third"], "the first may be needed to rebuild what comes next"
    for worker in list(cell.images.ready) * 5:
        if cell.images.orders[worker]:
            cell.carry_out(worker)
    assert len(effects_of(cell, Dispatch)) == begun, "no op before the text is there"
    cell.settle()
    assert [cell.versions[session, block] for block in range(6)] == [{0}, {1}, {1}, {1}, {2}, {2}]
    assert all(work.conditioning.version for work in forwards_of(cell)[-8:])


def test_when_host_memory_is_full_a_session_keeps_its_place_and_is_told_once() -> None:
    cell = ImageCell(recipe(), limits=Limits(park_after_s=GRACE_S, max_parked=1))
    sessions = [cell.open(name, window=1) for name in ("a", "b")]
    cell.settle(acknowledge=False)
    for _ in range(4):
        cell.later(GRACE_S)
        cell.settle(acknowledge=False)
    assert [state_of(cell, session) for session in sessions] == [State.PARKED, State.RUNNING]
    told = [effect for effect in effects_of(cell, Notice) if "keeps its place" in effect.text]
    assert [effect.session for effect in told] == [sessions[1]]
    cell.send(Close(now_s=cell.now_s, session=sessions[0], ending=Ending.CLIENT))
    cell.settle(acknowledge=False)
    cell.later(GRACE_S)
    cell.settle(acknowledge=False)
    assert state_of(cell, sessions[1]) is State.PARKED


def test_a_lane_that_cannot_be_stowed_leaves_the_session_where_it_is() -> None:
    for failing in range(4):
        cell, session = paused_cell()
        place = cell.session(session).place
        cell.later(GRACE_S)
        for number in range(4):
            cell.carry_out(cell.images.ready[0], fails=number == failing)
        cell.settle()
        assert state_of(cell, session) is State.PAUSED
        assert cell.session(session).place is place
        assert not cell.images.stored, "nothing is left of the others"
        cell.send(Play(now_s=cell.now_s, session=session))
        cell.settle()
        assert cell.segments[session] == list(range(9))
        cell.check_empty()


def test_a_slot_that_cannot_be_stowed_is_rebuilt_from_the_journal() -> None:
    cell, session = paused_cell()
    cell.later(GRACE_S)
    for number in range(5):
        cell.carry_out(cell.images.ready[0], fails=number == 4)
    cell.settle()
    assert cell.session(session).state is State.PAUSED, "it stays where it is"
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert replayed(cell) == {Kind.DECODE}
    cell.check_empty()


def test_an_image_that_cannot_be_loaded_is_replaced_from_the_journal() -> None:
    for failing in range(5):
        cell, session = paused_cell()
        cell.later(GRACE_S)
        cell.settle()
        cell.send(Play(now_s=cell.now_s, session=session))
        for number in range(5):
            cell.carry_out(cell.images.ready[0], fails=number == failing)
        cell.settle()
        assert cell.ended_with(session, Ending.COMPLETED)
        assert replayed(cell) == {Kind.DECODE if failing == 4 else Kind.COMMIT}
        cell.check_empty()


@pytest.mark.parametrize("lost", ["denoise-0", "decode-0"])
def test_what_is_on_its_way_from_a_lost_worker_is_given_up_and_made_again(lost: str) -> None:
    cell, session, other = moving_cell()
    halfway = [order for order in effects_of(cell, Take) if order.origin == lost]
    assert len(halfway) == (4 if lost == "denoise-0" else 1)
    cell.lose(WorkerId(lost))  # it may hang: nobody waits for what it was to give
    given_up = {(order.worker, order.image) for order in effects_of(cell, Discard)}
    assert given_up == {(order.worker, order.image) for order in halfway}
    cell.send(Close(now_s=cell.now_s, session=other, ending=Ending.CLIENT))
    cell.join(WorkerId(lost), *((Role.DENOISE, PAGES) if lost == "denoise-0" else (Role.DECODE, 1)))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert replayed(cell) == {Kind.COMMIT if lost == "denoise-0" else Kind.DECODE}
    cell.check_empty()


def replayed(cell: ImageCell) -> set[Kind]:
    """Of which kinds ops were done once more."""
    return {op.kind for _, op in cell.replays}


@pytest.mark.parametrize("moment", ["parking", "slot", "parked", "waiting", "restoring"])
@pytest.mark.parametrize("end", ["close", "drain", "drain later", "lose denoise-0", "lose decode-0"])
def test_an_end_at_any_moment_leaves_nothing_behind(moment: str, end: str) -> None:
    cell, session = paused_cell(denoisers=2, pages=PAGES // 2, slots=1)
    cell.later(GRACE_S)
    if moment == "slot":
        while len(effects_of(cell, Stow)) < 5:
            cell.carry_out(cell.images.ready[0])
    elif moment != "parking":
        cell.settle()
    if moment == "waiting":
        cell.open("other", window=1)
        cell.settle(acknowledge=False)
    if moment in ("waiting", "restoring"):
        cell.send(Play(now_s=cell.now_s, session=session))
    assert state_of(cell, session).value == {"waiting": "parked", "slot": "parking"}.get(moment, moment)
    match end.split():
        case ["close"]:
            cell.send(Close(now_s=cell.now_s, session=session, ending=Ending.CLIENT))
            assert cell.ended_with(session, Ending.CLIENT)
        case ["drain", *grace]:
            cell.send(Drain(now_s=cell.now_s, grace_s=5.0 * len(grace)))
            assert cell.ended_with(session, Ending.DRAINED) == (not grace)
            cell.later(5.0)
            assert cell.ended_with(session, Ending.DRAINED)
        case ["lose", worker]:
            cell.lose(WorkerId(worker))
            assert session not in cell.closed
            cell.settle()
    cell.send(Drain(now_s=cell.now_s))
    cell.check_empty()


@pytest.mark.parametrize("seed", range(12))
def test_nothing_leaks_and_no_stream_is_mixed_up_whatever_happens(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(500):
        storm.step()
    storm.finish()


def test_the_storms_reach_every_state_and_every_way_between_workers() -> None:
    seen: set[State] = set()
    moved = 0
    for seed in range(100, 104):
        storm = Storm(seed)
        for _ in range(500):
            storm.step()
        seen |= storm.seen
        moved += storm.cell.images.given
    assert seen == set(State) - {State.FINISHING, State.CLOSED}
    assert moved
