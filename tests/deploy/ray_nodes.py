"""A Ray cluster of several nodes on one machine, as Kubernetes would have it: one loopback address for each node."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
READY_S = 90.0
LEAVE_S = 40.0


def free_port(host: str) -> int:
    """A port of `host` that nobody listens on now."""
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_text(path: Path, text: str, process: subprocess.Popen[bytes]) -> str:
    """What a process has logged, once `text` is in it."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        logged = path.read_text()
        if text in logged:
            return logged
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before it said {text!r}:\n{logged}")
        time.sleep(0.05)
    raise AssertionError(f"did not say {text!r} within {READY_S:g} s:\n{path.read_text()}")


def below(pid: int) -> dict[int, str]:
    """Command lines of all living processes below `pid`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for child in [one for one, above in parents.items() if above == parent]:
            waiting.append(child)
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


class RayNodes:
    """A head without CPUs and nodes with labels, with token authentication; ended by process id."""

    def __init__(self) -> None:
        # A short path: sockets lie below it.
        self.folder = Path(tempfile.mkdtemp(prefix="lt-", dir="/tmp"))
        self.address = f"127.0.0.2:{free_port('127.0.0.2')}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start_head(self) -> None:
        host, _, port = self.address.rpartition(":")
        self._start("head", host, "--head", f"--port={port}", f"--temp-dir={self.folder}", "--num-cpus=0",
                    "--include-dashboard=false")  # fmt: skip

    def start_node(self, name: str, host: str, labels: Mapping[str, str]) -> None:
        text = ",".join(f"{key}={value}" for key, value in labels.items())
        self._start(name, host, f"--address={self.address}", "--num-cpus=2", f"--labels={text}")

    def _start(self, name: str, host: str, *arguments: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            self._nodes[name] = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={host}",
                 "--object-store-memory=83886080", *arguments],
                env=self.environment, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        # One after the other: nodes of one machine that start at once take each other's ports.
        wait_for_text(log, "Ray runtime started", self._nodes[name])

    def workers_on(self, name: str) -> int:
        """How many of our actors have their process on a node."""
        return sum("ray::WorkerActor" in command for command in below(self._nodes[name].pid).values())

    def stop(self) -> None:
        left = {pid: command for node in self._nodes.values() for pid, command in below(node.pid).items()}
        for node in reversed(self._nodes.values()):
            node.terminate()
        for node in reversed(self._nodes.values()):
            try:
                node.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        for pid in left:  # those that Ray left behind, if it did
            try:
                if "ray" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, 9)
            except (FileNotFoundError, ProcessLookupError):
                continue
        shutil.rmtree(self.folder, ignore_errors=True)
