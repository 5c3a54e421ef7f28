"""What is told again after a broken call: whole segments, and always the last words."""

from __future__ import annotations

import pytest

from cluster.cell import backlog
from cluster.cell.backlog import Backlog
from cluster.cell.outbox import ClientMessage, SegmentOut
from longtake.core.effects import Closed, CueApplied, Emit, Notice
from longtake.core.endings import Ending
from longtake.core.work import CueId
from tests.cluster.cell.promises import opened
from tests.cluster.journal.world import A


def segment(block: int, size: int = 4) -> SegmentOut:
    emit = Emit(session=A, block=block, first_picture=0, picture_count=1, prompt_version=0, steps=4)
    return SegmentOut(emit=emit, data=bytes(size))


def applied(block: int) -> CueApplied:
    return CueApplied(session=A, cue=CueId("c"), block=block, first_picture=block, prompt=f"from {block}")


def notice(text: str) -> Notice:
    return Notice(session=A, text=text)


CLOSED = Closed(session=A, ending=Ending.COMPLETED, reason="", segments=3)


def filled(*messages: ClientMessage) -> Backlog:
    made = Backlog(opened(A))
    for message in messages:
        made.add(message)
    return made


def test_what_follows_the_last_acknowledged_segment_is_told_again() -> None:
    made = filled(segment(0), notice("1"), segment(1), applied(2), segment(2), CLOSED)
    made.acknowledge(0)
    assert (made.held_from, made.size_bytes) == (1, 8)
    assert made.since(1) == [notice("1"), segment(1), applied(2), segment(2), CLOSED]
    assert made.since(2) == [applied(2), segment(2), CLOSED]
    made.acknowledge(2)
    assert made.since(3) == [CLOSED] and made.size_bytes == 0


@pytest.mark.parametrize("what", ["bytes", "messages"])
def test_a_segment_goes_with_what_was_told_before_it(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_BYTES" if what == "bytes" else "MOST_MESSAGES", 6 if what == "bytes" else 3)
    made = filled(applied(0), segment(0), applied(1), segment(1))
    assert made.held_from == 1
    assert made.since(1) == [applied(1), segment(1)], "a cue is told with the segment that shows it"


def test_where_there_is_no_segment_the_last_word_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_MESSAGES", 1)
    made = filled(notice("1"), notice("2"), CLOSED)
    assert made.since(0) == [CLOSED] and made.held_from == 0


def test_whoever_comes_later_is_told_the_prompt_that_holds_then(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = Backlog(opened())
    for block in range(6):
        if block in (2, 4):
            backlog.add(applied(block))
        backlog.add(segment(block))
    told = {block: backlog.opened_at(block).prompt for block in range(7)}
    assert told == {0: "prompt 0", 1: "prompt 0", 2: "prompt 0", 3: "from 2", 4: "from 2", 5: "from 4", 6: "from 4"}
    assert backlog.opened_now().prompt == "from 4"
    backlog.acknowledge(2)  # what is gone counts still
    assert (backlog.opened_at(3).prompt, backlog.opened_at(5).prompt) == ("from 2", "from 4")
    backlog.add(applied(6))  # the next segment will show it, and its receipt is told already
    assert (backlog.opened_at(6).prompt, backlog.opened_now().prompt) == ("from 4", "from 6")
    backlog.restart(4)
    assert (backlog.opened_at(4).prompt, backlog.opened_now().prompt) == ("from 2", "from 2")
