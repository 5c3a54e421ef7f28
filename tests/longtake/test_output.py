"""Where `longtake stream` writes: what was not meant stays, what fails is named, and what blocks keeps nobody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.cli.main import run
from tests.cluster.frontend.toy import HEADER, ToyCell, toy_cell_in_thread
from tests.longtake.commands import ROOT, start


@pytest.fixture
def cell() -> Iterator[ToyCell]:
    with toy_cell_in_thread(delay_s=0.002) as running:
        yield running


def test_a_file_that_nobody_named_is_not_overwritten(
    cell: ToyCell, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("longtake.mp4").write_bytes(b"older")
    asked = ["stream", "red", "--duration", "1s", "--server", cell.target]
    assert run(asked) == 2
    assert (
        "longtake.mp4 is there already: name another file with -o, or overwrite it with -f" in capsys.readouterr().err
    )
    assert Path("longtake.mp4").read_bytes() == b"older"
    assert run([*asked, "-f"]) == 0
    assert Path("longtake.mp4").read_bytes().startswith(HEADER)


def test_an_output_that_fails_is_named_and_the_summary_tells_the_seed_all_the_same(
    cell: ToyCell, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["stream", "red", "--duration", "20s", "-o", "/dev/full", "--json", "--server", cell.target]
    assert run(asked) == 1
    said = capfd.readouterr()
    assert said.err == "longtake: [Errno 28] No space left on device: '/dev/full'\n"
    assert json.loads(said.out.splitlines()[-1])["seed"] >= 0


def test_closed_standard_output_is_named(cell: ToyCell, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "longtake",
        "stream",
        "red",
        "--duration",
        "1s",
        "-o",
        "-",
        "--server",
        cell.target,
    ]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "standard output is closed" in done.stderr


@pytest.mark.parametrize("reads", [False, True], ids=["nobody reads", "somebody stops reading"])
def test_an_output_that_blocks_does_not_keep_the_command_alive(reads: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with toy_cell_in_thread(delay_s=0.002, segment_bytes=300_000) as cell, contextlib.ExitStack() as reading:
        streaming = start("stream", "red", "--codec", "raw", "-o", "fifo", "--server", cell.target, cwd=tmp_path)
        if reads:
            reading.enter_context((tmp_path / "fifo").open("rb", buffering=0)).read(10)
        while not cell.engine.scheduler.sessions():
            time.sleep(0.01)
        time.sleep(0.5)  # the pipe is full by now
        streaming.send_signal(signal.SIGTERM)
        _, err = streaming.communicate(timeout=30)
    assert streaming.returncode == 1
    assert "bytes are left behind, because nobody takes them: 'fifo'" in err
    assert "Traceback" not in err and "seed" in err
