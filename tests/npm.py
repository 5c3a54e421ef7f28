"""Packages of npm that tests need, fetched once and kept between runs; without npm such a test is skipped."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def packages_in(fresh: Path, packages: Sequence[str]) -> Path:
    """A folder whose `node_modules` has these packages (NAME@VERSION); `fresh` is an empty one to fetch them into."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    kept = Path(tempfile.gettempdir()) / "longtake-npm" / "_".join(packages).replace("/", "-")
    if not (kept / "node_modules").is_dir():
        (fresh / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {' and '.join(packages)}: {done.stderr[-300:]}")
        kept.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh / "node_modules", kept / "node_modules")
    return kept
