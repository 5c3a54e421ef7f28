"""Whether a file has changed since it was read."""

from __future__ import annotations

import os
from pathlib import Path

FileState = tuple[int, int, int]


def state_of(path: Path) -> FileState | None:
    """What changes with a file's content, also where a link is turned to another file, as Kubernetes does.

    None if there is no file, or none that may be looked at.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
