"""`longtake serve` as it is, or with everything taken out that counts: what the difference in CPU time is made of.

python -m benchmarks.counted_server CONFIG [--uncounted]
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from cluster.access.call_counts import CallCounts
from longtake.cli.main import run
from longtake.core.errors import Unavailable
from monitoring.folding.histogram import Histogram
from monitoring.folding.tally import Tally

STOP_S = 90.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    address: str
    """HOST:PORT for clients."""
    metrics: str
    """URL for Prometheus."""

    @property
    def target(self) -> str:
        """HOST:PORT for Prometheus."""
        return self.metrics.removeprefix("http://").removesuffix("/metrics")


@contextlib.contextmanager
def counted_server(config: Path, *, counted: bool = True) -> Iterator[Served]:
    """A server in a process of its own; its log lies beside its `config`. Unavailable if it does not start."""
    command = [sys.executable, "-m", "benchmarks.counted_server", str(config), *([] if counted else ["--uncounted"])]
    with (
        config.with_suffix(".log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True) as server,
    ):
        try:
            yield _served(server)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _served(server: subprocess.Popen[str]) -> Served:
    for line in server.stdout or ():
        if line.startswith("ready: "):
            address = line.split(" on ", 1)[1].split(" ", 1)[0]
            return Served(address, line.rsplit("metrics at ", 1)[1].strip())
    raise Unavailable("the server ended before it was ready")


def count_nothing() -> None:
    """Take out of this process whatever counts events, times and calls."""
    mock.patch.object(Tally, "fold", lambda self, event, effects: None).start()
    mock.patch.object(Histogram, "observe", lambda self, value, times=1: None).start()
    mock.patch.object(CallCounts, "noted", lambda self, method, context: contextlib.nullcontext()).start()


if __name__ == "__main__":
    if "--uncounted" in sys.argv[2:]:
        count_nothing()
    sys.exit(run(["serve", sys.argv[1]]))
