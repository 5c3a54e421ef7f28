"""A server of one's own for a while: `longtake serve` as a child process on a free port."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from longtake.core.errors import Unavailable

STOP_S = 90.0
"""How long the server may take to finish the blocks that have begun, before it is killed."""


@contextmanager
def local_server(say: Callable[[str], object], config: Path | None = None, log: TextIO | None = None) -> Iterator[str]:
    """HOST:PORT of a server, ended on leaving; `say` gets the lines that it prints.

    Without a configuration it serves the pocket model. Its log goes to `log`, by default to standard error.

    Raises Unavailable if it ends before it is ready; why stands in its log on standard error. To be used on the main
    thread: a SIGTERM meanwhile ends the server first.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    command = [sys.executable, "-m", "longtake", "serve", *([str(config)] if config else []), "--port", "0"]
    # A session of its own, so that Ctrl-C ends the streams first and the server after them.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True) as server:
        before = signal.signal(signal.SIGTERM, leave)  # by default it would end this process and leave the server
        try:
            yield _address(server, say)
        finally:
            signal.signal(signal.SIGTERM, before)
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server: subprocess.Popen[str], say: Callable[[str], object]) -> str:
    """HOST:PORT from the line with which the server says that it is ready."""
    for line in server.stdout or ():
        say(line.rstrip("\n"))
        if line.startswith("ready: "):
            return line.split(" on ", 1)[1].split(" ", 1)[0]
    raise Unavailable("the server ended before it was ready")
