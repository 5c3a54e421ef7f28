"""A server is started in a folder that holds packages of the same names as ours: nobody's processes run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workers.model_dir import write_model

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
raise ImportError("this is the user's own package")
"""


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "simulated:1ms"])
def test_packages_in_the_current_folder_are_not_imported(tmp_path: Path, device: str) -> None:
    for name in ("workers", "cluster", "longtake"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(HOSTILE)
    write_model(tmp_path / "model")
    (tmp_path / "server.toml").write_text(
        f'[model]\npath = "model"\ndevice = "{device}"\n'
        '[cluster]\nlaunch = "subprocess"\ndenoise_workers = 1\n[listen]\nport = 0\n'
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "longtake", "serve", "server.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()  # all workers are attached, or the server has ended
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=60)
    assert ready.startswith("ready: random"), told
    assert list(tmp_path.glob("*/ran")) == []
