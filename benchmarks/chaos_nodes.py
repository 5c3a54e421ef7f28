"""Ray nodes on one machine: a head that runs no worker, and nodes beside it that can be killed with all they run."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.chaos_processes import Process, below, process
from benchmarks.prometheus import free_port
from longtake.core.errors import Unavailable

_START_S = 120.0
_LEAST_STORE_BYTES = 80 * 1024 * 1024
"""The least object store that Ray allows; nothing is put there."""
HEAD = "head"


class RayNodes:
    """A Ray cluster of its own, whose nodes are processes below this one."""

    def __init__(self, count: int, folder: Path) -> None:
        """None of them is started yet; their words go into `folder`."""
        self.address = f"127.0.0.1:{free_port()}"
        self.names = tuple(f"node-{number}" for number in range(count))
        self._log = folder / "ray.log"
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment: Mapping[str, str] = os.environ | own
        """What a program needs to join."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes below which everything of a living node is."""
        return tuple(node.pid for node in self._started.values() if node.poll() is None)

    def start(self) -> None:
        """Start those that are not up; Unavailable if one does not come up."""
        for name in (HEAD, *self.names):
            if name not in self._started or self._started[name].poll() is not None:
                self._start(name)

    def _start(self, name: str) -> None:
        _, _, port = self.address.rpartition(":")
        where = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        if name != HEAD:
            where = [f"--address={self.address}", "--num-cpus=4"]
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            "--node-ip-address=127.0.0.1",
            *where,
        ]
        command += ["--num-gpus=0", "--disable-usage-stats", f"--object-store-memory={_LEAST_STORE_BYTES}"]
        with self._log.open("a") as log:
            node = self._started[name] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=dict(self.environment), start_new_session=True
            )
        for line in node.stdout or ():
            if b"--block" in line:  # it says that it blocks from here on
                return
        raise Unavailable(f"Ray's {name} ended with status {node.wait(_START_S)}: see {self._log}")

    def of(self, name: str) -> set[Process]:
        """The living processes of a node."""
        node = self._started[name]
        own = process(node.pid) if node.poll() is None else None
        return set() if own is None else {own, *below(node.pid)}

    def kill(self, name: str) -> None:
        """End a node and all that it runs, as when its machine loses power."""
        for one in self.of(name):
            one.send(signal.SIGKILL)
        self._started[name].wait()

    def stop(self) -> None:
        """End them all, the head last."""
        for name in reversed(list(self._started)):
            self.kill(name)
        self._started.clear()
