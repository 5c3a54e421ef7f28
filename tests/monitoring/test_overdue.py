"""A block counts as late while it is overdue, once, and the slack that is shown falls meanwhile."""

from __future__ import annotations

from longtake.core.effects import Emit
from longtake.core.facts import Overdue
from longtake.core.flow import Pace
from longtake.core.work import SessionId
from monitoring.folding.session_tally import SessionTally, Streams

S = SessionId("s")


def left(block: int, slack_s: float) -> Emit:
    return Emit(session=S, block=block, first_picture=0, picture_count=12, prompt_version=0, steps=4, slack_s=slack_s)


def test_an_overdue_block_is_late_now_and_is_not_counted_again_when_it_leaves() -> None:
    streams = Streams()
    pace = streams.paces[Pace.REALTIME]
    entry = streams.open[S] = SessionTally(pace=pace, opened_at_s=0.0)
    streams.sent(left(0, 1.25), 100, 10.0)
    assert (entry.slack_at(20.0), pace.late_blocks) == (1.25, 0)
    streams.waits(Overdue(session=S, block=1, due_s=12.0))
    assert pace.late_blocks == 1
    assert (entry.slack_at(12.5), entry.slack_at(67.0)) == (-0.5, -55.0)
    streams.sent(left(1, -55.0), 100, 67.0)
    assert (entry.slack_at(70.0), pace.late_blocks) == (-55.0, 1)
    streams.sent(left(2, -0.25), 100, 68.0)
    assert pace.late_blocks == 2, "nobody looked between its due time and its leaving"
    streams.waits(Overdue(session=SessionId("gone"), block=1, due_s=12.0))
    assert pace.late_blocks == 2
