"""examples/node: a client of the .proto alone, against a real server and with the packages that its lock names."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.cli.local_server import local_server
from pocket.judge import Pictures, classify
from tests.npm import node_modules

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/node"
SERVER = "[cluster]\nlaunch = 'in-process'\ndenoise_workers = 1\n"
RED, BLUE = "a red ball circling in the fog", "a blue box swaying at night"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in a checkout of which nothing else is there but the .proto, after `npm ci`."""
    installed = node_modules(*((EXAMPLE / name).read_text() for name in ("package.json", "package-lock.json")))
    folder = tmp_path_factory.mktemp("checkout of mine")
    shutil.copytree(ROOT / "protos/longtake", folder / "protos/longtake")
    (folder / "examples/node").mkdir(parents=True)
    (folder / "examples/node/node_modules").symlink_to(installed)
    return Path(shutil.copy(EXAMPLE / "stream.mjs", folder / "examples/node"))


@pytest.fixture(scope="module")
def server(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of the pocket model; asked for after npm, for it takes longer."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "server.toml").write_text(SERVER)
    with (folder / "log").open("w") as log, local_server(lambda line: None, folder / "server.toml", log) as address:
        yield address


def run(script: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def running(script: Path, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(["node", str(script), *arguments], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def pictures(file: Path) -> Pictures:
    with av.open(str(file)) as opened:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def test_it_streams_with_a_cue_and_the_file_shows_both_prompts(script: Path, server: str, tmp_path: Path) -> None:
    asked = (RED, "--server", server, "--seconds", "8", "--seed", "7", "--cue", f"3.5={BLUE}", "-o", "own.mp4")
    done = run(script, tmp_path, *asked)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("opened ") and lines[0].endswith(
        f'seed 7: "{RED}" (understood: colour: red, shape: ball, motion: circling, background: fog)'
    )
    (accepted,) = [line for line in lines if line.startswith("cue-1 will ")]  # be it before the first segment or after
    assert accepted.startswith(f'cue-1 will take effect at block 5: "{BLUE}" (understood: colour: blue')
    assert [line for line in lines if line.startswith("segment 3:")] == ["segment 3: 12 pictures"]
    assert lines.index("cue-1 is shown from segment 5 on") == lines.index("segment 5: 12 pictures") - 1
    assert lines[-1] == "closed: ENDING_COMPLETED, 11 segments"
    shown = pictures(tmp_path / "own.mp4")
    assert len(shown) == 8 * 16
    first, last = classify(shown[:48]), classify(shown[-48:])
    assert (first.colour, first.shape) == ("red", "ball")
    assert (last.colour, last.shape) == ("blue", "box")


def test_what_is_refused_is_said_in_a_sentence(script: Path, server: str, tmp_path: Path) -> None:
    said = run(script, tmp_path, "?!", "--server", server)
    assert said.returncode == 1 and "INVALID_ARGUMENT: open.prompt: '?!' is not allowed" in said.stderr
    said = run(script, tmp_path, RED, "--server", server, "--seconds", "1", "--cue", f"0={BLUE}")
    assert said.returncode == 0 and "refused: cue-1" in said.stdout
    said = run(script, tmp_path, RED, "--server", "127.0.0.1:9")
    assert said.returncode == 1 and "UNAVAILABLE" in said.stderr
    for wrong in (("--seconds", "x"), ("--cue", "1 blue box"), ("--cue", "-1=blue box"), ("-o", "nowhere/out.mp4")):
        said = run(script, tmp_path, RED, *wrong)
        assert said.returncode == 2 and len(said.stderr.splitlines()) == 1, said.stderr


def test_the_first_interrupt_ends_the_stream_in_order(script: Path, server: str, tmp_path: Path) -> None:
    with running(script, tmp_path, RED, "--server", server, "--seconds", "3600") as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("segment 1:"):
                client.send_signal(signal.SIGINT)
                break
        rest = client.stdout.read().splitlines()
        assert client.wait(30) == 0
    assert rest[-1].startswith("closed: ENDING_CLIENT")
    assert len(pictures(tmp_path / "out.mp4")) >= 21


def test_its_packages_are_pinned_and_its_lock_names_no_host() -> None:
    package = json.loads((EXAMPLE / "package.json").read_text())
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    lock = (EXAMPLE / "package-lock.json").read_text()
    assert json.loads(lock)["packages"][""]["dependencies"] == package["dependencies"]
    assert '"resolved"' not in lock
