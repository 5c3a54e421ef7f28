"""Stands for a device that never ends what it is given, or is slow: for processes of workers that are named in a file.

Python imports this by itself in every process that has the folder on its path. The folder `$HANG_FOLDER` may hold a
file with the name of a process (of a worker that computes, its own): `hang PID` holds up every op and every preparation
of that process while the file is there, `slow TIMES` makes each take so many times as long.
"""

from __future__ import annotations

import importlib.abc
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

FOLDER = os.environ.get("HANG_FOLDER", "")
METHODS = {
    "workers.denoise.worker": ("DenoiseWorker", ("_forward",)),
    "workers.decode.worker": ("DecodeWorker", ("_decode", "_prepare")),
    "workers.simulated.device": ("DevicePace", ("wait",)),
}


def _asked() -> list[str]:
    try:
        name = Path("/proc/self/comm").read_text().strip()
        return (Path(FOLDER) / name).read_text().split()
    except OSError:
        return []


def _troubled(plain: Callable[..., object]) -> Callable[..., object]:
    def method(*arguments: object) -> object:
        while _asked() == ["hang", str(os.getpid())]:
            time.sleep(0.05)
        began_s = time.monotonic()
        made = plain(*arguments)
        match _asked():
            case ["slow", times]:
                time.sleep((float(times) - 1) * (time.monotonic() - began_s))
        return made

    return method


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the workers' modules as they are, and changes some methods of a class of each."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname in METHODS else None
        if found is None or found.loader is None:
            return None
        plain = found.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            plain(module)
            kind, methods = METHODS[fullname]
            owner = getattr(module, kind)
            for method in methods:
                setattr(owner, method, _troubled(getattr(owner, method)))

        found.loader.exec_module = exec_module  # type: ignore[method-assign]
        return found


if FOLDER:
    sys.meta_path.insert(0, _Finder())
