"""The programs of examples/ and of docs/python.md run against a real server, and are what mypy --strict takes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from mypy import api as mypy

from cluster.launch.plan import model_path
from tests.cluster.served import ROOT, Server
from tests.longtake.commands import start

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), model_path("pocket"), "in-process")
    yield running
    running.end()


def run(program: str, folder: Path, *arguments: str) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments], cwd=folder, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def seconds(path: Path) -> tuple[float, float]:
    """The times of the first and the last picture."""
    with av.open(str(path), mode="r") as file:
        times = [frame.time for frame in file.decode(video=0) if frame.time is not None]
    return times[0], times[-1]


def test_a_stream_is_saved(server: Server, tmp_path: Path) -> None:
    assert "160 pictures, 10.00 s" in run("save.py", tmp_path, server.address)
    assert seconds(tmp_path / "red-ball.mp4") == (0.0, 159 / 16)


def test_a_stream_is_steered(server: Server, tmp_path: Path) -> None:
    said = run("steer.py", tmp_path, server.address)
    assert "the model understood: colour: blue, shape: box" in said and "cue-1 is shown" in said
    assert "cue-2: shown from" in said and "(client, seed" in said
    assert seconds(tmp_path / "steered.mp4")[0] == 0.0


def test_a_stream_is_watched(server: Server, tmp_path: Path) -> None:
    asked = ("--pace", "realtime", "--duration", "6s", "--cue", "3s=a blue box", "--server", server.address)
    stream = start("stream", "a red ball", *asked, cwd=tmp_path)
    try:
        while not (tmp_path / "longtake.mp4").exists():
            assert stream.poll() is None
        said = run("watch.py", tmp_path, server.address)
    finally:
        stream.communicate(timeout=60)
    assert "a red ball" in said.splitlines()[0]
    assert "from the next segment on: a blue box" in said and said.splitlines()[-1].startswith("the end: completed")


def test_pictures_become_arrays(server: Server, tmp_path: Path) -> None:
    assert "block 1: (12, 64, 64, 3)" in run("frames.py", tmp_path, server.address)


def test_the_document_has_the_programs_as_they_are() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    for block in blocks:
        ast.parse(block)
    for name in ("save.py", "steer.py", "watch.py"):
        assert (EXAMPLES / name).read_text() in blocks


@pytest.mark.slow  # `make check` looks at them too, beside everything else
def test_a_strict_type_checker_has_nothing_to_ask(tmp_path: Path) -> None:
    arguments = ["--strict", "--no-incremental", "--config-file", "", "--explicit-package-bases"]
    said, _, status = mypy.run([*arguments, *map(str, PROGRAMS)])
    assert status == 0, said
