"""A server in a process of its own, on devices that only take their time, and a client who must notice no attack."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from longtake.client import StreamOptions
from longtake.client.events import SegmentEvent
from longtake.client.sync import SyncClient

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPT = "a red ball swaying at night"
PATIENCE_S = 60.0
CONFIG = """
[model]
device = "simulated:8ms"
[cluster]
launch = "subprocess"
[listen]
port = 0
"""


class Cell:
    """A running `longtake serve`."""

    def __init__(self, folder: Path, config: str = CONFIG, *, files: int = 4096, log: int | None = None) -> None:
        """Start it, with a limit of open files and `log` for standard error, and wait until it is ready."""
        (folder / "server.toml").write_text(config)
        command = [sys.executable, "-m", "longtake", "serve", str(folder / "server.toml")]
        self._log = (folder / "server.log").open("w+")
        self._process = subprocess.Popen(
            ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"', *command],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self._log if log is None else log,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready.startswith("ready: "), self.log()
        self.address = ready.split(" on ")[1].split()[0]
        self.metrics = ready.partition(", metrics at ")[2].strip()
        """Where Prometheus would ask; empty if nowhere."""

    @property
    def pid(self) -> int:
        """The process that clients are connected to."""
        return self._process.pid

    def log(self) -> str:
        """What it logged so far."""
        self._log.seek(0)
        return self._log.read()

    def files(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_bytes(self) -> int:
        """Memory that it has."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; a name may have labels."""
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        kind, _, labels = name.partition("{")
        lines = [line for line in text.splitlines() if line.startswith(f"{kind}{{") and labels.rstrip("}") in line]
        assert lines, name
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def end(self) -> int:
        """End it by SIGTERM, or by force, and leave nothing behind; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()


class Witness:
    """A stream that goes on while others attack: its segments must come in order, and be those of a quiet day."""

    def __init__(self, address: str, *, seed: int = 5) -> None:
        self.hashes: list[str] = []
        self.failure: BaseException | None = None
        self._address = address
        self._seed = seed
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Witness:
        self._thread.start()
        self.sees(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def sees(self, more: int) -> None:
        """Wait until so many more segments have come."""
        wanted = len(self.hashes) + more
        wait_for(lambda: len(self.hashes) >= wanted or self.failure is not None, f"segment {wanted} of a stream")
        if self.failure is not None:
            raise self.failure

    def _watch(self) -> None:
        try:
            options = StreamOptions(seed=self._seed, codec="raw")
            with SyncClient(self._address) as client, client.stream(PROMPT, options) as stream:
                for event in stream:
                    if isinstance(event, SegmentEvent):
                        assert event.index == len(self.hashes)
                        self.hashes.append(hashlib.sha256(event.data).hexdigest())
                    if self._enough.is_set():
                        return
            raise AssertionError("the stream ended by itself")
        except BaseException as error:
            self.failure = error
            raise


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return when `condition` holds; TimeoutError names `what` if it never does."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {patience_s:g} s: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def running(folder: Path, config: str = CONFIG, *, files: int = 4096, log: int | None = None) -> Iterator[Cell]:
    """A cell that ends in order."""
    cell = Cell(folder, config, files=files, log=log)
    try:
        yield cell
    finally:
        status = cell.end()
    assert status == 0
