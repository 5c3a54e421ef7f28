"""A base image like the one that the Dockerfile names, made by debootstrap: a Debian with that Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.images.outcomes import Unable, Wrong
from deploy.images.storage import Failed, Storage

NAME = "localhost/longtake-base:test"
RELEASES: Mapping[str, str] = {"3.11": "bookworm", "3.13": "trixie"}
"""The release of Debian whose Python is of a version."""
_DEFAULT = re.compile(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-slim$", re.MULTILINE)
_PACKAGES = "ca-certificates,python3,python3-venv"
_TARGETS = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")


def python_of(dockerfile: str) -> str:
    """The version of Python that a Dockerfile is built on by default; Wrong if it names none that is known here."""
    found = _DEFAULT.search(dockerfile)
    if found is None or found[1] not in RELEASES:
        raise Wrong(f"ARG PYTHON_IMAGE of the Dockerfile is not python:X-slim with X one of {', '.join(RELEASES)}")
    return found[1]


def mirror_of(targets: str) -> str | None:
    """Where this machine gets Debian's packages from, of what `apt-get indextargets` prints; None if it does not."""
    for line in targets.splitlines():
        origin, label, address = line.split(maxsplit=2)
        if (origin, label) == ("Debian", "Debian"):
            return address
    return None


def make_base(storage: Storage, dockerfile: str, places: Iterable[Path]) -> None:
    """Make the base image, with empty places at which steps of a build see this machine; Unable if it cannot be made.

    They would be left in an image otherwise, for buildah makes them and does not take them away.
    """
    version = python_of(dockerfile)
    asked = subprocess.run(_TARGETS, capture_output=True, text=True)
    mirror = mirror_of(asked.stdout)
    doing = "making the base image"
    try:
        container = storage.buildah(doing, "from", "scratch").strip()
        root = Path(storage.buildah(doing, "mount", container).strip())
        command: list[str | Path] = [
            "debootstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            RELEASES[version],
            root,
        ]
        storage.tools.run(doing, [*command, mirror] if mirror else command)
        for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / left)
            (root / left).mkdir()
        # Where the image that the Dockerfile names has it.
        (root / "usr/local/bin/python").symlink_to(f"/usr/bin/python{version}")
        for place in places:
            _make_place(root, place)
        storage.buildah(doing, "umount", container)
        storage.buildah(doing, "commit", "--rm", container, NAME)
    except Failed as failed:
        raise Unable(f"no base image can be made here:\n{failed}") from None


def _make_place(root: Path, place: Path) -> None:
    inside = root / place.relative_to("/")
    if place.is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
