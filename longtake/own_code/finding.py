"""The packages of the server are found beside this one, whatever folders of the same plain names a user works in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = frozenset({"cluster", "monitoring", "pocket", "workers"})
"""Those of the wheel beside `longtake`."""
_HOME = str(Path(__file__).resolve().parent.parent.parent)


class _Ours:
    """Asked before any path: the folder that Python was started in would come first on that."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder; None for what is not ours."""
        return PathFinder.find_spec(name, [_HOME], target) if name in PACKAGES else None


def find_ours_first() -> None:
    """From now on this process imports the server's packages from where `longtake` lies; once is enough."""
    if _Ours not in sys.meta_path:
        sys.meta_path.insert(0, _Ours)
