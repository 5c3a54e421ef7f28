"""How the ports of this process share its file descriptors, so that a flood at one of them leaves the others theirs."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import Self

RESERVED_FILES = 256
"""Descriptors for all that is no connection below: the journal, pipes to workers, scrapes."""
CLIENTS = 4096
"""The most connections of clients, if there are descriptors for them."""
WORKERS = 1024
BROWSERS = 256
SCRAPES = 16
"""Connections at the metrics port: of Prometheus, of probes, and a person's."""
ENOUGH_FILES = RESERVED_FILES + 2 * CLIENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """The most connections at each port at once."""

    clients: int
    workers: int
    browsers: int
    """Each may take another descriptor: a stream of the page is one of a client in this process."""

    @classmethod
    def allowed(cls, files: int | None = None) -> Self:
        """The shares of `files` descriptors (default: as many as this process may open)."""
        if files is None:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        left = max(0, files - RESERVED_FILES)
        return cls(
            clients=max(1, min(CLIENTS, left // 2)),
            workers=max(1, min(WORKERS, left // 8)),
            browsers=max(1, min(BROWSERS, left // 8)),
        )


def ask_for_enough() -> None:
    """Raise the soft limit of descriptors, which shells set low for programs that use select, as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(ENOUGH_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
