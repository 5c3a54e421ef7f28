"""Workers whose kernels round differently: a stream stays with one class of them, so that it is the same to the bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest

from longtake.core.effects import Dispatch, Effect, Give, LoadImage, Notice, Refused
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault, Lack, NoCapacity
from longtake.core.events import Close, Pause, Play, Tick
from longtake.core.facts import LaneMoved
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Ask, Room
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.sessions.life import State
from longtake.core.work import DecodeWork, Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe, works_of
from tests.core.support.storm import Storm
from tests.core.support.world import Cell, effects_of
from tests.samples import first

PAGES = 4 * 9
"""Of one session at level OUTPUT."""
GRACE_S = 10.0
LIMITS = Limits(park_after_s=GRACE_S)


def by_letter(worker: WorkerId) -> str:
    """The class of denoise-a0 is a."""
    return worker.rpartition("-")[2][0]


def mixed_cell(*names: str, decoders: Iterable[str] = ("a0",), pages: int = PAGES, **changes: object) -> ImageCell:
    """A cell of denoise and decode workers of these names; the first letter is the class."""
    given: dict[str, object] = {"limits": LIMITS} | changes
    cell = ImageCell(recipe(), denoisers=0, decoders=0, numerics=by_letter, **given)  # type: ignore[arg-type]
    for name in names:
        cell.join(WorkerId(f"denoise-{name}"), Role.DENOISE, pages)
    for name in decoders:
        cell.join(WorkerId(f"decode-{name}"), Role.DECODE, 2)
    return cell


def classes_of(effects: Iterable[Effect], numerics: dict[WorkerId, str]) -> dict[tuple[SessionId, bool], set[str]]:
    """The classes of the workers that were sent ops, by session and whether they decode."""
    found = defaultdict(set)
    for effect in effects:
        if isinstance(effect, Dispatch):
            for work in works_of(effect):
                found[work.session, isinstance(work, DecodeWork)].add(numerics[effect.worker])
    return found


# --- whatever happens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", first(3, range(200, 208)))
def test_no_op_of_a_stream_ever_goes_to_another_class(seed: int, classes: int) -> None:
    storm = Storm(seed, classes=classes)
    for _ in range(500):
        storm.step()
    storm.finish()
    cell = storm.cell
    found = classes_of(cell.effects, {worker: cell.numerics(worker) for worker in cell.queues})
    assert found and all(len(seen) == 1 for seen in found.values()), found


def test_the_storms_use_every_class_and_bring_state_to_other_workers() -> None:
    used, given = set[str](), 0
    for seed in range(200, 206):
        storm = Storm(seed, classes=2)
        for _ in range(500):
            storm.step()
        cell = storm.cell
        numerics = {worker: cell.numerics(worker) for worker in cell.queues}
        used |= {one for seen in classes_of(cell.effects, numerics).values() for one in seen}
        given += cell.images.given
    assert used == {"0", "1"}
    assert given


@pytest.mark.parametrize("seed", range(6))
def test_how_the_only_class_is_called_changes_no_decision(seed: int) -> None:
    made = []
    for name in ("", "0123456789abcdef"):
        storm = Storm(seed)
        cell = storm.cell
        cell.numerics = lambda _, name=name: name  # type: ignore[misc]
        for worker in list(cell.queues):
            storm.lose(worker)
        for _ in range(400):
            storm.step()
        made.append(cell.effects)
    assert made[0] == made[1]


# --- placing ----------------------------------------------------------------------------------------------------------


def test_all_lanes_of_a_stream_lie_in_one_class_whatever_is_free_in_others() -> None:
    cell = mixed_cell("a0", "b0", "b1", pages=2 * PAGES)
    cell.open("first")
    cell.open("second")
    places = [{by_letter(worker) for worker in session.place.lanes} for session in cell.records]
    assert places == [{"a"}, {"b"}]
    assert set(cell.session("second").place.lanes) == {"denoise-b0", "denoise-b1"}  # and spread as ever within it


def test_a_class_that_cannot_hold_all_lanes_is_passed_over() -> None:
    rooms = {WorkerId("a"): Room(free=3, numerics="x"), WorkerId("b"): Room(free=4, fast=5, numerics="y")}
    ranking = Ranking(rooms)
    assert ranking.place(Ask(count=3)) == ("a", "a", "a")
    assert ranking.place(Ask(count=4)) == ("b", "b", "b", "b")
    with pytest.raises(NoCapacity, match="with 3 of its 5 lanes a has 0 pages free, each of its 5 lanes takes 1"):
        ranking.place(Ask(count=5))
    with pytest.raises(NoCapacity, match="with 3 of its 4 lanes a has 0 pages free, each of its 4 lanes takes 1"):
        ranking.place(Ask(count=4, numerics="x"))
    assert all(ranking.room(worker) == room for worker, room in rooms.items())


def test_time_is_looked_for_in_every_class_and_counted_in_one() -> None:
    busy = Room(free=9, realtime=2, lane_share=0.4, even_share=0.4, numerics="x")
    rooms = {
        WorkerId("a"): busy,
        WorkerId("b"): replace(busy, realtime=2.1, numerics="y", lane_share=0.2, even_share=0.2),
    }
    ranking = Ranking(rooms)
    assert ranking.place(Ask(count=2, realtime=True)) == ("b", "b")
    with pytest.raises(NoCapacity, match="a has 20 % of its time free, one takes 40 %") as refused:
        ranking.place(Ask(count=1, realtime=True, numerics="x"))
    assert refused.value.lack is Lack.TIME


def test_a_ranking_knows_the_classes_that_are_there() -> None:
    ranking = Ranking({WorkerId("a"): Room(free=1, numerics="x"), WorkerId("b"): Room(free=1, numerics="x")})
    ranking.put(WorkerId("a"), Room(free=0, numerics="x"))
    ranking.drop(WorkerId("a"))
    assert ranking.classes == ("x",)
    ranking.drop(WorkerId("b"))
    assert not ranking.classes


def test_a_stream_that_no_class_could_hold_alone_is_refused_and_not_queued_for_ever() -> None:
    cell = mixed_cell("a0", "b0", pages=PAGES // 2)
    session = cell.open("s", pace=Pace.FAST)
    (refused,) = effects_of(cell, Refused)
    assert refused.session == session and refused.problem.kind is Lack.PAGES
    cell.join(WorkerId("denoise-a1"), Role.DENOISE, PAGES // 2)
    cell.open("t", pace=Pace.FAST)
    assert {by_letter(worker) for worker in cell.session("t").place.lanes} == {"a"}


# --- moving -----------------------------------------------------------------------------------------------------------


def even(cell: Cell, turns: int = 60) -> None:
    """Let the cell work while the clock ticks."""
    for _ in range(turns):
        cell.now_s += 0.5
        cell.answer()
        for worker in cell.busy:
            cell.finish_and_acknowledge(worker)
        cell.copy()
        cell.send(Tick(now_s=cell.now_s))


def lanes_on(cell: Cell) -> dict[str, int]:
    return {worker.id: worker.load.total for worker in cell.fleet if worker.role is Role.DENOISE}


def test_a_worker_of_another_class_takes_no_lane_that_lies_elsewhere() -> None:
    cell = mixed_cell("a0", pages=2000, decoders=["a0", "a1"])
    for number in range(4):
        cell.open(f"s{number}")
    even(cell, 20)
    cell.join(WorkerId("denoise-b0"), Role.DENOISE, 2000)
    even(cell)
    assert lanes_on(cell) == {"denoise-a0": 16, "denoise-b0": 0}
    cell.join(WorkerId("denoise-a1"), Role.DENOISE, 2000)
    even(cell, 200)
    assert lanes_on(cell) == {"denoise-a0": 8, "denoise-a1": 8, "denoise-b0": 0}
    assert effects_of(cell, LaneMoved)


def test_every_class_is_evened_out_by_itself_even_behind_a_more_pressed_one() -> None:
    cell = mixed_cell("a0", "b0", pages=4000, decoders=["a0", "a1", "a2", "a3"])
    for number in range(8):
        cell.open(f"s{number}")
    assert lanes_on(cell) == {"denoise-a0": 16, "denoise-b0": 16}
    for session in [session for session in cell.records if "denoise-b0" in session.place.lanes][:2]:
        cell.send(Close(now_s=cell.now_s, session=session.id, ending=Ending.CLIENT))
    cell.join(WorkerId("denoise-b1"), Role.DENOISE, 4000)  # a0 is pressed most, and has nowhere to go
    even(cell, 120)
    assert lanes_on(cell) == {"denoise-a0": 16, "denoise-b0": 4, "denoise-b1": 4}


def test_a_move_into_another_class_is_a_defect_of_who_asks_for_it() -> None:
    cell = mixed_cell("a0", "b0")
    session = cell.open("s")
    with pytest.raises(InternalFault, match="cannot move from denoise-a0 to denoise-b0"):
        cell.move(session, 0, WorkerId("denoise-b0"))


# --- parking ----------------------------------------------------------------------------------------------------------


def parked(cell: ImageCell, *, blocks: int = 9) -> SessionId:
    """A session that has begun two blocks and is parked with its state."""
    session = cell.open("s", window=2, pictures=geometry().first_picture(blocks))
    cell.settle(acknowledge=False)
    cell.send(Pause(now_s=cell.now_s, session=session))
    cell.acknowledge(session)
    cell.later(GRACE_S)
    cell.settle()
    assert cell.session(session).state is State.PARKED
    return session


def test_a_parked_stream_waits_for_its_class_though_another_is_free() -> None:
    cell = mixed_cell("a0", decoders=["a0", "a1"])
    session = parked(cell)
    cell.open("other", window=30)
    cell.answer()
    cell.join(WorkerId("denoise-b0"), Role.DENOISE, 10 * PAGES)
    cell.send(Play(now_s=cell.now_s, session=session))
    assert cell.session(session).state is State.PARKED
    cell.join(WorkerId("denoise-a1"), Role.DENOISE, PAGES)
    assert set(cell.session(session).place.lanes) == {"denoise-a1"}
    cell.send(Close(now_s=cell.now_s, session=SessionId("other"), ending=Ending.CLIENT))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert effects_of(cell, Give) and not effects_of(cell, Notice)
    cell.check_empty()


def test_the_state_of_a_decoder_waits_for_its_class_too() -> None:
    cell = mixed_cell("a0", pages=9 * PAGES, decoders=["a0"])
    session = parked(cell)
    cell.open("other", window=30)
    cell.open("third", window=30)
    cell.answer()
    cell.join(WorkerId("decode-b0"), Role.DECODE, 9)
    cell.send(Play(now_s=cell.now_s, session=session))
    assert cell.session(session).state is State.PARKED
    cell.join(WorkerId("decode-a1"), Role.DECODE, 1)
    assert cell.session(session).place.decoder == "decode-a1"


def test_a_stream_without_state_goes_wherever_there_is_room() -> None:
    cell = mixed_cell("a0")
    session = cell.open("s", pictures=30)
    cell.send(Pause(now_s=0.0, session=session))
    cell.settle()
    cell.later(GRACE_S)
    assert cell.session(session).state is State.PARKED
    cell.join(WorkerId("denoise-b0"), Role.DENOISE, PAGES)
    cell.lose(WorkerId("denoise-a0"))
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert not effects_of(cell, Notice)
    cell.check_empty()


def test_where_lanes_keep_nothing_a_stream_goes_on_with_another_class_if_its_own_is_gone_and_says_so() -> None:
    cell = ImageCell(recipe(Level.CLEAN, window=3), denoisers=0, decoders=1, limits=LIMITS, numerics=by_letter)
    cell.join(WorkerId("denoise-a0"), Role.DENOISE, PAGES)
    session = parked(cell)
    cell.join(WorkerId("denoise-b0"), Role.DENOISE, PAGES)
    cell.lose(WorkerId("denoise-a0"))
    cell.send(Play(now_s=cell.now_s, session=session))
    cell.settle()
    assert cell.session(session).state is State.PARKED, "a worker of its class may come back"
    cell.later(LIMITS.exact_wait_s)
    cell.settle()
    assert cell.ended_with(session, Ending.COMPLETED)
    assert [notice.text for notice in effects_of(cell, Notice)] == [
        "its workers were replaced by ones that round otherwise: from here on pictures are alike, not the same"
    ]
    assert not effects_of(cell, LoadImage)
    cell.check_empty()
