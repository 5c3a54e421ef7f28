"""What a worker tells of its process: to the engine with each heartbeat, to the system by the name of a thread."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workers.images.thread import ImageThread
from workers.messages import Heartbeat

_STATM = Path("/proc/self/statm")
_NAME = Path("/proc/thread-self/comm")
_NAME_BYTES = 15


def vitals(images: ImageThread, *, workers: int) -> Heartbeat:
    """A heartbeat of now. Each of the `workers` of a process says its share; 0: it is the engine's process."""
    return Heartbeat(
        host_bytes=images.host_bytes,
        copied_out_bytes=images.copied_out_bytes,
        copied_in_bytes=images.copied_in_bytes,
        resident_bytes=_resident_bytes() // workers if workers else 0,
    )


def show_name(worker: str) -> None:
    """Give this thread the worker's name, as `ps -L` and `top -H` show it; of its first thread it is the process's."""
    with contextlib.suppress(OSError):  # other systems than Linux have no such file
        _NAME.write_bytes(worker.encode()[:_NAME_BYTES])


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell (other than Linux)."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
