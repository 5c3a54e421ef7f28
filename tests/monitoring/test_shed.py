"""Blocks that took fewer steps than usual, as a tally counts them."""

from __future__ import annotations

from longtake.core.effects import Emit
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from tests.core.support.parts import recipe
from tests.core.support.recipes import altered
from tests.core.support.world import effects_of
from tests.monitoring.world import Counted


def test_blocks_that_took_fewer_steps_than_usual_are_counted() -> None:
    cell = Counted(altered(recipe(Level.CLEAN), shed=((1000,),)))
    cell.scheduler.cell.load_rule = lambda _cell, _session, block, _now_s: block % 2
    cell.open("s", pictures=12 * 5 - 3, pace=Pace.FAST)
    cell.run()
    emits = effects_of(cell, Emit)
    assert [(emit.steps, emit.load) for emit in emits] == [(4, 0), (1, 1), (4, 0), (1, 1), (4, 0)]
    paces = cell.tally.streams.paces
    assert (paces[Pace.FAST].shed_blocks, paces[Pace.REALTIME].shed_blocks) == (2, 0)
