"""The server starts and renders wherever a user works, also beside folders that have the names of its packages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from longtake.own_code.finding import PACKAGES
from tests.users_folder import NAMES, fill

ROOT = Path(__file__).resolve().parents[3]
LONGTAKE = (sys.executable, "-m", "longtake")
"""This has the current folder come first."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def environment(folder: Path) -> dict[str, str]:
    """One in which the user's folder comes first for child processes, too."""
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def run(folder: Path, *command: str) -> str:
    """What a command says that succeeds."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def serving(folder: Path, launch: str) -> Iterator[str]:
    """HOST:PORT of a server that was started there."""
    (folder / "server.toml").write_text(f"[cluster]\nlaunch = '{launch}'\ndenoise_workers = 1\n")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*LONGTAKE, "serve", "server.toml", "--port", "0"],
            cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=log, text=True,
        ) as server,
    ):  # fmt: skip
        try:
            assert server.stdout is not None
            ready = next((line for line in server.stdout if line.startswith("ready: ")), "")
            assert ready, (folder / "log").read_text()
            yield ready.split(" on ")[1].split()[0]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def test_every_package_of_the_server_is_among_those_of_the_user() -> None:
    assert set(NAMES) > PACKAGES


def test_a_package_of_the_user_is_theirs_where_nothing_of_ours_runs(folder: Path) -> None:
    for name in PACKAGES:
        done = subprocess.run(
            [sys.executable, "-c", f"import longtake.client, {name}"],
            cwd=folder, env=environment(folder), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"this is the {name} of a user" in done.stderr


@pytest.mark.slow
def test_render_runs_beside_a_users_folders_of_our_names(folder: Path) -> None:
    assert "completed" in run(folder, *LONGTAKE, "render", "a red ball", "--duration", "1s", "-o", "own.mp4")


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["subprocess", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_server_runs_beside_a_users_folders_of_our_names(folder: Path, launch: str) -> None:
    with serving(folder, launch) as address:
        said = run(folder, *LONGTAKE, "stream", "a red ball", "--duration", "1s", "-o", "a.mp4", "--server", address)
    assert "completed" in said
