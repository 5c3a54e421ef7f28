"""A server as a process, for tests that use it as people do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Server:
    """A server process in a process group of its own, as a shell would start it."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        launch: str,
        *options: str,
        dtype: str = "float32",
        port: int = 0,
        more: str = "",
        denoise: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`more` goes into the configuration file behind everything else, `environment` over that of this process."""
        config = folder / "server.toml"
        config.write_text(
            f'[model]\npath = "{model}"\ndtype = "{dtype}"\n[cluster]\nlaunch = "{launch}"\n'
            f"denoise_workers = {denoise}\n"
            f"[listen]\nport = {port}\n{more}"
        )
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "longtake", "serve", str(config), *options],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ready.startswith("ready: ") and " on 127.0.0.1:" in ready, self.text()
        self.address = ready.split(" on ")[1].split()[0]
        self.ready = ready.strip()

    def text(self) -> str:
        """What it logged."""
        self.log.seek(0)
        return self.log.read()

    def group(self) -> list[int]:
        """Processes of its group, itself included."""
        listed = subprocess.run(["ps", "-eo", "pid,pgid"], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()[1:]]
        return [int(pid) for pid, group in rows if int(group) == self.process.pid]

    def end(self) -> None:
        """Whatever happened, leave nothing behind."""
        if self.group():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
