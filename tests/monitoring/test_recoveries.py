"""What is counted of streams that lost a part of their state with a worker."""

from __future__ import annotations

import pytest

from longtake.core.endings import Ending
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.work import Continuity, Role, WorkerId
from monitoring.folding.session_tally import REBUILT, WAITED
from tests.core.support.parts import geometry, recipe
from tests.core.support.recipes import APART
from tests.monitoring.world import Counted


@pytest.mark.parametrize(("denoisers", "way"), [(1, WAITED), (2, REBUILT)])
def test_a_stream_that_lost_a_part_is_counted_when_it_is_whole_and_none_of_its_blocks_twice(
    denoisers: int, way: str
) -> None:
    """With one worker there is no room until it is back, after 7 s; with two, what was lost goes to the other one."""
    cell = Counted(recipe(), denoisers=denoisers)
    session = cell.open("s", pictures=geometry().first_picture(12))
    cell.answer()
    while len(cell.segments.get(session, ())) < 2:
        cell.finish_and_acknowledge(cell.busy[0])
    cell.works = {key: work for key, work in cell.works.items() if key[0] != "denoise-0"}
    cell.lose(WorkerId("denoise-0"))
    streams = cell.tally.streams
    assert sum(histogram.count for histogram in streams.recovery_s.values()) == 0
    cell.later(7.0)
    if denoisers == 1:
        cell.join(WorkerId("denoise-0"), Role.DENOISE, 400)
    cell.run()
    told, bulk = streams.recovery_s[Continuity.EXACT, way], streams.paces[Pace.FAST]
    assert (told.count, told.total) == (1, 7.0) and sum(each.count for each in streams.recovery_s.values()) == 1
    assert (bulk.parked, bulk.restored) == ((1, 1) if way == WAITED else (0, 0))
    assert (bulk.blocks, bulk.block_latency_s.count, bulk.first_segment_s.count) == (12, 12, 1)
    assert bulk.pictures == geometry().first_picture(12)
    assert bulk.closed == dict.fromkeys(Ending, 0) | {Ending.COMPLETED: 1}


@pytest.mark.parametrize("level", APART)
def test_blocks_that_are_done_once_more_leave_nothing_behind(level: Level) -> None:
    cell = Counted(recipe(level), denoisers=2)
    session = cell.open("s")
    cell.answer()
    for _ in range(3):
        until = len(cell.segments.get(session, ())) + 8
        while len(cell.segments.get(session, ())) < until:
            cell.steps(1)
            cell.answer()
        lost = cell.session("s").place.lanes[0]
        cell.works = {key: work for key, work in cell.works.items() if key[0] != lost}
        cell.lose(lost)
        cell.join(lost, Role.DENOISE, 400)
    assert cell.tally.streams.recovery_s[Continuity.EXACT, REBUILT].count >= 2
    assert min(cell.tally.streams.open[session].begun_s) > cell.segments[session][-1]
