"""Lanes on the move: a stream never notices, nothing leaks, whatever ends or fails meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.effects import Discard, Dispatch, Forget, Give, LoadImage, Stow, Take
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Cue, Pause, Play, Tick
from longtake.core.facts import LaneMoved
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import PageId, Role, SessionId, WorkerId
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.recipes import APART
from tests.core.support.world import Cell, effects_of, forwards_of

BLOCKS_9 = geometry().first_picture(9)
LEVELS = st.sampled_from(APART)


def place_of(cell: Cell, session: SessionId) -> tuple[WorkerId, ...]:
    return cell.session(session).place.lanes


def under_way(level: Level = Level.OUTPUT, *, dispatches: int = 60, denoisers: int = 3) -> tuple[Cell, SessionId]:
    """A cell whose one stream has filled its windows."""
    cell = Cell(recipe(level), denoisers=denoisers)
    session = cell.open("s", pictures=geometry().first_picture(30))
    cell.answer()
    cell.steps(dispatches)
    return cell, session


def elsewhere(cell: Cell, session: SessionId, lane: int) -> WorkerId:
    return next(w for w in cell.queues if w.startswith("denoise") and w != place_of(cell, session)[lane])


@pytest.mark.parametrize("level", APART)
def test_a_lane_moves_at_a_block_boundary_and_the_stream_goes_on(level: Level) -> None:
    cell, session = under_way(level)
    lane = recipe(level).lane_count - 1
    origin, target = place_of(cell, session)[lane], elsewhere(cell, session, lane)
    cell.move(session, lane, target)
    cell.run()
    assert cell.images.moved == 1
    assert cell.segments[session] == list(range(30))
    ran = [w.block for w in forwards_of(cell) if w.lane == lane]
    moved_at = effects_of(cell, LoadImage)[0]
    assert moved_at.worker == target
    assert len(ran) == len({(w.kind, w.step, w.block) for w in forwards_of(cell) if w.lane == lane})
    assert effects_of(cell, Stow)[0].worker == origin


def test_the_four_orders_go_out_together_once_the_last_op_before_the_boundary_has_reported() -> None:
    cell, session = under_way()
    target = elsewhere(cell, session, 0)
    effects = cell.move(session, 0, target)
    while not effects:
        record = cell.session(session)
        assert record.progress.boundary(0) is None
        before = len(cell.effects)
        cell.finish_and_acknowledge(cell.busy[0])
        effects = [e for e in cell.effects[before:] if isinstance(e, Stow | Give | Take | LoadImage)]
    assert [type(e) for e in effects if isinstance(e, Stow | Give | Take | LoadImage)] == [Stow, Give, Take, LoadImage]
    stow, load = effects_of(cell, Stow)[-1], effects_of(cell, LoadImage)[-1]
    assert isinstance(stow.source, tuple)
    assert len(stow.source) == len(load.target) == recipe().page_count - recipe().blocks.frames


def test_a_lane_that_has_not_begun_moves_without_a_copy() -> None:
    cell = Cell(recipe(), denoisers=3)
    session = cell.open("s", pictures=BLOCKS_9)
    target = elsewhere(cell, session, 2)
    assert not [e for e in cell.move(session, 2, target) if not isinstance(e, Forget | LaneMoved)]
    assert place_of(cell, session)[2] == target
    cell.run()
    assert cell.segments[session] == list(range(9))


def test_the_text_goes_along_when_a_worker_is_new_and_is_forgotten_where_nothing_is_left() -> None:
    cell = Cell(recipe(), denoisers=5)
    session = cell.open("s", pictures=geometry().first_picture(30), cues=(cue("c", block=20),))
    cell.answer()
    cell.steps(60)
    origin = place_of(cell, session)[1]
    (target,) = {w for w in cell.queues if w.startswith("denoise")} - set(place_of(cell, session))
    cell.move(session, 1, target)
    cell.run()
    assert Forget(worker=origin, session=session, version=None) in cell.effects
    attached = [d.worker for d in effects_of(cell, Dispatch) if any(d.attach_conditioning)]
    assert attached.count(target) == 2  # version 0 and the cue's
    assert cell.versions[session, 19] == {0} and cell.versions[session, 20] == {1}


def test_a_lane_that_comes_back_brings_its_text_again() -> None:
    """The cell fails if a dispatch lacks the text, or sends one that is there."""
    cell, session = under_way(denoisers=5)
    origin = place_of(cell, session)[1]
    (target,) = {w for w in cell.queues if w.startswith("denoise")} - set(place_of(cell, session))
    for worker in (target, origin):
        cell.move(session, 1, worker)
        while place_of(cell, session)[1] != worker:
            cell.copy()
            cell.finish_and_acknowledge(cell.busy[0])
    cell.run()
    assert cell.images.moved == 2
    assert cell.segments[session] == list(range(30))


@pytest.mark.parametrize("broken", ["origin", "target"])
def test_a_failed_image_leaves_the_lane_where_it_is_and_its_pages_as_they_were(broken: str) -> None:
    cell, session = under_way()
    before, target = place_of(cell, session), elsewhere(cell, session, 3)
    cell.move(session, 3, target)
    while not cell.images.ready:
        cell.finish_and_acknowledge(cell.busy[0])
    if broken == "target":
        cell.copy()
        cell.copy()
    cell.copy(fail=True)
    cell.run()
    assert cell.images.moved == 0
    assert cell.segments[session] == list(range(30))
    assert before[3] in {d.worker for d in effects_of(cell, Discard)}
    assert not cell.images.stored and not cell.images.sent


def test_pages_at_the_target_stay_reserved_until_the_order_to_load_them_is_answered() -> None:
    cell, session = under_way()
    target = elsewhere(cell, session, 3)
    free = {w.worker: w.free for w in cell.scheduler.workers()}
    cell.move(session, 3, target)
    while not cell.images.ready:
        cell.finish_and_acknowledge(cell.busy[0])
    cell.send(Close(now_s=0.0, session=session, ending=Ending.CLIENT))
    while cell.busy:
        cell.finish(cell.busy[0])
    assert not cell.scheduler.sessions()
    held = {w.worker: w.free for w in cell.scheduler.workers()}[target]
    assert held == cell.pages - recipe().page_count > free[target] - recipe().page_count
    cell.run()
    assert {w.free for w in cell.scheduler.workers() if w.role is Role.DENOISE} == {cell.pages}


def test_a_lost_target_lets_the_lane_go_on_where_it_is() -> None:
    cell = Cell(recipe(), denoisers=5)
    session = cell.open("s", pictures=geometry().first_picture(30))
    cell.answer()
    cell.steps(60)
    (target,) = {w for w in cell.queues if w.startswith("denoise")} - set(place_of(cell, session))
    cell.move(session, 1, target)
    while not cell.images.ready:
        cell.finish_and_acknowledge(cell.busy[0])
    cell.lose(target)
    cell.run()
    assert cell.segments[session] == list(range(30))


def test_a_stream_that_only_waits_for_its_moves_goes_on_when_their_target_is_lost() -> None:
    cell, session = under_way(denoisers=5)
    (target,) = {w for w in cell.queues if w.startswith("denoise")} - set(place_of(cell, session))
    for lane in range(4):
        cell.move(session, lane, target)
    while cell.busy:
        cell.finish_and_acknowledge(cell.busy[0])
    assert len(cell.segments[session]) < 30
    cell.lose(target)
    assert cell.busy
    cell.run()
    assert cell.segments[session] == list(range(30))


def test_a_lost_origin_ends_the_move_and_frees_the_target_when_it_answers() -> None:
    cell, session = under_way(denoisers=5)
    origin = place_of(cell, session)[1]
    (target,) = {w for w in cell.queues if w.startswith("denoise")} - set(place_of(cell, session))
    cell.move(session, 1, target)
    while not cell.images.ready:
        cell.finish_and_acknowledge(cell.busy[0])
    cell.lose(origin)
    assert not cell.session(session).lane_holds
    assert origin not in place_of(cell, session)
    cell.join(origin, Role.DENOISE, cell.pages)
    cell.run()
    assert cell.closed[session].ending is Ending.COMPLETED
    assert not effects_of(cell, LaneMoved)
    assert {w.free for w in cell.scheduler.workers() if w.role is Role.DENOISE} == {cell.pages}


def test_a_worker_that_joins_again_at_once_has_nothing_of_the_sessions_it_lost() -> None:
    """A session that waits for an op elsewhere must not give its old pages to the worker's new pool."""
    cell, session = under_way(denoisers=5)
    lost, busy = place_of(cell, session)[0], [w for w in cell.busy if w != place_of(cell, session)[0]]
    assert busy
    cell.lose(lost)
    cell.join(lost, Role.DENOISE, cell.pages)
    cell.run()
    assert {w.free for w in cell.scheduler.workers() if w.role is Role.DENOISE} == {cell.pages}


def wrong_order(table: PageTable, block: int) -> tuple[PageId, ...]:
    return tuple(sorted(right(table, block), reverse=table.pages[0] > 0))


def one_lost(table: PageTable, block: int) -> tuple[PageId, ...]:
    return right(table, block)[1:]


right = PageTable.kept


@pytest.mark.parametrize("fault", [wrong_order, one_lost])
def test_the_cell_notices_pages_in_the_wrong_order_and_pages_left_behind(
    monkeypatch: pytest.MonkeyPatch, fault: object
) -> None:
    monkeypatch.setattr(PageTable, "kept", fault)
    cell, session = under_way()
    cell.open("t")  # so that the lane's pages at the target do not begin with page 0
    cell.move(session, 0, elsewhere(cell, session, 0))
    with pytest.raises(AssertionError, match="reads"):
        cell.run()


def test_the_cell_notices_a_lane_that_does_not_wait_at_the_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "holds", lambda *_, **__: iter(()))
    cell, session = under_way()
    cell.send(Ack(now_s=0.0, session=session, segment=len(cell.segments[session]) - 1))
    with pytest.raises(AssertionError, match="reads"):
        for lane in range(4):
            cell.move(session, lane, elsewhere(cell, session, lane))
        cell.run()


@settings(max_examples=20, deadline=None)
@given(data=st.data(), level=LEVELS, batch_limit=st.integers(1, 4), sinks=st.integers(0, 3), fused=st.booleans())
def test_streams_are_whole_and_nothing_leaks_whatever_moves_fails_and_ends(
    data: st.DataObject, level: Level, batch_limit: int, sinks: int, fused: bool
) -> None:
    made = recipe(level, sinks=sinks)
    limits = Limits(fused_passes=fused)
    cell = Cell(made, denoisers=4, batch_limit=batch_limit, pages=made.page_count * 30, limits=limits)
    blocks = {SessionId(f"s{number}"): data.draw(st.integers(1, 12)) for number in range(3)}
    for number, (name, count) in enumerate(blocks.items()):
        cell.open(name, pictures=geometry().first_picture(count), pace=list(Pace)[number % 2], window=3)
    denoisers = [w for w in cell.queues if w.startswith("denoise")]
    ended: set[SessionId] = set()
    for _ in range(data.draw(st.integers(20, 100))):
        cell.now_s += 0.1
        random_step(data, cell, denoisers, ended)
    for session in cell.records:
        if session.state is State.PAUSED:
            cell.send(Play(now_s=cell.now_s, session=session.id))
    settle(cell)
    for name, count in blocks.items():
        if name not in ended:
            assert cell.closed[name].ending is Ending.COMPLETED
        if cell.closed[name].ending is Ending.COMPLETED:
            assert cell.segments[name] == list(range(count))
    assert {w.free for w in cell.scheduler.workers() if w.role is Role.DENOISE} == {cell.pages}
    assert not any(worker.moves or worker.arriving for worker in cell.fleet)
    assert not cell.images.stored


def random_step(data: st.DataObject, cell: Cell, denoisers: list[WorkerId], ended: set[SessionId]) -> None:
    """One thing that may happen."""
    kinds = ["move"] * 3 + ["finish"] * 12 + ["image"] * 4 + ["image fails", "close", "lose", "pause", "play", "cue"]
    kind = data.draw(st.sampled_from(kinds))
    open_now = [s for s in cell.records if s.state is not State.CLOSING]
    match kind:
        case "finish":
            cell.answer()
            if cell.busy:
                cell.finish_and_acknowledge(data.draw(st.sampled_from(cell.busy)))
        case "image" | "image fails" if cell.images.ready:
            cell.carry_out(data.draw(st.sampled_from(cell.images.ready)), fails=kind == "image fails")
        case "lose" if data.draw(st.integers(0, 3)) == 0:
            lost = data.draw(st.sampled_from(denoisers))
            cell.lose(lost)
            cell.join(lost, Role.DENOISE, cell.pages)
        case _ if open_now:
            on_one(data, cell, kind, data.draw(st.sampled_from(open_now)), ended)


def on_one(data: st.DataObject, cell: Cell, kind: str, session: Session, ended: set[SessionId]) -> None:
    match kind:
        case "move":
            lane = data.draw(st.integers(0, len(session.place.lanes) - 1))
            target = data.draw(st.sampled_from([w for w in cell.fleet if w.role is Role.DENOISE]))
            if (
                target.id != session.place.lanes[lane]
                and (lane, Hold.MOVING) not in session.lane_holds
                and target.free >= 9
            ):
                cell.move(session.id, lane, target.id)
        case "close":
            ended.add(session.id)
            cell.send(Close(now_s=cell.now_s, session=session.id, ending=Ending.CLIENT))
        case "pause":
            if session.state is State.RUNNING:
                cell.send(Pause(now_s=cell.now_s, session=session.id))
        case "play":
            if session.state is State.PAUSED:
                cell.send(Play(now_s=cell.now_s, session=session.id))
        case "cue":
            cell.send(Cue(now_s=cell.now_s, session=session.id, request=cue(f"c{len(cell.effects)}")))


def settle(cell: Cell) -> None:
    """Let time pass and everything finish until no session is left and no image is on its way."""
    for _ in range(400):
        cell.run()
        if not cell.scheduler.sessions() and not any(cell.images.orders.values()):
            return
        cell.now_s += 1.0
        cell.send(Tick(now_s=cell.now_s))
    raise AssertionError("the cell does not come to rest")
