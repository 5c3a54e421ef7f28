"""A disk in memory that does what disks do: it is full, read-only or broken, and a crash keeps what it likes.

Theory of operation. Reads see everything that was done, as with a page cache. A sync makes durable what was done to a
file before; a sync of a folder does so with the names in it. `crash` leaves, of what is not durable, of each file any
number of its oldest changes with any part of the next one, and of each name the change or the state before it. When a
sync fails, what it should have made durable is lost, and the next sync, which works, does not bring it back.
Whoever uses it says what happens: there is no thread and no clock in it, and all chance comes from the caller.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from random import Random

from cluster.journal.disk import Handle, Listing

Fault = Callable[[str, str], int]
"""From a call's name and its path to the error number with which it fails, or 0."""


def works(_call: str, _path: str) -> int:
    """No fault."""
    return 0


class FakeFile:
    """A file: what reads see of it, what is durable, and what was done since that was."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._durable = b""
        self._changes: list[bytes | int] = []
        """Bytes that were appended, or a size to which it was cut."""

    @property
    def durable(self) -> bytes:
        """What is there after a crash, at the least."""
        return self._durable

    def append(self, data: bytes) -> None:
        self.content += data
        self._changes.append(data)

    def truncate(self, size_bytes: int) -> None:
        del self.content[size_bytes:]
        self._changes.append(size_bytes)

    def sync(self) -> None:
        """Make durable what was done."""
        self._durable, self._changes = self._with(self._changes), []

    def lose(self) -> None:
        """What was appended is as reads see it, and will be zeros on disk."""
        self._changes = [bytes(len(each)) if isinstance(each, bytes) else each for each in self._changes]

    @property
    def is_false(self) -> bool:
        """Whether reads see what will never be on disk."""
        return self._with(self._changes) != self.content

    def crash(self, chance: Random) -> None:
        """Keep any number of the oldest changes and any part of the next."""
        number = chance.randint(0, len(self._changes))
        kept, rest = self._changes[:number], self._changes[number:]
        if rest and isinstance(rest[0], bytes):
            part = chance.randint(0, len(rest[0]))
            kept.append(rest[0][:part])
            if chance.random() < 0.3:  # the size was written, and the bytes were not
                kept.append(bytes(len(rest[0]) - part))
        self._durable, self._changes = self._with(kept), []
        self.content = bytearray(self._durable)

    def _with(self, changes: Iterable[bytes | int]) -> bytes:
        found = bytearray(self._durable)
        for change in changes:
            if isinstance(change, int):
                del found[change:]
            else:
                found += change
        return bytes(found)


class FakeDisk:
    """See cluster.journal.disk.Disk."""

    def __init__(self) -> None:
        self.fault: Fault = works
        self.lies = False
        """Whether syncs do nothing and say that all is well."""
        self.room_bytes: int | None = None
        """So many bytes fit in all; None: any number."""
        self.written_bytes = 0
        self._folders: dict[str, dict[str, FakeFile]] = {"": {}}
        """What is in each folder; the root is the empty name."""
        self._durable: dict[str, dict[str, FakeFile]] = {"": {}}
        """The same, each as it was when it was synced."""
        self._durable_folders = {""}
        """Those that were there when the root was synced."""
        self._handles: dict[Handle, tuple[str, FakeFile]] = {}
        self._numbers = itertools.count(3)

    # --- for tests --------------------------------------------------------------------------------------------------

    @property
    def open_files(self) -> int:
        """The number of handles."""
        return len(self._handles)

    @property
    def files(self) -> dict[str, FakeFile]:
        """All files by path."""
        return {
            f"{folder}/{name}" if folder else name: file
            for folder, names in self._folders.items()
            for name, file in names.items()
        }

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(len(file.content) for file in self.files.values())

    @property
    def is_false(self) -> bool:
        """Whether reads see what will never be on disk."""
        return any(file.is_false for file in self.files.values())

    def crash(self, chance: Random) -> None:
        """Power fails and comes back: of what was not durable any part may be there, and nobody holds a file open."""
        self._handles.clear()
        before, after = self._durable, self._folders
        folders = sorted(self._durable_folders | after.keys())
        kept = {folder for folder in folders if folder in (self._durable_folders if chance.random() < 0.5 else after)}
        self._folders, self._durable_folders = {}, kept
        for folder in sorted(kept):
            durable, names = before.get(folder, {}), after.get(folder, {})
            choices = {
                name: (durable if chance.random() < 0.5 else names).get(name)
                for name in sorted(durable.keys() | names.keys())
            }
            self._folders[folder] = {name: file for name, file in choices.items() if file is not None}
        for file in self.files.values():
            file.crash(chance)
        self._durable = {folder: dict(names) for folder, names in self._folders.items()}

    # --- system calls -----------------------------------------------------------------------------------------------

    def list_folder(self, folder: str = "") -> Listing:
        """See Disk."""
        self._call("list", folder)
        files = {name: len(file.content) for name, file in self._names(folder).items()}
        folders = frozenset() if folder else frozenset(name for name in self._folders if name)
        return Listing(files=files, folders=folders, others=frozenset())

    def make_folder(self, folder: str) -> None:
        """See Disk."""
        self._call("make_folder", folder)
        self._folders.setdefault(folder, {})

    def open(self, path: str) -> Handle:
        """See Disk."""
        self._call("open", path)
        folder, _, name = path.rpartition("/")
        file = self._names(folder).setdefault(name, FakeFile())
        handle = Handle(next(self._numbers))
        self._handles[handle] = path, file
        return handle

    def append(self, file: Handle, parts: Sequence[bytes]) -> None:
        """See Disk."""
        path, found = self._handles[file]
        data = b"".join(parts)
        room = len(data) if self.room_bytes is None else max(0, self.room_bytes - self.size_bytes)
        try:
            self._call("append", path)
        except OSError:
            found.append(data[: len(data) // 2])
            raise
        found.append(data[:room])
        self.written_bytes += len(data[:room])
        if room < len(data):
            raise _error(errno.ENOSPC)

    def sync(self, file: Handle) -> None:
        """See Disk."""
        path, found = self._handles[file]
        try:
            self._call("sync", path)
        except OSError:
            found.lose()
            raise
        if not self.lies:
            found.sync()

    def truncate(self, file: Handle, size_bytes: int) -> None:
        """See Disk."""
        path, found = self._handles[file]
        self._call("truncate", path)
        found.truncate(size_bytes)

    def close(self, file: Handle) -> None:
        """See Disk."""
        del self._handles[file]

    def sync_folder(self, folder: str = "") -> None:
        """See Disk."""
        self._call("sync_folder", folder)
        if self.lies:
            return
        self._durable[folder] = dict(self._names(folder))
        if not folder:
            self._durable_folders = set(self._folders)

    def remove(self, path: str) -> None:
        """See Disk."""
        self._call("remove", path)
        folder, _, name = path.rpartition("/")
        self._names(folder).pop(name, None)

    def remove_folder(self, folder: str) -> None:
        """See Disk."""
        self._call("remove_folder", folder)
        if self._folders.get(folder):
            raise _error(errno.ENOTEMPTY)
        self._folders.pop(folder, None)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See Disk."""
        self._call("read", path)
        folder, _, name = path.rpartition("/")
        if name not in self._names(folder):
            raise _error(errno.ENOENT)
        return bytes(self._names(folder)[name].content[offset : offset + length])

    def _call(self, call: str, path: str) -> None:
        number = self.fault(call, path)
        if number:
            raise _error(number)

    def _names(self, folder: str) -> dict[str, FakeFile]:
        if folder not in self._folders:
            raise _error(errno.ENOENT)
        return self._folders[folder]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))  # of the subclass that belongs to the number
