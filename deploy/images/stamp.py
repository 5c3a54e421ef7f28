"""What was tried on this machine before: a file by the hash of all that a trial depends on but the source itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMPS = ROOT / "build"
_NAME = "images-tested-"


def hashed() -> tuple[Path, ...]:
    """The Dockerfile, what it installs, how it is run, and this program."""
    names = ("deploy/Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "deploy/compose/compose.yaml",
             "deploy/compose/longtake.toml")  # fmt: skip
    return (*(ROOT / name for name in names), *sorted(Path(__file__).parent.glob("*.py")))


def stamp_of(files: Iterable[Path], folder: Path = STAMPS) -> Path:
    """The file that is there once these contents were tried."""
    whole = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        whole.update(f"{file.name} {len(data)}\n".encode() + data)
    return folder / f"{_NAME}{whole.hexdigest()[:16]}"


def put(stamp: Path) -> None:
    """Say that this was tried, and forget what was before."""
    stamp.parent.mkdir(exist_ok=True)
    for old in stamp.parent.glob(f"{_NAME}*"):
        old.unlink()
    stamp.touch()
