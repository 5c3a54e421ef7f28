"""System calls of the journal, all of them: append, sync and cut files in folders one level deep; one engine at a time.

Whatever goes wrong is an OSError. A path is NAME or FOLDER/NAME. Everything is readable by the owner only, because it
holds prompts and pictures.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from longtake.core.errors import InvalidField

Handle = NewType("Handle", int)
"""An open file. What a failed write-back lost is told to handles that were open, so none is closed between."""
_LOCK = "lock"
_PARTS = 1024
"""So many parts one call of writev takes (IOV_MAX)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is in a folder, by name."""

    files: Mapping[str, int]
    """With their sizes in bytes."""
    folders: frozenset[str]
    others: frozenset[str]
    """Links, sockets and the like."""


class Disk(Protocol):
    """What the journal asks of an operating system."""

    def list_folder(self, folder: str = "") -> Listing:
        """What is in a folder (empty: the root)."""

    def make_folder(self, folder: str) -> None:
        """Make a folder; harmless if it is there."""

    def open(self, path: str) -> Handle:
        """Open a file to append to; it is made if it is missing."""

    def append(self, file: Handle, parts: Sequence[bytes]) -> None:
        """Write all parts behind the end; if it fails, some of the bytes may be there."""

    def sync(self, file: Handle) -> None:
        """Return when the file's bytes are durable; if it fails, any that were not may be lost for ever."""

    def truncate(self, file: Handle, size_bytes: int) -> None:
        """Cut the file off."""

    def close(self, file: Handle) -> None:
        """Give up the handle."""

    def sync_folder(self, folder: str = "") -> None:
        """Return when it is durable which names are in the folder."""

    def remove(self, path: str) -> None:
        """Remove a file; harmless if it is not there."""

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder; harmless if it is not there."""

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes from `offset` on, fewer than `length` only at the end of the file."""


class LocalDisk:
    """A folder of this machine, which nobody else uses as a journal until it is closed."""

    def __init__(self, root: Path, *, field: str = "journal.path") -> None:
        """InvalidField about `field` if the folder cannot be used, or another engine uses it."""
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise InvalidField(field, str(root), f"a folder that can be written ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            allowed = "a folder that no other engine has as its journal"
            busy = isinstance(error, BlockingIOError)
            raise InvalidField(field, str(root), allowed if busy else f"{allowed} ({error.strerror})") from None

    def release(self) -> None:
        """Let another engine have the folder."""
        os.close(self._lock)

    def list_folder(self, folder: str = "") -> Listing:
        """See Disk. The lock is not told of."""
        with os.scandir(self._root / folder) as scanned:
            entries = [entry for entry in scanned if folder or entry.name != _LOCK]
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        return Listing(
            files={entry.name: entry.stat(follow_symlinks=False).st_size for entry in files},
            folders=frozenset(entry.name for entry in folders),
            others=frozenset(entry.name for entry in entries if entry not in files and entry not in folders),
        )

    def make_folder(self, folder: str) -> None:
        """See Disk."""
        (self._root / folder).mkdir(mode=0o700, exist_ok=True)

    def open(self, path: str) -> Handle:
        """See Disk."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return Handle(os.open(self._root / path, flags, 0o600))

    def append(self, file: Handle, parts: Sequence[bytes]) -> None:
        """See Disk."""
        waiting = [memoryview(part) for part in parts if part]
        while waiting:
            written = os.writev(file, waiting[:_PARTS])
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]

    def sync(self, file: Handle) -> None:
        """See Disk."""
        os.fdatasync(file)

    def truncate(self, file: Handle, size_bytes: int) -> None:
        """See Disk."""
        os.ftruncate(file, size_bytes)

    def close(self, file: Handle) -> None:
        """See Disk."""
        os.close(file)

    def sync_folder(self, folder: str = "") -> None:
        """See Disk."""
        opened = os.open(self._root / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def remove(self, path: str) -> None:
        """See Disk."""
        (self._root / path).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        """See Disk."""
        with contextlib.suppress(FileNotFoundError):
            (self._root / folder).rmdir()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See Disk."""
        opened = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return _read_all(opened, offset, length)
        finally:
            os.close(opened)


def _read_all(opened: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(opened, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)
