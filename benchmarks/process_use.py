"""CPU time and memory of the processes below this one, from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What all descendants that live now have used."""

    cpu_s: float
    rss_bytes: int
    processes: int


def thread_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def descendants_use() -> Use:
    """Sums over every living descendant of this process."""
    ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    parents: dict[int, int] = {}
    uses: dict[int, tuple[float, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # Behind the name in brackets: state, parent, …; see proc_pid_stat(5).
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                uses[int(entry.name)] = ((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page_bytes)
    below = [pid for pid in parents if _descends(pid, parents)]
    return Use(
        cpu_s=sum(uses[pid][0] for pid in below),
        rss_bytes=sum(uses[pid][1] for pid in below),
        processes=len(below),
    )


def own_rss_bytes() -> int:
    """Memory that this process has resident."""
    return _rss_bytes(os.getpid())


def children_rss_bytes() -> int:
    """The same of its children together, without theirs."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    return sum(_rss_bytes(int(pid)) for pid in children)


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descends(pid: int, parents: dict[int, int]) -> bool:
    own = os.getpid()
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
        if pid == own:
            return True
    return False
