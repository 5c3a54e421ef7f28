"""The time to a text, as the tally has it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from longtake.core.events import Cue, CueRequest
from longtake.core.work import CueId, Role, WorkerId
from tests.core.support.parts import recipe
from tests.monitoring.world import Counted


def test_the_time_to_a_text_runs_from_the_first_order_to_encode_it() -> None:
    cell = Counted(recipe(), denoisers=1, texters=1)
    session = cell.open("s")
    cell.answer()
    assert (cell.tally.streams.text_s.count, cell.tally.streams.text_s.total) == (1, 0.0)
    cell.now_s = 10.0
    cell.send(Cue(now_s=10.0, session=session, request=CueRequest(cue=CueId("soon"), prompt="q")))
    cell.answers.clear()
    cell.lose(WorkerId("text-0"))
    cell.now_s = 14.0
    cell.join(WorkerId("text-0"), Role.TEXT, 1)  # is told once more
    cell.answers = deque(replace(answer, now_s=16.0) for answer in cell.answers)
    cell.answer()
    assert (cell.tally.streams.text_s.count, cell.tally.streams.text_s.total) == (2, 6.0)
    assert not cell.tally.streams.open[session].texts_s
