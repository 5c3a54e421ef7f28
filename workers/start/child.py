"""The environment of processes that are started to run code from here."""

from __future__ import annotations

import os
from pathlib import Path

import workers

VISIBLE = "CUDA_VISIBLE_DEVICES"


def environment(gpus: str | None = None) -> dict[str, str]:
    """This process's own, but that code is found where this process found it, before anything else.

    With `gpus`, as CUDA names them with commas between, it sees no others.
    """
    home = str(Path(workers.__file__).resolve().parent.parent)
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = {} if gpus is None else {VISIBLE: gpus}
    return os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
