"""What a stream may be written to: a file, standard output, or a player."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import click

from longtake.client import CodecName

SUFFIXES: dict[CodecName, tuple[str, ...]] = {
    "h264": (".mp4", ".m4v"), "mjpeg": (".mjpeg", ".mjpg"), "raw": (".rgb", ".raw"),
}  # fmt: skip
"""How names of files may end that hold a codec, the usual way first."""
_MEDIA = {".avi", ".gif", ".jpeg", ".jpg", ".mkv", ".mov", ".png", ".ts", ".webm", ".webp", ".yuv"}.union(
    *SUFFIXES.values()
)
PLAYERS = {
    "ffplay": ("-hide_banner", "-loglevel", "error", "-autoexit", "-window_title", "longtake", "-i", "-"),
    "mpv": ("--really-quiet", "--force-window=immediate", "-"),
    "vlc": ("--quiet", "--play-and-exit", "-"),
}
"""Programs that show what comes in, and how each is told to."""


class Target(Protocol):
    """What is written to, without a buffer: what a thread is stuck in would hold its lock, and the process with it."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def check(self, codec: CodecName) -> None:
        """UsageError if a stream of this codec cannot, or should not, be written there."""
        ...

    def open(self) -> BinaryIO:
        """Begin to write; OSError if that cannot be."""
        ...

    def finish(self) -> None:
        """Wait until what was written has its effect."""
        ...


@dataclass(frozen=True, slots=True)
class Standard:
    """What the process was given to write to."""

    number: int
    name: str

    def check(self, codec: CodecName) -> None:
        """Python says that it was closed: its number is somebody else's by now."""
        if sys.stdout is None:
            raise click.UsageError("--output: '-' is not allowed; standard output is closed; allowed: a file")

    def open(self) -> BinaryIO:
        return cast(BinaryIO, os.fdopen(os.dup(self.number), "wb", buffering=0))

    def finish(self) -> None:
        return


STDOUT = Standard(1, "standard output")
STDERR = Standard(2, "standard error")


@dataclass(frozen=True, slots=True)
class File:
    """A file, by its name; or one of the usual name for its codec, if nobody has named it."""

    path: str | None
    force: bool = False
    """Whether a file that nobody has named may be overwritten."""
    codec: CodecName = "h264"

    @property
    def name(self) -> str:
        return self.path if self.path is not None else f"longtake{SUFFIXES[self.codec][0]}"

    def check(self, codec: CodecName) -> None:
        """Before anything is generated for it."""
        if not self.name:
            raise click.UsageError("--output: '' is not allowed; allowed: a file that can be written, or -")
        try:
            self._check(Path(self.name), codec)
        except (OSError, ValueError) as error:  # too long a name, say
            why = error.strerror if isinstance(error, OSError) else error
            allowed = f"a file that can be written, or - ({why})"
            raise click.UsageError(f"--output: {self.name!r} is not allowed; allowed: {allowed}") from None

    def _check(self, path: Path, codec: CodecName) -> None:
        own = set(SUFFIXES[codec])
        if path.suffix.lower() in _MEDIA - own:
            allowed = f"{' or '.join(sorted(own))} for {codec}, or a name without such an ending"
            raise click.UsageError(f"--output: {self.name!r} is not allowed; allowed: {allowed}")
        if self.path is None and not self.force and path.exists():
            raise click.UsageError(f"{self.name} is there already: name another file with -o, or overwrite it with -f")
        place = path if path.exists() else path.absolute().parent
        if path.is_dir() or not os.access(place, os.W_OK):
            raise click.UsageError(f"--output: {self.name!r} is not allowed; allowed: a file that can be written, or -")

    def open(self) -> BinaryIO:
        return cast(BinaryIO, Path(self.name).open("wb", buffering=0))

    def finish(self) -> None:
        return


class Player:
    """A player that is installed, shown what comes as it comes; whoever closes its window ends the stream."""

    def __init__(self) -> None:
        """UsageError if none is installed."""
        found = next((name for name in PLAYERS if shutil.which(name)), None)
        if found is None:
            names = ", ".join(PLAYERS)
            raise click.UsageError(f"--play: no player is installed; install one of {names}, or write a file with -o")
        self.name = found
        self._process: subprocess.Popen[bytes] | None = None

    def check(self, codec: CodecName) -> None:
        if codec == "raw":
            raise click.UsageError("--play: codec raw is not allowed; allowed: h264 or mjpeg, which players know")

    def open(self) -> BinaryIO:
        # In a session of its own: Ctrl-C is for the stream, which ends it.
        self._process = subprocess.Popen(
            [self.name, *PLAYERS[self.name]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._process.stdin is not None
        return cast(BinaryIO, self._process.stdin)

    def finish(self) -> None:
        """Wait until it has shown all."""
        if self._process is not None:
            self._process.wait()

    def end(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
