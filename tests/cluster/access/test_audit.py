"""Where audit lines go: into a file that others cannot read and that may be moved away, the log, or nowhere."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from cluster.access.audit import LOGGER, Audit, Entry
from cluster.access.callers import EVERYBODY
from longtake.core.errors import InvalidField

ENTRY = Entry(caller=EVERYBODY, peer='ipv4:1"\n{}', method="m", action="open", session="x" * 1000)


def test_a_file_is_private_is_appended_to_and_may_be_moved_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.1"
    for _ in range(2):  # as of two starts
        audit = Audit(str(path), lambda: 0.0)
        with caplog.at_level(logging.DEBUG):
            audit.write(ENTRY)
        audit.close()
    assert path.stat().st_mode & 0o777 == 0o600
    audit = Audit(str(path), lambda: 0.0)
    path.rename(moved)
    audit.write(ENTRY)
    audit.close()
    assert (len(moved.read_text().splitlines()), len(path.read_text().splitlines())) == (2, 1)
    assert caplog.text == "", "its lines belong into the file alone"


def test_whatever_is_in_a_field_it_is_one_line_of_json_and_bounded(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "a"), lambda: 0.0)
    audit.write(ENTRY)
    audit.close()
    (line,) = (tmp_path / "a").read_text().splitlines()
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000+00:00", "tenant": "default", "credential": "none", "role": "operator",
        "peer": 'ipv4:1"\n{}', "method": "m", "action": "open", "session": "x" * 200, "outcome": "OK",
    }  # fmt: skip


def test_without_a_file_lines_go_to_the_log_or_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        Audit(None).write(ENTRY)
        assert caplog.records == []
        Audit("").write(ENTRY)
    assert [record.name for record in caplog.records] == [LOGGER]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match=r"auth\.audit: .*missing"):
        Audit(str(tmp_path / "missing" / "audit.jsonl"))
