"""Log lines about workers: who joins, and whether those of one role give the same bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from longtake.core.effects import Recovered, Refused, RequestRefused
from longtake.core.errors import InvalidField
from longtake.core.events import Tick, WorkerJoined, WorkerLost
from longtake.core.work import Ability, Continuity, Loss, Role, SessionId, WorkerId
from monitoring.folding.recorder import REFUSED_PER_S, LogLines


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[LogLines]:
    with caplog.at_level(logging.WARNING, logger="longtake"):
        yield LogLines()


def join(lines: LogLines, name: str, numerics: str, role: Role = Role.DENOISE) -> None:
    ability = Ability(capacity=9, numerics=numerics)
    lines.fold(WorkerJoined(now_s=0.0, worker=WorkerId(name), role=role, ability=ability), [])


def test_workers_of_one_class_or_of_several_roles_are_no_reason_to_warn(
    lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    join(lines, "d0", "aa")
    join(lines, "d1", "aa")
    join(lines, "v0", "bb", Role.DECODE)
    assert caplog.messages == []


def test_who_brings_another_class_is_named_with_all_the_others(
    lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    for name, numerics in (("d0", "a" * 64), ("d1", "a" * 64), ("d2", "")):
        join(lines, name, numerics)
    assert caplog.messages == [
        "denoise workers do not all give the same bits, they are of 2 classes of numerics: "
        "aaaaaaaaaaaa: d0, d1; unknown: d2"
    ]


def test_a_worker_that_is_gone_counts_no_more(lines: LogLines, caplog: pytest.LogCaptureFixture) -> None:
    join(lines, "d0", "aa")
    lines.fold(WorkerLost(now_s=1.0, worker=WorkerId("d0"), reason="replaced"), [])
    caplog.clear()
    join(lines, "d0", "bb")
    join(lines, "d1", "bb")
    assert caplog.messages == []


def test_a_stream_that_is_whole_again_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    fact = Recovered(session=SessionId("a"), continuity=Continuity.EXACT, from_block=12, seconds=2.345)
    with caplog.at_level(logging.INFO, logger="longtake"):
        LogLines().fold(Tick(now_s=1.0), [fact])
    assert caplog.messages == ["session a: whole again after 2.3 s, exact from block 12 on"]


def test_a_worker_that_the_server_ends_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="longtake"):
        lines = LogLines()
        for cause in (Loss.ENDED, Loss.LINK):
            lines.fold(WorkerLost(now_s=1.0, worker=WorkerId("d0"), reason="its link broke", cause=cause), [])
    assert caplog.messages == ["worker d0 ended", "worker d0 lost: its link broke"]


def test_of_refusals_without_end_there_are_a_few_lines_a_second_and_the_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = LogLines()
    problem = InvalidField("open.prompt", "", "a prompt").problem
    with caplog.at_level(logging.INFO, logger="longtake"):
        for number in range(500):
            refused = Refused(session=SessionId("a"), problem=problem)
            asked = RequestRefused(session=SessionId("a"), cue=None, problem=problem)
            written.fold(Tick(now_s=number / 500), [refused, asked])
        written.fold(Tick(now_s=1.1), [Refused(session=SessionId("b"), problem=problem)])
    assert len(caplog.messages) == REFUSED_PER_S + 1
    assert caplog.messages[-1].startswith("session b: refused: open.prompt")
    assert caplog.messages[-1].endswith("(and 980 more of the kind before, left out)")
