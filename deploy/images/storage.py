"""Images of buildah in a folder of their own, within a time that all steps share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.images.container import Container, Setting
from deploy.images.outcomes import Unable

ISOLATION = ("--isolation", "chroot")


class Failed(Exception):
    """A program failed; the message is the end of what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When all must be done, on the clock of time.monotonic()."""

    at_s: float

    def left_s(self, doing: str) -> float:
        """The seconds left; Unable if there are none."""
        left_s = self.at_s - time.monotonic()
        if left_s <= 0:
            raise Unable(f"this machine was not done in time (it was {doing})")
        return left_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Programs that are run with their outputs kept below a scratch folder."""

    scratch: Path
    name: str
    """What the names of containers and of their control groups begin with."""
    deadline: Deadline

    def container(self, name: str, setting: Setting, root: Path, files: Mapping[Path, str] | None = None) -> Container:
        """A container with a file system, and with files of this machine by where it sees them."""
        return Container(
            name=f"{self.name}-{name}",
            scratch=self.scratch / f"container-{name}",
            setting=setting,
            root=root,
            files=files or {},
        )

    def run(self, doing: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
        """What a program writes on standard output; Failed with the end of both outputs, Unable if time runs out.

        `doing` is a verb in -ing with its object: "building the front end".
        """
        log = self.scratch / f"{re.sub(r'[^a-z0-9]+', '-', doing)}.err"
        if not log.exists():  # the first of its programs
            sys.stderr.write(f"{doing} …\n")
        with log.open("ab") as err:
            try:
                done = subprocess.run(
                    [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
                    env=environment, timeout=self.deadline.left_s(doing),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise Unable(f"this machine was not done in time (it was {doing})") from None
        out = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise Failed(tail(out + log.read_text(errors="replace")) or f"status {done.returncode}")
        return out


def tail(text: str, lines: int = 25) -> str:
    """The last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is known of an image."""

    setting: Setting
    labels: Mapping[str, str]
    size_bytes: int
    description: str
    """Everything that the image says of itself, its history included, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """buildah with images, containers and temporary files below a scratch folder."""

    tools: Tools
    driver: str
    """`overlay`, or `vfs`, which copies each layer whole."""

    def buildah(self, doing: str, *arguments: str | Path) -> str:
        """What buildah writes; Failed if it fails."""
        folder = self.tools.scratch / "buildah"
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        options: list[str | Path] = [
            "--root",
            folder / "images",
            "--runroot",
            folder / "run",
            "--storage-driver",
            self.driver,
        ]
        environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(folder)}
        return self.tools.run(doing, ["buildah", *options, *arguments], environment)

    def mounted(self, image: str) -> tuple[str, Path]:
        """A container of an image, and where its file system lies."""
        container = self.buildah(f"mounting {image}", "from", "--pull-never", image).strip()
        return container, Path(self.buildah(f"mounting {image}", "mount", container).strip())

    def image(self, name: str) -> Image:
        """What an image says of itself."""
        description = self.buildah(f"inspecting {name}", "inspect", "--type", "image", name)
        config = json.loads(description)["OCIv1"]["config"]
        listed = json.loads(self.buildah(f"inspecting {name}", "images", "--json", name))
        return Image(
            setting=Setting(
                environment=tuple(config.get("Env", ())),
                user=config.get("User", "0:0"),
                folder=config.get("WorkingDir") or "/",
                command=(*config.get("Entrypoint", ()), *config.get("Cmd", ())),
            ),
            labels=config.get("Labels") or {},
            size_bytes=bytes_of(str(listed[0]["size"])),
            description=description,
        )


def driver_for(scratch: Path) -> str:
    """The quickest storage that works in a folder; mounts must be private to this process."""
    places = {name: scratch / "overlay" / name for name in ("lower", "upper", "work", "all")}
    for place in places.values():
        place.mkdir(parents=True)
    options = f"lowerdir={places['lower']},upperdir={places['upper']},workdir={places['work']}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(places["all"])]
    if subprocess.run(command, capture_output=True).returncode != 0:
        return "vfs"
    subprocess.run(["umount", str(places["all"])], check=True)
    return "overlay"


def bytes_of(size: str) -> int:
    """Bytes of a size as buildah prints it: `1.58 GB`."""
    number, _, unit = size.partition(" ")
    return round(float(number) * float(1000 ** ("B", "KB", "MB", "GB", "TB").index(unit.upper())))


def volumes(paths: Iterable[Path]) -> list[str]:
    """Options of buildah by which steps of a build see paths of this machine, read-only, at the same places."""
    return [word for path in paths for word in ("--volume", f"{path.resolve()}:{path}:ro")]
