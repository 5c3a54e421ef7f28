"""Files that are read again when they change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class Watched:
    """Tells whether files have changed since they were last asked about."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """As they are now is how they were read."""
        self._paths = tuple(paths)
        self._seen = self._states()

    def changed(self) -> bool:
        """Whether any is another one than when this was last asked; what was wrong once is not read again and again."""
        before, self._seen = self._seen, self._states()
        return self._seen != before

    def _states(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content, also where a link is turned to another file, as Kubernetes does.

    None if there is no file, or none that may be looked at.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
