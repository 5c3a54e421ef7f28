"""What a machine must have for a trial, and the namespaces that keep a trial apart from it.

A trial runs as the first process of a PID namespace of its own, in a mount namespace of its own: when that process
ends, in whatever way, the kernel ends every process and takes away every mount of the trial.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.images.outcomes import Unable

PROGRAMS: Mapping[str, str] = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "runc": "runc",
    "newuidmap": "uidmap",
    "unshare": "util-linux",
}
"""The package of Debian that has a program."""
POLICY = Path("/etc/containers/policy.json")
POLICY_PACKAGE = "golang-github-containers-common"
NEEDED_BYTES = 7 * 10**9
"""Most that lies there at a time, while a layer is committed, is 6 GB."""
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
"""What goes before a command that is to run in namespaces of its own; `unshare` makes its mounts private."""


def packages_missing() -> list[str]:
    """The packages of Debian without which nothing is tried here."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    return sorted(missing if POLICY.exists() else missing | {POLICY_PACKAGE})


def check() -> None:
    """Unable if this machine lacks something that can be known beforehand."""
    if not sys.platform.startswith("linux"):
        raise Unable(f"images are built on Linux, and this is {sys.platform}")
    if os.geteuid() != 0:
        raise Unable("only root can make the base image, and this is another user")
    if missing := packages_missing():
        raise Unable(f"not installed: {', '.join(missing)} (apt-get install {' '.join(missing)})")
    check_namespaces()


def check_room(scratch: Path) -> None:
    """Unable if the disk of a folder has no room for a trial."""
    free_bytes = shutil.disk_usage(scratch).free
    if free_bytes < NEEDED_BYTES:
        raise Unable(f"{free_bytes / 1e9:.1f} GB are free, and {NEEDED_BYTES / 1e9:.0f} are needed")


def check_namespaces(command: Sequence[str] = (*NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt")) -> None:
    """Unable if a mount in namespaces of its own is refused."""
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        raise Unable(f"namespaces and mounts are refused here: {last_line(tried.stderr)}")


def last_line(text: str) -> str:
    """The last line of what a program wrote."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def remove_scratch(scratch: Path, name: str, cgroups: Path = CGROUPS) -> None:
    """Take away what a trial left on disk and in the tree of control groups, once its processes are gone."""
    for group in sorted([*cgroups.glob(name), *cgroups.glob(f"*/{name}")]):
        for below in sorted([path for path in group.rglob("*") if path.is_dir()], reverse=True):
            with contextlib.suppress(OSError):
                below.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
    shutil.rmtree(scratch, ignore_errors=True)
