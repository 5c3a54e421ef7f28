"""Packages of npm for tests, kept between runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.programs import required


def node_modules(package: str, lock: str | None = None) -> Path:
    """The folder node_modules with what a package.json, and its package-lock.json, ask for.

    The test that asks is skipped where npm is absent, or cannot install.
    """
    npm = required("npm")
    digest = hashlib.sha256(f"{package}{lock}".encode()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / "longtake-npm" / digest / "node_modules"
    if kept.is_dir():
        return kept
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        (fresh / "package.json").write_text(package)
        if lock is not None:
            (fresh / "package-lock.json").write_text(lock)
        command = [npm, "install" if lock is None else "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {package}: {done.stderr[-300:]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh / "node_modules", kept)
    return kept
