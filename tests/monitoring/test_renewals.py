"""What is counted of lanes that are renewed."""

from __future__ import annotations

from longtake.core.recipe.cues import CueChange
from tests.core.support.parts import geometry
from tests.core.support.recaching import EVERY, ask
from tests.monitoring.world import Counted


def test_each_lane_that_is_renewed_is_counted_once() -> None:
    cell = Counted(EVERY["output"])
    session = cell.open("s", pictures=geometry().first_picture(8))
    cell.answer()
    ask(cell, session, "new", 4)
    ask(cell, session, "plain", 6, CueChange.SWAP)
    cell.run()
    assert cell.tally.fleet.renewals == {"recache-window": 3, "recache-joint": 0, "recache-full": 0, "back": 0}
