"""The files of one session: names, appending, cutting back what a failing disk has left undone, and removal.

Theory of operation. A session has a folder. In it `truth` holds its record and its cues, and stays. Latents lie in a
file for each 32 blocks, which is removed whole when no block of it is wanted any more, nor held because a shot begins
with it; nothing is ever moved or rewritten. Latents of sinks are wanted for ever, so they have a file of their own,
`sinks`. Acknowledgements stand in the newest file of latents: what they are good for ends with the latents about them.

What is added to a file is buffered until it is flushed. When a flush fails, a part of it may be in the file; when a
sync fails, the system may have lost any bytes since the last one, and a second sync would say nothing of it. So the
file is cut back to what is known to be in it before anything else is appended.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cluster.journal.disk import Disk, Handle
from cluster.journal.records import Head, RecordKind, framed
from longtake.core.work import SessionId

BLOCKS_PER_FILE = 32
TRUTH, SINKS = "truth", "sinks"
PROBE = "probe"
"""A file beside the folders, there only while a disk in trouble is tried."""
_LATENTS_PREFIX = "latents-"
_LATENTS = re.compile(_LATENTS_PREFIX + r"(\d{12})")
_READABLE = re.compile(r"[0-9a-z][-0-9a-z]{0,63}(\.[0-9a-f]{1,64})?")
_FOLDER = re.compile(r"session-[-0-9a-z]{1,64}(\.[0-9a-f]{1,64})?|hashed-[0-9a-f]{64}")


def folder_of(session: SessionId) -> str:
    """The session's folder: named by its id if that can be read and is safe on any file system, else by a hash."""
    if _READABLE.fullmatch(session):
        return f"session-{session}"
    return f"hashed-{hashlib.sha256(session.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_session_folder(name: str) -> bool:
    """Whether the journal could have made a folder of this name."""
    return _FOLDER.fullmatch(name) is not None


def is_session_file(name: str) -> bool:
    """Whether the journal could have made a file of this name in a session's folder."""
    return name in (TRUTH, SINKS) or _LATENTS.fullmatch(name) is not None


def file_of(block: int, sink_blocks: int) -> str:
    """The file that holds the latents of a block."""
    return SINKS if block < sink_blocks else f"{_LATENTS_PREFIX}{block - block % BLOCKS_PER_FILE:012d}"


def remove_session(disk: Disk, folder: str) -> None:
    """Remove a session's files and its folder; what is not the journal's stays, and the folder with it.

    The truth goes first: without it the rest is nothing, whatever a crash leaves of it.
    """
    with contextlib.suppress(FileNotFoundError):
        names = [name for name in disk.list_folder(folder).files if is_session_file(name)]
        if TRUTH in names:
            disk.remove(f"{folder}/{TRUTH}")
            disk.sync_folder(folder)
        for name in names:
            disk.remove(f"{folder}/{name}")
        try:
            disk.remove_folder(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


class AppendedFile:
    """A file that only grows, and what is known of it."""

    def __init__(self, disk: Disk, path: str, size_bytes: int = 0, *, is_new: bool = True) -> None:
        self._disk = disk
        self._path = path
        self._is_named = not is_new
        """Whether it is durable that there is a file of this name."""
        self._handle: Handle | None = None
        self._waiting: list[bytes] = []
        self._durable_bytes = size_bytes
        self.size_bytes = size_bytes
        """What is right in it; behind that there may be more."""
        self.is_torn = False
        """Whether there may be more behind `size_bytes`."""

    def add(self, parts: Iterable[bytes]) -> None:
        """Append these with the next flush."""
        self._waiting += parts

    def drop(self) -> None:
        """Forget what was added and not flushed."""
        self._waiting.clear()

    @property
    def is_dirty(self) -> bool:
        """Whether something in it is not durable."""
        return self.size_bytes > self._durable_bytes

    def flush(self) -> int:
        """Write what was added; returns the number of bytes. After an OSError it is not in the file, nor waits."""
        if not self._waiting:
            return 0
        parts, self._waiting = self._waiting, []
        self.repair()
        size = sum(map(len, parts))
        try:
            self._disk.append(self._open(), parts)
        except OSError:
            self.is_torn = True
            raise
        self.size_bytes += size
        return size

    def sync(self) -> None:
        """Make durable what was flushed. After an OSError what was not durable before is not in the file."""
        if not self.is_dirty:
            return
        try:
            self._disk.sync(self._open())
            self._name()
        except OSError:
            self._cut_back()
            raise
        self._durable_bytes = self.size_bytes
        self.close()

    def repair(self) -> None:
        """Cut off what a failure may have left behind the good bytes; nothing if there is nothing."""
        if not self.is_torn:
            return
        self._disk.truncate(self._open(), self.size_bytes)
        try:
            self._disk.sync(self._open())
        except OSError:
            self._cut_back()
            raise
        self._name()
        self._durable_bytes = self.size_bytes
        self.is_torn = False
        self.close()

    def close(self) -> None:
        """Give up the handle."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._disk.close(handle)

    def _open(self) -> Handle:
        if self._handle is None:
            self._handle = self._disk.open(self._path)
        return self._handle

    def _name(self) -> None:
        if not self._is_named:
            self._disk.sync_folder(self._path.rpartition("/")[0])
            self._is_named = True

    def _cut_back(self) -> None:
        self.size_bytes = self._durable_bytes
        self.is_torn = True


@dataclass(slots=True)
class _LatentsFile:
    file: AppendedFile
    tops: dict[int, int] = field(default_factory=dict)
    """For each step that latents in it enter, the highest block."""


class SessionFiles:
    """What the writer knows of a session's folder."""

    def __init__(self, disk: Disk, folder: str) -> None:
        """A session that has no folder yet."""
        self.folder = folder
        self.sink_blocks = 0
        self.is_durable = False
        """Whether a record of it is durable."""
        self._disk = disk
        self._truth = AppendedFile(disk, f"{folder}/{TRUTH}")
        self._latents: dict[str, _LatentsFile] = {}
        self._floors: dict[int, int] = {}
        self._held: tuple[tuple[int, int], ...] = ()

    def take_over(self, name: str, size_bytes: int, tops: dict[int, int]) -> None:
        """Go on with a file that was found in its folder; `tops` names the highest block for each step.

        Whoever wrote it may have been killed before its end was whole, or durable: its repair makes it so.
        """
        file = AppendedFile(self._disk, f"{self.folder}/{name}", size_bytes, is_new=name == TRUTH)
        file.is_torn = True
        if name == TRUTH:
            self._truth = file
            self.is_durable = True
        else:
            self._latents[name] = _LatentsFile(file, tops)

    # --- adding -----------------------------------------------------------------------------------------------------

    def add_truth(self, head: Head, payload: bytes = b"") -> None:
        """Buffer a record, a cue or the end."""
        self._truth.add(framed(head, payload))

    def add_latents(self, head: Head, payload: bytes) -> bool:
        """Buffer latents; returns whether they are wanted."""
        if self.sink_blocks <= head.block < self._floors.get(head.step, 0) and not self._holds(head.block, 1):
            return False
        name = file_of(head.block, self.sink_blocks)
        if name not in self._latents:
            self._latents[name] = _LatentsFile(AppendedFile(self._disk, f"{self.folder}/{name}"))
        latents = self._latents[name]
        latents.tops[head.step] = max(head.block, latents.tops.get(head.step, 0))
        latents.file.add(framed(head, payload))
        return True

    def add_ack(self, block: int) -> None:
        """Buffer an acknowledgement; it is not kept if there are no latents that it could be about."""
        newest = max(self._latents.keys() - {SINKS}, default=None)
        if newest is not None:
            self._latents[newest].file.add(framed(Head(kind=RecordKind.ACK, block=block)))

    # --- the disk ---------------------------------------------------------------------------------------------------

    def save_truth(self) -> int:
        """Make record and cues durable; returns the bytes written. After an OSError none of them is in the file."""
        if not self.is_durable:
            self._disk.make_folder(self.folder)
            self._disk.sync_folder()
        written = self._truth.flush()
        self._truth.sync()
        self.is_durable = True
        return written

    def flush_latents(self) -> int:
        """Write what was added of latents; returns the bytes. After an OSError only a part of it is in the files."""
        return sum(latents.file.flush() for latents in self._latents.values())

    def sync_latents(self) -> None:
        """Make durable what was flushed of latents."""
        for latents in self._latents.values():
            latents.file.sync()

    def drop(self) -> None:
        """Forget what was added and not flushed."""
        for file in self._files():
            file.drop()

    def repair(self) -> None:
        """Cut off what failures have left in the files, or what was found torn."""
        for file in self._files():
            file.repair()

    def raise_floors(self, floors: Iterable[int], held: tuple[tuple[int, int], ...] = ()) -> None:
        """From now on latents of blocks before these are not wanted where they enter step 1, 2, and so on.

        But for those that are held: ranges (first, end).
        """
        self._held = held
        for step, block in enumerate(floors, start=1):
            self._floors[step] = max(block, self._floors.get(step, 0))

    def trim(self) -> None:
        """Remove the files in which nothing is wanted."""
        spent = [name for name, latents in self._latents.items() if name != SINKS and self._is_spent(name, latents)]
        for name in spent:
            self._disk.remove(f"{self.folder}/{name}")
            self._latents.pop(name).file.close()

    def _holds(self, first: int, count: int) -> bool:
        """Whether one of so many blocks is held."""
        return any(start < first + count and first < end for start, end in self._held)

    def _is_spent(self, name: str, latents: _LatentsFile) -> bool:
        if self._holds(int(name.removeprefix(_LATENTS_PREFIX)), BLOCKS_PER_FILE):
            return False
        return all(top < self._floors.get(step, 0) for step, top in latents.tops.items())

    def remove(self) -> None:
        """Remove everything."""
        self.close()
        remove_session(self._disk, self.folder)

    def close(self) -> None:
        """Give up all handles."""
        for file in self._files():
            file.close()

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        return sum(file.size_bytes for file in self._files())

    def _files(self) -> Iterator[AppendedFile]:
        yield self._truth
        for latents in self._latents.values():
            yield latents.file
