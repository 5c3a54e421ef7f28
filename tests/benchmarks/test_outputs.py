"""The benchmark of outputs that take nothing reads and judges as it says; `make hostile` runs it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.outputs import AuditFile, Opens, OutputRow, pipe, told_by_audit

REFUSED = "UNAVAILABLE: the audit log cannot be written now, and nothing may happen here that is not in it"
LOG = OutputRow(
    output="log", seconds=60.0, live_streams=4, blocks=320, late_blocks=0, worst_late_s=0.0, server_late_blocks=0,
    lost=[], dropped=9000, told=9000, in_trouble=False, is_cured=True, log_lines=0, during=Opens(granted=50),
    after=Opens(granted=3),
)  # fmt: skip
AUDIT = replace(LOG, output="audit", in_trouble=True, log_lines=2)
REQUIRED = replace(AUDIT, output="audit_required", dropped=0, told=0, during=Opens(granted=1, refused={REFUSED: 50}))


@pytest.mark.parametrize("row", [LOG, AUDIT, REQUIRED])
def test_an_output_that_holds_up_nothing_is_right(row: OutputRow) -> None:
    assert row.wrong() == [] == row.as_dict()["wrong"]
    json.dumps(row.as_dict())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(LOG, late_blocks=2), "2 blocks came late"),
        (replace(LOG, server_late_blocks=3), "the server counts 3 late blocks"),
        (replace(LOG, lost=["lost: x"]), "a stream was lost: lost: x"),
        (replace(LOG, blocks=0), "no block came"),
        (replace(LOG, told=8999), "8999 lines are said to be missing, 9000 are counted"),
        (replace(LOG, dropped=0, told=0), "nothing was dropped: ask for longer"),
        (replace(LOG, is_cured=False), "it did not recover"),
        (replace(LOG, after=Opens(refused={"x": 1})), "streams are not let in again"),
        (replace(AUDIT, in_trouble=False), "the metrics tell of no trouble"),
        (replace(AUDIT, log_lines=0), "0 lines of the log about it"),
        (replace(AUDIT, log_lines=60), "60 lines of the log about it"),
        (replace(AUDIT, during=REQUIRED.during), f"refused meanwhile: {{'{REFUSED}': 50}}"),
        (replace(REQUIRED, during=Opens(granted=2)), "refused meanwhile: {}"),
        (replace(REQUIRED, during=replace(REQUIRED.during, granted=3)), "3 were let in meanwhile"),
        (
            replace(REQUIRED, during=Opens(refused={REFUSED: 1, "INTERNAL: x": 1})),
            f"refused meanwhile: {{'{REFUSED}': 1, 'INTERNAL: x': 1}}",
        ),
    ],
)
def test_each_thing_that_should_not_be_is_told(changed: OutputRow, told: str) -> None:
    assert changed.wrong() == [told]


def test_a_pipe_tells_how_many_lines_are_missing_as_far_as_it_was_written() -> None:
    with pipe() as log:
        assert log.told() == 0
        os.write(log.writing, b"a line\n12 lines are missing here: standard error took none\nanother\n3 lines are mis")
        assert log.told() == 12
        os.write(log.writing, b"sing here: standard error took none\n")
        assert log.told() == 15


def test_an_audit_file_is_full_and_then_another_one(tmp_path: Path) -> None:
    audit = AuditFile(tmp_path / "audit.jsonl")
    audit.path.write_text('{"action": "left_out", "lines": 5}\n')
    assert audit.told() == 5
    audit.fill()
    assert audit.told() == 0
    with audit.path.open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        full.write(b"x")
    audit.free()
    assert audit.told() == 0
    assert told_by_audit(['{"action": "left_out", "lines": 7}', '{"action": "open"}', '{"action": "left_o']) == 7
