"""Forwards of another shape take another time: what a session reserves, and what workers are known by, goes by it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from longtake.core.effects import Refused
from longtake.core.endings import Ending
from longtake.core.events import Close, WorkerJoined
from longtake.core.flow import Pace
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Ability, Role, SessionId, ShapeTime, WorkerId
from tests.core.support.parts import recipe
from tests.core.support.recipes import altered
from tests.core.support.timed import join_timed
from tests.core.support.world import Cell, effects_of

OWN = recipe()
FINE = replace(recipe(Level.CLEAN), blocks=BlockPlan(frames=1))
"""5 forwards for each 0.25 s; the own recipe has 8 for each 0.75 s."""
WORKER = WorkerId("denoise-0")


def cell_of(*shapes: ShapeTime, others: dict[str, Recipe] | None = None) -> Cell:
    """A worker that needs 50 ms for a forward of the own recipe, and says what others take."""
    cell = Cell(OWN, denoisers=0, decoders=0, others={"fine": FINE} if others is None else others)
    cell.queues[WORKER] = deque()
    ability = Ability(capacity=4000, forward_s=0.05, shape_s=shapes)
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


def test_a_worker_with_room_for_a_smaller_lane_only_is_found() -> None:
    small = altered(recipe(Level.CLEAN), window_frames=3)
    cell = Cell(OWN, denoisers=1, pages=8, others={"small": small})
    cell.open("own")
    cell.open("small", recipe="small")
    refused = [effect.session for effect in effects_of(cell, Refused)]
    assert refused == ["own"], "nine pages do not fit into eight, three do"
