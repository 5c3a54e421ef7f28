"""Processes as /proc shows them: who is below whom, what they are called, and what shared memory they use.

An id that was given to somebody else meanwhile is nobody's here.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_SHARED = "/dev/shm/"


@dataclass(frozen=True, slots=True)
class Process:
    """A process, whatever else gets its id later."""

    pid: int
    started: int
    """In clock ticks since the machine started."""

    @property
    def is_alive(self) -> bool:
        """Whether it is still there; one that only waits to be reaped is not."""
        return process(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal it, if it is there; returns whether it was."""
        if not self.is_alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    def resident_bytes(self) -> int:
        """Its memory; 0 if it is gone."""
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def files(self) -> int:
        """Its open file descriptors; 0 if it is gone."""
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        return 0


def process(pid: int) -> Process | None:
    """The process that has this id now; None if there is none, or none that still runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def below(*ancestors: int) -> set[Process]:
    """The living processes below some."""
    found: set[int] = set()
    waiting = list(ancestors)
    while waiting:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
                children = {int(child) for child in (task / "children").read_text().split()} - found
                found |= children
                waiting += children
    return {one for pid in found if (one := process(pid)) is not None}


def names(pid: int) -> set[str]:
    """The names of all threads of a process."""
    found = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.add((task / "comm").read_text().strip())
    return found


def program(pid: int) -> str:
    """The name of a process itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def shared_memory(pid: int) -> set[Path]:
    """What a process has mapped of shared memory that has a name."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        paths = {line.partition(_SHARED)[2] for line in lines if _SHARED in line}
        return {Path(_SHARED + path) for path in paths if not path.endswith(" (deleted)")}
    return set()
