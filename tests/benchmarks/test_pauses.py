"""The benchmark of pauses judges and sums up as it says; whole runs of it are a part of `make chaos`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pauses import NEEDLESS, PauseRow, summary
from monitoring import declarations as metrics

RIGHT = PauseRow(
    seconds=10.0, whom="the server alone", lost=[], counted=dict.fromkeys((each.name for each in NEEDLESS), 0.0),
    recovering=0, told={}, replaced=[], goes_on_s=[0.5, 0.75],
)  # fmt: skip
LOST = replace(RIGHT, counted=RIGHT.counted | {metrics.WORKERS_LOST.name: 2.0})


def test_a_pause_that_costs_nothing_is_right() -> None:
    assert RIGHT.wrong() == [] == RIGHT.as_dict()["wrong"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(RIGHT, lost=["lost: a worker"]), "a session was lost: lost: a worker"),
        (LOST, "longtake_workers_lost_total has grown by 2"),
        (replace(RIGHT, recovering=1), "1 sessions were recovering"),
        (replace(RIGHT, told={"ReconnectingEvent": 3}), "3 times ReconnectingEvent"),
        (replace(RIGHT, replaced=["denoise-0"]), "denoise-0 is another process"),
        (replace(RIGHT, goes_on_s=None), "not every stream goes on"),
    ],
)
def test_each_thing_that_should_not_be_is_told(changed: PauseRow, told: str) -> None:
    assert changed.wrong() == [told]


def test_pauses_of_a_kind_are_summed_up() -> None:
    other = replace(RIGHT, whom="the server and its workers", goes_on_s=None, lost=["lost: x", "lost: y"])
    rows = summary([RIGHT, other, replace(LOST, goes_on_s=[3.0])])
    assert rows == [
        {"seconds": 10.0, "whom": "the server alone", "pauses": 2, "sessions_lost": 0, "needless": LOST.counted,
         "worst_goes_on_s": 3.0, "pauses_with_something_wrong": 1},
        {"seconds": 10.0, "whom": "the server and its workers", "pauses": 1, "sessions_lost": 2,
         "needless": RIGHT.counted, "worst_goes_on_s": None, "pauses_with_something_wrong": 1},
    ]  # fmt: skip
