"""Where audit lines go: into a file that others cannot read and that may be moved away, the log, or nowhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.access.audit import LOGGER, Audit, Entry
from cluster.access.callers import EVERYBODY
from cluster.config import parse_config
from cluster.net.exposure import check_exposure
from longtake.core.errors import Contradiction, InvalidField, Unavailable
from workers import lines

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


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize("required", [False, True])
def test_a_full_disk_is_told_once_a_minute_and_refuses_where_nothing_may_go_unwritten(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    monkeypatch.setattr(lines, "RETRY_S", 0.01)
    now_s = 60.0
    audit = Audit("/dev/full", lambda: now_s, required=required)
    audit.check()
    for _ in range(60):
        audit.write(ENTRY)
    until(lambda: audit.trouble)
    if required:
        with pytest.raises(Unavailable, match="the audit log cannot be written now, and nothing may happen here"):
            audit.check()
    else:
        audit.check()
    for _ in range(119):  # as of two minutes
        audit.look()
        now_s += 1.0
    assert caplog.messages[0].startswith("auth.audit: /dev/full cannot be written: No space left on device; ")
    assert len(caplog.messages) == 2 and "Traceback" not in caplog.text
    audit.close()


def test_a_disk_that_works_again_has_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "RETRY_S", 0.01)
    path, moved = tmp_path / "audit.jsonl", tmp_path / "away"
    path.symlink_to("/dev/full")
    audit = Audit(str(path), lambda: 0.0, required=True)
    for _ in range(60):
        audit.write(ENTRY)
    until(lambda: audit.trouble)
    path.rename(moved)
    until(lambda: not audit.trouble)
    audit.check()
    audit.close()
    assert len(path.read_text().splitlines()) == 60 and audit.dropped == 0


def test_lines_that_cannot_wait_are_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "RETRY_S", 0.01)
    monkeypatch.setattr(lines, "MOST_WAITING", 10)
    path, moved = tmp_path / "audit.jsonl", tmp_path / "away"
    path.symlink_to("/dev/full")
    audit = Audit(str(path), lambda: 0.0)
    for _ in range(60):
        audit.write(ENTRY)
        time.sleep(0.001)
    path.rename(moved)
    until(lambda: not audit.trouble)
    audit.close()
    written = [json.loads(line) for line in path.read_text().splitlines()]
    (told,) = [line for line in written if line["action"] == "left_out"]
    assert told["lines"] == audit.dropped == 60 - (len(written) - 1)


def test_only_a_file_can_be_required() -> None:
    with pytest.raises(Contradiction, match=r"auth\.audit_required = true .*auth\.audit is empty"):
        check_exposure(parse_config({"auth": {"audit_required": True}}))
    check_exposure(parse_config({"auth": {"audit_required": True, "audit": "audit.jsonl"}}))
