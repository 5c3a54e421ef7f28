"""A server that is a node of a Ray cluster, as process 1 of a container.

`python -m cluster.launch.ray_node CONFIG [OPTION …]`.

Ray lets a program take part in a cluster only beside a Ray node of its own machine. So this starts one that offers
nothing (no CPUs, no GPUs: no worker is put here) and joins the Ray at `cluster.ray_address`, then `longtake serve
CONFIG`; it passes SIGTERM and SIGINT on to the server, ends the node when the server has ended, and exits with the
server's status. Options are the node's, as of `ray start`, such as the ports that a firewall lets through. A node that
is lost takes the server with it. Everything is a child of this process and reaped by it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from cluster.config import ServerConfig, load_config
from longtake.core.errors import CallerFault, InvalidField
from workers.start.log import log_to_stderr

FAILED = 1
WRONG_INPUT = 2
DIAL_S = 2.0
"""How long one attempt to reach Ray may take, and the pause before the next."""
LEAVE_S = 10.0
"""How long the node may take to leave the cluster."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("longtake.joined")


@dataclass(slots=True)
class Joined:
    """The two processes, and the signals that asked them to end."""

    config: Path
    settings: ServerConfig
    options: tuple[str, ...] = ()
    """The options of the node."""
    server: subprocess.Popen[bytes] | None = None
    node: subprocess.Popen[bytes] | None = None
    asked: bool = False
    """Whether a signal has come."""
    signals: deque[int] = field(default_factory=deque)
    """The signals that the server has not been sent yet."""

    def run(self) -> int:
        """Serve until the server ends; returns its exit status, or 0 if a signal came before it was started."""
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)
        if not self._reach():
            return 0
        self.node = subprocess.Popen([*node_command(self.settings), *self.options], start_new_session=True)
        if self.asked:
            return self._end(0)
        # A session of its own: what a terminal interrupts is this process, which passes it on once.
        serve = [sys.executable, "-m", "longtake", "serve", str(self.config)]
        self.server = subprocess.Popen(serve, start_new_session=True)
        self._forward(self.server)
        return self._end(self._wait())

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.signals.append(number)
        if self.server is not None:
            self._forward(self.server)

    def _forward(self, server: subprocess.Popen[bytes]) -> None:
        """Send each signal once, although a handler may interrupt this: a second one would end the server at once."""
        with contextlib.suppress(IndexError):
            while server.returncode is None:
                server.send_signal(self.signals.popleft())

    def _reach(self) -> bool:
        """Wait until the Ray to join answers; False if a signal comes before."""
        host, _, port = self.settings.cluster.ray_address.rpartition(":")
        waited = False
        while not self.asked:
            try:
                socket.create_connection((host, int(port)), timeout=DIAL_S).close()
            except OSError as error:
                if not waited:
                    _log.warning("no Ray answers at %s:%s yet (%s)", host, port, error)
                waited = True
                time.sleep(DIAL_S)
            else:
                return True
        return False

    def _wait(self) -> int:
        """Reap every child until the server has ended; FAILED if the node ends before it."""
        assert self.server is not None and self.node is not None
        lost = False
        while True:
            pid, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            if pid == self.node.pid:
                self.node.returncode = code
                lost = True
                _log.error("the Ray node ended with status %d; the server is told to drain", code)
                self.server.send_signal(signal.SIGTERM)
            elif pid == self.server.pid:
                self.server.returncode = code
                return FAILED if lost and code == 0 else code if code >= 0 else 128 - code

    def _end(self, status: int) -> int:
        """End the node, and return `status`."""
        if self.node is not None and self.node.poll() is None:
            self.node.terminate()
            try:
                self.node.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                self.node.kill()
                self.node.wait()
        return status


def node_command(settings: ServerConfig) -> list[str]:
    """The command of a Ray node that offers nothing."""
    own = settings.link.host or os.environ.get("POD_IP", "")
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        f"--address={settings.cluster.ray_address}",
        *([f"--node-ip-address={own}"] if own else []),
        *("--num-cpus=0", "--num-gpus=0", "--disable-usage-stats", "--include-log-monitor=false"),
        f"--object-store-memory={80 * 1024 * 1024}",  # the least that Ray allows; nothing is put there
    ]


def main(arguments: list[str]) -> int:
    """Entry; one line for what goes wrong, status 2 for wrong input."""
    log_to_stderr()
    try:
        if not arguments or not all(option.startswith("--") for option in arguments[1:]):
            raise InvalidField("arguments", " ".join(arguments), "CONFIG, then options of `ray start` such as --port=1")
        settings = load_config(Path(arguments[0]), field="CONFIG")
        _host, _, port = settings.cluster.ray_address.rpartition(":")
        if settings.cluster.launch != "ray" or not port.isdecimal():
            allowed = 'HOST:PORT of a Ray cluster, with cluster.launch = "ray"'
            raise InvalidField("cluster.ray_address", settings.cluster.ray_address, allowed)
        return Joined(Path(arguments[0]), settings, options=tuple(arguments[1:])).run()
    except CallerFault as error:
        _log.error("%s", error)
        return WRONG_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
