"""When lanes move: off slow workers, to new ones, evenly as streams come and go; and that they come to rest."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from longtake.core.effects import Refused, Stow, Take
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Event, Open, Tick, WorkerJoined
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Ask, Room
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.graph import Graph
from longtake.core.work import Ability, DecodeWork, Role, SessionId, WorkerId
from tests.core.support.parts import SETTINGS, geometry, recipe
from tests.core.support.timed import join_timed
from tests.core.support.world import Cell, effects_of

SLOW = WorkerId("denoise-0")
Times = Callable[[WorkerId], float]


class Long(Cell):
    """A cell whose invariants are checked when a test says so: these tests are long."""

    def check(self) -> None:
        """Not after every event."""


def turns(cell: Cell, count: int, seconds: Times) -> None:
    """So often every worker finishes a dispatch, images go one order further and the clock ticks."""
    for _ in range(count):
        cell.now_s += 0.5
        cell.answer()
        for worker in cell.busy:
            work = cell.finish(worker, seconds=seconds(worker)).work
            if isinstance(work, DecodeWork) and work.session not in cell.closed:
                cell.send(Ack(now_s=cell.now_s, session=work.session, segment=work.block))
        cell.copy()
        cell.send(Tick(now_s=cell.now_s))
    cell.scheduler.check()


def noisy(seed: int = 1, slow: float = 1.0) -> Times:
    draw = random.Random(seed)
    return lambda worker: draw.gauss(0.05, 0.004) * (slow if worker == SLOW else 1.0)


def lanes(cell: Cell) -> list[int]:
    return [worker.load.total for worker in cell.fleet if worker.role is Role.DENOISE]


def streams(cell: Cell, count: int, pace: Pace = Pace.FAST) -> list[SessionId]:
    return [cell.open(f"{pace.value}-{number}", pace=pace) for number in range(count)]


def timed_cell(*forward_s: float) -> Cell:
    cell = Long(recipe(), denoisers=0)
    for number, seconds in enumerate(forward_s):
        join_timed(cell, f"denoise-{number}", Role.DENOISE, seconds)
    return cell


def bulk_cell(denoisers: int, count: int) -> Cell:
    cell = Long(recipe(), denoisers=denoisers, pages=2000)
    streams(cell, count)
    return cell


def test_a_slow_worker_sheds_lanes_until_its_time_fits_and_then_all_rest() -> None:
    cell = bulk_cell(4, 8)
    turns(cell, 80, noisy(slow=1.6))
    assert lanes(cell)[0] in (4, 5, 6)
    assert sum(lanes(cell)) == 32
    before = cell.images.moved
    turns(cell, 120, noisy(seed=2, slow=1.6))
    assert cell.images.moved == before > 0


def test_a_worker_is_not_called_slow_before_it_has_been_measured_twenty_times() -> None:
    cell = bulk_cell(4, 8)
    turns(cell, 19, noisy(slow=2.0))
    assert not effects_of(cell, Stow)
    turns(cell, 30, noisy(slow=2.0))
    assert effects_of(cell, Stow)


def test_when_it_is_fast_again_lanes_come_back() -> None:
    cell = bulk_cell(4, 8)
    turns(cell, 80, noisy(slow=2.0))
    assert lanes(cell)[0] <= 5
    turns(cell, 160, noisy())
    assert min(lanes(cell)) >= 7


@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_nothing(seed: int) -> None:
    cell = bulk_cell(4, 8)
    turns(cell, 100, noisy(seed=seed))
    assert not effects_of(cell, Stow)


def test_a_worker_that_joins_takes_its_part() -> None:
    cell = bulk_cell(3, 8)
    turns(cell, 50, noisy())
    cell.join(WorkerId("denoise-3"), Role.DENOISE, 2000)
    turns(cell, 120, noisy())
    assert lanes(cell) == [8, 8, 8, 8]
    cell.scheduler.check()


def test_loads_even_out_when_streams_end() -> None:
    cell = bulk_cell(8, 16)
    turns(cell, 30, noisy())
    for session in [s for s in cell.records if SLOW in s.place.lanes]:
        cell.send(Close(now_s=cell.now_s, session=session.id, ending=Ending.CLIENT))
    turns(cell, 2, noisy())
    assert max(lanes(cell)) - min(lanes(cell)) > 1
    turns(cell, 120, noisy())
    assert max(lanes(cell)) - min(lanes(cell)) <= 1


def test_a_worker_takes_part_in_one_move_at_a_time() -> None:
    cell = bulk_cell(8, 16)
    turns(cell, 30, noisy())
    for session in cell.there[::2]:
        cell.send(Close(now_s=cell.now_s, session=session, ending=Ending.CLIENT))
    for _ in range(60):
        turns(cell, 1, noisy())
        assert all(worker.moves <= 1 for worker in cell.fleet)
    assert cell.images.moved > 3


def test_live_streams_stay_where_they_are_as_long_as_their_time_fits() -> None:
    cell = timed_cell(0.02, 0.02)
    streams(cell, 4, Pace.REALTIME)
    turns(cell, 30, lambda _: 0.02)
    cell.join(WorkerId("denoise-2"), Role.DENOISE, 4000)
    turns(cell, 30, lambda _: 0.02)
    assert lanes(cell) == [8, 8, 0]


def test_a_worker_that_has_become_too_slow_for_its_live_streams_sheds_them() -> None:
    cell = timed_cell(0.02, 0.02, 0.02)
    streams(cell, 8, Pace.REALTIME)
    turns(cell, 120, lambda worker: 0.05 if worker == SLOW else 0.02)
    shares = [
        worker.load.realtime * 2 * worker.timing.op_s / 0.75 for worker in cell.fleet if worker.role is Role.DENOISE
    ]
    assert cell.images.moved > 0
    assert max(shares) <= 0.97


def test_a_worker_where_an_image_failed_is_left_alone_for_a_while() -> None:
    cell = bulk_cell(4, 8)
    while not effects_of(cell, Take):
        turns(cell, 1, noisy(slow=2.0))
    first = effects_of(cell, Take)[0].worker
    while any(cell.images.orders.values()):
        cell.copy(fail=True)
    assert not cell.images.moved
    turns(cell, 55, noisy(slow=2.0))
    assert first not in [take.worker for take in effects_of(cell, Take)[1:]]
    assert cell.images.moved  # to others


def test_when_a_worker_has_rested_after_a_failure_the_loads_are_looked_at_again_though_nothing_else_changes() -> None:
    cell = bulk_cell(1, 4)
    turns(cell, 4, noisy())
    cell.join(WorkerId("denoise-1"), Role.DENOISE, 2000)
    while not effects_of(cell, Take):
        turns(cell, 1, noisy())
    while any(cell.images.orders.values()):
        cell.copy(fail=True)
    while cell.busy:  # what is left to do changes no load, and then no worker reports any more
        cell.finish(cell.busy[0], seconds=0.05)
    for seconds in (0.02, 1.0, 28.0):
        cell.later(seconds)
        assert not any(worker.moves for worker in cell.fleet), "one of the two still rests"
    cell.later(2.0)
    assert [worker.moves for worker in cell.fleet if worker.role is Role.DENOISE] == [1, 1]


def test_a_lane_near_its_end_stays() -> None:
    def shed(blocks: int) -> int:
        cell = Long(recipe(), denoisers=4, pages=2000)
        for number in range(8):
            cell.open(f"s{number}", pictures=geometry().first_picture(blocks))
        turns(cell, 60, noisy(slow=2.0))
        return len(effects_of(cell, Stow))

    assert shed(6) == 0 < shed(20)


def calls(cell: Cell, event: Event) -> int:
    """How many functions the scheduler calls to handle the event."""
    count = 0

    def profile(_frame: FrameType, kind: str, _argument: object) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(profile)
    try:
        effects = cell.scheduler.handle(event)
    finally:
        sys.setprofile(None)
    cell.follow(effects)
    return count


def test_no_decision_costs_more_in_a_larger_cell() -> None:
    """Open, a tick and a joining worker, in cells of 40 and of 320 workers with as much work for each."""
    found = []
    for denoisers in (40, 320):
        cell = Long(recipe(), denoisers=0, limits=Limits(max_sessions=1000), slots=1000)
        for number in range(denoisers):
            cell.scheduler.handle(worker_event(f"denoise-{number}"))
        for number in range(denoisers):
            cell.scheduler.handle(open_event(f"s{number}"))
        opened = calls(cell, open_event("last"))
        cell.answers.clear()
        assert not effects_of(cell, Refused)
        tick = calls(cell, Tick(now_s=1.0))
        joined = calls(cell, worker_event("new"))
        found.append((opened, tick, joined))
    small, large = found
    assert all(after <= 1.2 * before for before, after in zip(small, large, strict=True)), found


def worker_event(name: str, forward_s: float = 0.02) -> WorkerJoined:
    ability = Ability(capacity=400, forward_s=forward_s)
    return WorkerJoined(now_s=1.0, worker=WorkerId(name), role=Role.DENOISE, ability=ability)


def open_event(name: str) -> Open:
    return Open(
        now_s=0.0, session=SessionId(name), prompt="p", seed=1, pace=Pace.REALTIME, window=2, picture_limit=None,
        settings=SETTINGS,
    )  # fmt: skip


def test_the_order_of_workers_is_what_sorting_them_would_give() -> None:
    draw = random.Random(5)
    ranking, rooms = Ranking(), dict[WorkerId, Room]()
    for _ in range(2000):
        worker = WorkerId(f"w{draw.randrange(40)}")
        if draw.random() < 0.1 and worker in rooms:
            ranking.drop(worker)
            del rooms[worker]
            continue
        rooms[worker] = Room(
            free=draw.randrange(3), lanes=draw.randrange(9), realtime=draw.randrange(3), fast=draw.randrange(5),
            lane_share=0.1, even_share=0.1, weight=draw.choice((1.0, 1.3)),
        )  # fmt: skip
        ranking.put(worker, rooms[worker])
    roomy = [worker for worker, room in rooms.items() if room.free]
    assert list(ranking.best(Ask(count=1, realtime=True))) == sorted(roomy, key=lambda w: (rooms[w].realtime_order, w))
    assert list(ranking.best(Ask(count=1))) == sorted(roomy, key=lambda w: (rooms[w].fast_order, w))
    assert [rooms[w].pressure for w in ranking.most_pressed("")] == sorted(
        (r.pressure for r in rooms.values()), reverse=True
    )
    assert [rooms[w].reserved for w in ranking.most_reserved("")] == sorted(
        (r.reserved for r in rooms.values()), reverse=True
    )


def test_a_worker_that_differs_by_less_than_fifteen_per_cent_keeps_its_lanes() -> None:
    cell = bulk_cell(2, 24)
    turns(cell, 80, lambda worker: 0.05 * (1.13 if worker == SLOW else 1.0))
    assert not effects_of(cell, Stow)
    turns(cell, 80, lambda worker: 0.05 * (1.3 if worker == SLOW else 1.0))
    assert effects_of(cell, Stow)


def test_large_batches_make_no_worker_fast() -> None:
    fleet = Fleet(Graph(recipe()), geometry(), Limits())
    single, batching, slow = (Worker(worker_event(name, forward_s=0.0)) for name in "abc")
    for worker in (single, batching, slow):
        fleet.joined(worker)
    for _ in range(60):
        fleet.measured(single, 0.05, 1)
        fleet.measured(batching, 0.1, 8)
        fleet.measured(single, 0.08, 4)
        fleet.measured(batching, 0.08, 4)
        fleet.measured(slow, 0.12, 4)
    ranking = fleet.ranking(Role.DENOISE)
    assert ranking.room(single.id).weight == ranking.room(batching.id).weight == 1.0
    assert 1.3 < ranking.room(slow.id).weight < 1.7
