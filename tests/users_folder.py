"""Where a user works: a folder whose packages have the names of ours, and are not to be imported by us."""

from __future__ import annotations

from pathlib import Path

NAMES = ("protos", "workers", "cluster", "monitoring", "pocket", "benchmarks", "deploy", "tests")
"""Names that are ours in a checkout and may be anything where a user works."""


def fill(folder: Path) -> Path:
    """Give a folder such packages; each says whose it is when it is imported."""
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('this is the {name} of a user')\n")
    return folder
