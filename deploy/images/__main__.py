"""The container images, really built and run: `python -m deploy.images`, or `make images-test`; as root, on Debian.

debootstrap makes a base, buildah builds deploy/Dockerfile on it, runc runs the server: without a registry and without a
container engine, and in namespaces, so that no process and no mount is left, however it ends. Standard output gets one
JSON object; the lines on standard error are for people.

Exit status: 0 if the image is well, 1 if not, 2 if this machine cannot tell (with --gate 0), 130 if interrupted.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.images.inside import INTERRUPTED, Order
from deploy.images.machine import NAMESPACES, check, check_room, packages_missing, remove_scratch
from deploy.images.outcomes import Unable, Wrong
from deploy.images.stamp import ROOT, hashed, put, stamp_of

WRONG, UNABLE = 1, 2
GATE_S = 480.0
ALONE_S = 1800.0
END_S = 20.0
SCRATCH = ROOT / "build/images-test"


class Interrupted(Exception):
    """A signal asked this to end."""


def main(arguments: Sequence[str]) -> int:
    """Exit status of the trial."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gate", action="store_true", help="skip what was tried here before, or cannot be tried here")
    parser.add_argument("--torch-index", default="", help="the build argument TORCH_INDEX")
    parser.add_argument("--missing", action="store_true", help="only name Debian's packages that a --gate would lack")
    parser.add_argument("--within", type=float, help=f"seconds for all; default: {ALONE_S:g}, with --gate {GATE_S:g}")
    given = parser.parse_args(arguments)
    stamp = stamp_of(hashed())
    if given.missing:
        sys.stdout.write(" ".join([] if stamp.exists() else packages_missing()) + "\n")
        return 0
    if given.gate and stamp.exists():
        sys.stderr.write("images not tried: this Dockerfile with these versions was tried on this machine before\n")
        return 0
    name = f"longtake-images-{zlib.crc32(os.fsencode(SCRATCH)):08x}"
    within_s = given.within or (GATE_S if given.gate else ALONE_S)
    order = Order(scratch=str(SCRATCH), name=name, within_s=within_s, torch_index=given.torch_index)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        figures = tried(order)
    except Interrupted as interrupted:
        sys.stderr.write(f"images not tried: {interrupted}\n")
        return INTERRUPTED
    except Unable as unable:
        sys.stderr.write(f"images not tried: {unable}\n")
        return 0 if given.gate else UNABLE
    except Wrong as wrong:
        sys.stderr.write(f"images: {wrong}\n")
        return WRONG
    put(stamp)
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stderr.write("\n".join(lines(figures)) + "\n")
    return 0


def tried(order: Order) -> dict[str, Any]:
    """Figures of a trial, of which nothing is left; Unable, Wrong, Interrupted."""
    check()
    scratch = Path(order.scratch)
    scratch.parent.mkdir(exist_ok=True)
    # One trial of a checkout at a time: what lies there otherwise is of one that was killed.
    lock = os.open(scratch.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unable("another trial of this checkout is going on") from None
        try:
            remove_scratch(scratch, f"{order.name}*")
            scratch.mkdir(parents=True)
            check_room(scratch)
            return result_of(in_namespaces(order))
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            remove_scratch(scratch, f"{order.name}*")
    finally:
        os.close(lock)


def in_namespaces(order: Order) -> str:
    """What the trial writes, as the first process of its namespaces; with this process, or a signal, all of it ends."""
    command = [*NAMESPACES, sys.executable, "-m", "deploy.images.inside", json.dumps(asdict(order))]
    # A session of its own: what a terminal interrupts is this process.
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as trial:
        assert trial.stdin is not None and trial.stdout is not None
        try:
            written = trial.stdout.read()
        finally:
            trial.stdin.close()
            try:
                trial.wait(END_S)
            except subprocess.TimeoutExpired:
                trial.kill()
    return written if trial.returncode >= 0 else ""


def result_of(written: str) -> dict[str, Any]:
    """Figures, from what the trial wrote; Unable, Wrong, and RuntimeError if it wrote nothing."""
    match json.loads(written or "null"):
        case {"tested": dict(figures)}:
            return figures
        case {"unable": str(why)}:
            raise Unable(why)
        case {"wrong": str(why)}:
            raise Wrong(why)
    raise Wrong("the trial itself failed; the lines above say why")


def lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures for people."""
    return [
        f"base image made in {figures['base_s']} s ({figures['storage']})",
        f"front end built in {figures['build_s']} s: {figures['image_bytes'] / 1e9:.2f} GB",
        f"ready after {figures['ready_s']} s, as user 1000 without capabilities or new privileges",
        f"{figures['video_s']} s of video made inside, with the bytes of `longtake render`",
        "the root cannot be written",
        f"SIGTERM ended it after {figures['end_s']} s with status {figures['status']}",
    ]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
