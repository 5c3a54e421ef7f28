"""The benchmark of hangs judges as it says, and what makes workers hang does; whole runs are a part of `make chaos`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chaos_cell import Setup
from benchmarks.hangs import HANGING, HangRow, Ops, SlowRow
from cluster.config import load_config
from cluster.launch.absences import BACK_S
from longtake.core.limits import Limits

RECOVER_S = Limits().recover_within_s
RIGHT = HangRow(
    hung="denoise-1", is_only_one=False, op_s=0.02, limit_s=5.0, start_s=8.0, waits_s={1: 6.0},
    went_on_with={1: ["denoise-0", "denoise-1"]}, other_waits_s={0: 0.9}, recovery_s=0.5, replaced_s=21.0,
    serves_s=23.0, given_up=1, lost=[], late_blocks=3,
)  # fmt: skip
ONLY = replace(RIGHT, hung="decode-0", is_only_one=True, waits_s={0: 22.0, 1: 22.0}, went_on_with={0: [], 1: []},
               other_waits_s={})  # fmt: skip
SLOW = SlowRow(
    slow="decode-1", times=5, seconds=10.0, op_s=0.1, slow_op_s=0.4, given_up=0, is_same_process=True,
    waits_s={0: 2.0, 1: 1.0}, lost=[],
)  # fmt: skip


@pytest.mark.parametrize("row", [RIGHT, ONLY, SLOW])
def test_what_goes_on_in_time_is_right(row: HangRow | SlowRow) -> None:
    assert row.wrong() == [] == row.as_dict()["wrong"]


def test_a_stream_may_wait_for_the_bound_and_its_recovery_and_for_a_new_process_where_nobody_else_is() -> None:
    assert RIGHT.bound_s == 5.0 + RECOVER_S
    assert ONLY.bound_s == 5.0 + RECOVER_S + BACK_S + 8.0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(RIGHT, lost=["lost: x"]), "a session was lost: lost: x"),
        (replace(RIGHT, waits_s={}), "no session had state there"),
        (replace(RIGHT, waits_s={1: 10.1}), "stream 1 waited 10.1 s, allowed are 10.0"),
        (replace(RIGHT, went_on_with={1: ["denoise-1"]}), "stream 1 did not go on elsewhere"),
        (replace(RIGHT, other_waits_s={0: 3.5}), "stream 0 had nothing there and waited 3.5 s"),
        (replace(RIGHT, given_up=0), "0 workers are counted as hung"),
        (replace(RIGHT, given_up=2), "2 workers are counted as hung"),
        (replace(RIGHT, replaced_s=None), "it was not replaced"),
        (replace(RIGHT, serves_s=None), "the new process does not serve"),
        (replace(SLOW, given_up=1), "1 workers were given up"),
        (replace(SLOW, slow_op_s=0.12), "it was not slow: 0.120 s an op"),
        (replace(SLOW, is_same_process=False), "it is another process"),
    ],
)
def test_each_thing_that_should_not_be_is_told(changed: HangRow | SlowRow, told: str) -> None:
    assert changed.wrong() == [told]


def test_who_served_a_stream_is_known_by_role_and_time() -> None:
    spans = [(1.0, "denoise-0"), (2.0, "decode-1"), (3.0, "denoise-1"), (4.0, "decode-10")]
    ops = Ops(done={0: spans, 1: [(2.5, "denoise-1")]}, batches=Counter({"denoise-1": 2}))
    assert ops.by(0, "denoise", 0.0, 5.0) == ["denoise-0", "denoise-1"]
    assert ops.by(0, "denoise", 1.0, 5.0) == ["denoise-1"]
    assert ops.by(0, "decode", 0.0, 3.0) == ["decode-1"]
    assert ops.by(7, "decode", 0.0, 3.0) == []


def test_the_busiest_worker_of_a_role_is_the_one_with_the_most_dispatches() -> None:
    ops = Ops(dispatches={"denoise-0": {1.0, 2.0}, "denoise-1": {1.0, 2.0, 3.0}, "decode-0": {1.0}})
    assert ops.busiest("denoise") == ("denoise-1", 3)
    assert ops.busiest("decode") == ("decode-0", 1)
    assert ops.busiest("text") == ("", 0)


def test_what_makes_workers_hang_is_there_and_sessions_are_each_on_one_worker(tmp_path: Path) -> None:
    assert (HANGING / "sitecustomize.py").is_file()
    (tmp_path / "server.toml").write_text(Setup(packed=True).text(tmp_path, ""))
    assert load_config(tmp_path / "server.toml").cluster.packed == ("realtime",)
