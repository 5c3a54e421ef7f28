"""Forwards of another shape take another time: what a session reserves, and what workers are known by, goes by it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import pytest

from longtake.core.effects import Refused
from longtake.core.endings import Ending
from longtake.core.events import Close, WorkerJoined
from longtake.core.fleet.ready import Urgency
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Ability, Role, SessionId, ShapeTime, Ticket, WorkerId
from tests.core.support.parts import recipe, works_of
from tests.core.support.recipes import altered
from tests.core.support.timed import join_timed
from tests.core.support.world import Cell, effects_of
from tests.samples import first

OWN = recipe()
FINE = replace(recipe(Level.CLEAN), blocks=BlockPlan(frames=1))
"""5 forwards for each 0.25 s; the own recipe has 8 for each 0.75 s."""
WORKER = WorkerId("denoise-0")
SHARE = 1 - Limits().load_limit
"""What no session can reserve of a worker."""


def cell_of(
    *shapes: ShapeTime, others: dict[str, Recipe] | None = None, own_s: float = 0.05, batch_limit: int = 1
) -> Cell:
    """A worker that needs so long for a forward of the own recipe, and says what others take."""
    others = {"fine": FINE} if others is None else others
    cell = Cell(OWN, denoisers=0, decoders=0, others=others, batch_limit=batch_limit)
    cell.queues[WORKER] = deque()
    ability = Ability(capacity=4000, forward_s=own_s, shape_s=shapes, batch_limit=batch_limit)
    cell.send(WorkerJoined(now_s=0.0, worker=WORKER, role=Role.DENOISE, ability=ability))
    join_timed(cell, "decode-0", Role.DECODE, 0.3)
    return cell


def test_a_lane_reserves_what_forwards_of_its_shape_take() -> None:
    """By hand: 0.53 of a device for the own recipe; 20 forwards a second of 20 ms for the other, 0.4."""
    cell = cell_of(ShapeTime(1, 9, 0.02))
    cell.open("fine0", pace=Pace.REALTIME, recipe="fine")
    cell.open("own", pace=Pace.REALTIME)
    assert not effects_of(cell, Refused), "0.4 + 0.53"
    cell.open("fine1", pace=Pace.REALTIME, recipe="fine")
    assert [effect.session for effect in effects_of(cell, Refused)] == ["fine1"]
    load = cell.worker(WORKER).load
    assert load.time(realtime=True) == pytest.approx(4 + 0.4 * 20 / (8 / 3))
    assert cell.worker("decode-0").load.time(realtime=True) == pytest.approx(2), "three times a third of a decode"
    for name in ("fine0", "own"):
        cell.send(Close(now_s=0.0, session=SessionId(name), ending=Ending.CLIENT))
    cell.answer()
    assert load.time(realtime=True) == 0


def test_of_a_shape_that_nobody_has_measured_a_forward_counts_as_one_of_the_own_recipe() -> None:
    cell = cell_of()
    cell.open("fine", pace=Pace.REALTIME, recipe="fine")
    assert [effect.session for effect in effects_of(cell, Refused)] == ["fine"], "20 forwards a second of 50 ms"


def test_what_a_recipe_costs_is_told_by_the_times_of_its_shape() -> None:
    measured, unknown = cell_of(ShapeTime(1, 9, 0.02)).scheduler.cell, cell_of().scheduler.cell
    for cell, factor in ((measured, 0.4), (unknown, 1.0)):
        assert cell.fleet.relative_cost(cell.graphs[""], cell.geometry) == 1
        assert cell.fleet.relative_cost(cell.graphs["fine"], cell.geometry) == pytest.approx(factor * 20 / (32 / 3))


def test_quick_forwards_make_no_worker_look_fast() -> None:
    cell = cell_of(ShapeTime(1, 9, 0.02))
    worker, fleet, graphs = cell.worker(WORKER), cell.scheduler.cell.fleet, cell.scheduler.cell.graphs
    for number in range(400):
        fine = bool(number % 2)
        fleet.measured(worker, 0.02 if fine else 0.05, 1, graph=graphs["fine" if fine else ""])
    assert worker.timing.op_s == pytest.approx(0.05, rel=0.01)
    assert worker.timing.slowness == pytest.approx(1.0, rel=0.02)


def test_a_dispatch_knows_what_its_ops_cost() -> None:
    """By hand: 20 of 50 ms for a forward; a decode of one latent frame instead of three."""
    cell = cell_of(ShapeTime(1, 9, 0.02))
    cell.open("fine", recipe="fine", window=1)
    cell.answer()
    assert {round(flying.cost, 9) for flying in cell.worker(WORKER).in_flight} == {0.4}
    decoder = cell.worker("decode-0")
    while not decoder.in_flight:
        cell.finish(WORKER)
    assert [flying.cost for flying in decoder.in_flight] == [pytest.approx(1 / 3)]


@pytest.mark.parametrize(("fine_s", "mates"), [(0.1, 2), (0.05, 5), (0.02, 7)])
def test_mates_without_a_deadline_ride_along_while_there_is_time_for_ops_of_their_shape(
    fine_s: float, mates: int
) -> None:
    """By hand: the live op must end within 0.35 s, which three ops of 0.1 s do, six of 0.05 s and all eight of 0.02."""
    cell = cell_of(ShapeTime(1, 9, fine_s), batch_limit=8)
    live = cell.open("live", recipe="fine")
    bulk = [cell.open(f"bulk{number}", recipe="fine") for number in range(7)]
    cell.answer()
    worker = cell.worker(WORKER)
    worker.shared_s = 9.65
    for session in (live, *bulk):
        worker.ready.drop_session(session)
    for number, session in enumerate((live, *bulk)):
        urgency = Urgency(math.inf if number else 10.0, 0.0, 5, False, number)
        worker.ready.put(Ticket(session, Op(Kind.DENOISE, 1, 5)), urgency)
    cell.scheduler.cell.urgency = lambda _, ticket: worker.ready[ticket]
    batch = cell.scheduler.next_batch(WORKER, now_s=9.65)
    assert [ticket.session for ticket in batch] == ["live", *bulk[:mates]]


@pytest.mark.parametrize("cost", first(2, [0.4, 4.0, 1.0]))
def test_the_share_of_streams_without_due_times_is_one_of_time_whatever_their_ops_take(cost: float) -> None:
    """Beside streams that are always late: as much of the worker as may not be reserved, not so many dispatches."""
    cell = cell_of(ShapeTime(1, 9, 0.002 * cost), own_s=0.002)
    for number in range(6):
        cell.open(f"live-{number}", pace=Pace.REALTIME, window=1000)
    for number in range(2):
        cell.open(f"fast-{number}", pace=Pace.FAST, window=1000, recipe="fine")
    cell.answer()
    taken_s = {"live": 0.0, "fast": 0.0}
    for number in range(900):
        for name in cell.busy:
            if name != WORKER:
                cell.finish(name)
        (work, *_) = works_of(cell.queues[WORKER][0])
        kind = work.session.split("-")[0]
        seconds = 0.5 * (cost if kind == "fast" else 1.0)
        cell.later(seconds)
        cell.finish(WORKER, seconds=seconds)
        taken_s[kind] += seconds if number >= 300 else 0.0  # by then what it said of itself is forgotten
    share = taken_s["fast"] / sum(taken_s.values())
    assert 0.6 * SHARE * min(1.0, cost) < share < 1.2 * SHARE


def test_a_worker_waits_for_no_mates_while_blocks_of_their_size_leave_the_decoder_soon() -> None:
    """By hand: the decoder needs 0.1 s for the block that waits, not 0.3; forwards until the next one 0.1 s or more."""
    cell = cell_of(ShapeTime(1, 9, 0.05), batch_limit=8)
    for number in range(3):
        cell.open(f"s{number}", recipe="fine", window=1000)
    cell.open("own", window=1000)  # whose ops are no mates, so no batch is full
    cell.answer()
    worker, decoder, seen = cell.worker(WORKER), cell.worker("decode-0"), 0
    while len(decoder.ready) < 2:
        cell.finish(WORKER)
        if len(decoder.ready) == 1 and worker.ready:
            seen += 1
            assert worker.in_flight
    assert seen > 0


def test_a_worker_with_room_for_a_smaller_lane_only_is_found() -> None:
    small = altered(recipe(Level.CLEAN), window_frames=3)
    cell = Cell(OWN, denoisers=1, pages=8, others={"small": small})
    cell.open("own")
    cell.open("small", recipe="small")
    refused = [effect.session for effect in effects_of(cell, Refused)]
    assert refused == ["own"], "nine pages do not fit into eight, three do"
