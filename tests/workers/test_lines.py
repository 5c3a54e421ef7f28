"""Lines that a thread of their own writes: nobody waits, the order stays, and what is missing is told in its place."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import lines as module
from workers.lines import MOST_BYTES, MOST_WAITING, Lines

ROOT = Path(__file__).resolve().parents[2]
PIPE_BYTES = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield ends
    for end in ends:
        os.close(end)


def lines_to(descriptor: int) -> Lines:
    return Lines("test", lambda: descriptor, lambda count: f"missing {count}")


def read_all(descriptor: int, into: bytearray, until: bytes) -> threading.Thread:
    def read() -> None:
        while not into.endswith(until):
            into.extend(os.read(descriptor, 1 << 16))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def test_who_writes_to_a_pipe_that_nobody_reads_does_not_wait_and_the_missing_are_told_in_their_place(
    pipe: tuple[int, int],
) -> None:
    written = lines_to(pipe[1])
    began_s = time.monotonic()
    for number in range(10 * MOST_WAITING):
        written.add(f"line {number:06d} of many")
    assert time.monotonic() - began_s < 5
    assert written.dropped > 8 * MOST_WAITING
    assert not written.settle(0.1)
    missing, found = written.dropped, bytearray()
    reader = read_all(pipe[0], found, b"the last\n")
    while written.settle(1) is False:
        pass
    written.add("the last")
    reader.join(20)
    told = found.decode().splitlines()
    kept = 10 * MOST_WAITING - missing
    assert told == [*(f"line {number:06d} of many" for number in range(kept)), f"missing {missing}", "the last"]
    assert written.close(5)


def test_a_full_disk_is_trouble_and_what_waits_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    descriptor = os.open("/dev/full", os.O_WRONLY)
    place = [descriptor]
    written = Lines("test", lambda: place[0], lambda count: f"missing {count}")
    written.add("one")
    written.add("two")
    assert not written.settle(0.2)
    assert written.trouble == "No space left on device" and written.dropped == 0
    place[0] = os.open(tmp_path / "there", os.O_CREAT | os.O_WRONLY)
    assert written.settle(5)
    assert (written.trouble, (tmp_path / "there").read_text()) == ("", "one\ntwo\n")
    for each in (descriptor, place[0]):
        os.close(each)


def test_an_output_that_takes_nothing_for_long_is_trouble(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.1)
    written = lines_to(pipe[1])
    written.add("x" * (2 * PIPE_BYTES - 1))
    time.sleep(0.3)
    assert written.trouble == "it takes no line"
    assert len(os.read(pipe[0], 1 << 16)) == PIPE_BYTES
    assert written.settle(5) and written.trouble == ""


def test_a_line_is_bounded_and_may_hold_anything(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "there", os.O_CREAT | os.O_WRONLY)
    written = lines_to(descriptor)
    written.add("\udcff")
    written.add("x" * (2 * MOST_BYTES))
    assert written.close(5)
    first, second = (tmp_path / "there").read_text().splitlines()
    assert first == "\\udcff" and MOST_BYTES < len(second) < MOST_BYTES + 20
    written.add("late")
    assert written.dropped == 1
    os.close(descriptor)


@pytest.mark.parametrize("closed", [False, True])
def test_a_process_whose_log_nobody_reads_ends(closed: bool, pipe: tuple[int, int]) -> None:
    script = (
        "import logging, sys; from workers.start.log import log_to_stderr, log_lines_dropped\n"
        "log_to_stderr()\n"
        "for number in range(20_000): logging.getLogger('longtake').info('line %d', number)\n"
        "logging.getLogger('longtake').info('wrong %d %d', 1)\n"
        "print(log_lines_dropped())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=pipe[1],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        preexec_fn=(lambda: os.close(2)) if closed else None,
        check=True,
    )
    assert (int(done.stdout) > 10_000) is not closed


def test_a_log_that_is_read_is_whole() -> None:
    script = (
        "import logging; from workers.start.log import log_to_stderr\n"
        "log_to_stderr()\n"
        "for number in range(1000): logging.getLogger('longtake').info('line %d', number)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    told = done.stderr.decode().splitlines()
    assert [line.split(" longtake ")[1] for line in told] == [f"line {number}" for number in range(1000)]
