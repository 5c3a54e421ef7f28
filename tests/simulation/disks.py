"""The disk of a simulated server: it outlives processes, and whoever is killed by it does nothing more."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from cluster.journal.disk import Handle, Listing
from cluster.journal.facts import SessionRecord, cue_from_json, record_from_json
from cluster.journal.files import TRUTH, folder_of
from cluster.journal.records import GoodRecord, RecordKind, scan
from longtake.core.adoption import PlacedCue
from longtake.core.work import SessionId
from tests.cluster.journal.fake_disk import FakeDisk, works
from tests.simulation.faults import Job, Phase


class ServerDied(BaseException):
    """The process of the server has ended; nothing of it may go on."""


class DiskTrouble(Enum):
    """What is wrong with a disk for a while."""

    FULL = "full"
    BROKEN = "fails"
    """Nothing can be appended, nor synced."""
    READ_ONLY = "read-only"
    LIES = "lies"
    """What is synced is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A time in which a disk is in trouble."""

    begins_s: float
    lasts_s: float
    trouble: DiskTrouble


_CHANGES = {"append", "sync", "truncate", "make_folder", "remove", "remove_folder", "open"}


def _fails(number: int, calls: set[str], call: str, _path: str) -> int:
    return number if call in calls else 0


class SimulatedDisk(FakeDisk):
    """A disk, and what it has promised."""

    def __init__(self) -> None:
        super().__init__()
        self.has_lied = False
        """Whether it ever said that something was durable that was not."""

    def begin(self, trouble: DiskTrouble) -> None:
        """Be in trouble until `heal`."""
        match trouble:
            case DiskTrouble.FULL:
                self.room_bytes = self.size_bytes + 40
            case DiskTrouble.BROKEN:
                self.fault = partial(_fails, errno.EIO, {"append", "sync", "truncate"})
            case DiskTrouble.READ_ONLY:
                self.fault = partial(_fails, errno.EROFS, _CHANGES)
            case DiskTrouble.LIES:
                self.lies = self.has_lied = True

    def heal(self) -> None:
        """Be a good disk."""
        self.fault, self.lies, self.room_bytes = works, False, None

    def end_process(self) -> None:
        """The process that used it has ended, and the machine goes on."""
        self._handles.clear()

    def promised(self, session: SessionId) -> Promised:
        """What a server finds of a session after a loss of power, as far as the disk has not lied."""
        folder = folder_of(session)
        name = f"{folder}/{TRUTH}"
        if self.has_lied:
            content = bytes(self.files[name].content) if name in self.files else b""
        else:
            is_named = folder in self._durable_folders and TRUTH in self._durable.get(folder, {})
            content = self._durable[folder][TRUTH].durable if is_named else b""
        return _promised(content)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a file nor a folder."""
        return not self.files and set(self._folders) == {""}


@dataclass(frozen=True, slots=True)
class Promised:
    """The truth of a session as a disk has it."""

    record: SessionRecord | None
    cues: tuple[PlacedCue, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """The hashes of the tokens that resume it."""
        return () if self.record is None else self.record.tokens_sha256

    def cue_at(self, block: int) -> PlacedCue | None:
        """The cue that takes effect at this block."""
        return next((cue for cue in reversed(self.cues) if cue.block == block), None)


def _promised(content: bytes) -> Promised:
    record: SessionRecord | None = None
    cues: list[PlacedCue] = []
    for found in scan(lambda offset, length: content[offset : offset + length], len(content)):
        if isinstance(found, GoodRecord):
            payload = content[found.offset : found.offset + found.length_bytes]
            match found.head.kind:
                case RecordKind.RECORD:
                    record = record_from_json(payload)
                case RecordKind.CUE:
                    cues.append(cue_from_json(payload))
    return Promised(record, tuple(cues))


class DiskOfProcess:
    """The disk as one process sees it (cluster.journal.disk.Disk): each change has a moment before and one after."""

    def __init__(self, disk: SimulatedDisk, is_up: Callable[[], bool], moment: Callable[[Job, Phase], None]) -> None:
        self._disk = disk
        self._is_up = is_up
        self._moment = moment
        self._paths: dict[Handle, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        """How often each was done of each session."""

    def _change(self, what: str, path: str, act: Callable[[], None]) -> None:
        folder = path.partition("/")[0]
        job = None
        if folder.startswith("session-"):
            job = Job(SessionId(folder.removeprefix("session-")), what, 0, self._counts[folder, what])
            self._counts[folder, what] += 1
        self._pass(job, Phase.BEFORE)
        act()
        self._pass(job, Phase.AFTER)

    def _pass(self, job: Job | None, phase: Phase) -> None:
        self._live()
        if job is not None:
            self._moment(job, phase)
            self._live()

    def _live(self) -> None:
        if not self._is_up():
            raise ServerDied

    # --- system calls -----------------------------------------------------------------------------------------------

    def list_folder(self, folder: str = "") -> Listing:
        """See Disk."""
        self._live()
        return self._disk.list_folder(folder)

    def make_folder(self, folder: str) -> None:
        """See Disk."""
        self._change("name", folder, lambda: self._disk.make_folder(folder))

    def open(self, path: str) -> Handle:
        """See Disk."""
        self._live()
        handle = self._disk.open(path)
        self._paths[handle] = path
        return handle

    def append(self, file: Handle, parts: Sequence[bytes]) -> None:
        """See Disk."""
        path = self._paths[file]
        self._change(f"write {_kind(path)}", path, lambda: self._disk.append(file, parts))

    def sync(self, file: Handle) -> None:
        """See Disk."""
        path = self._paths[file]
        self._change(f"sync {_kind(path)}", path, lambda: self._disk.sync(file))

    def truncate(self, file: Handle, size_bytes: int) -> None:
        """See Disk."""
        self._change("cut", self._paths[file], lambda: self._disk.truncate(file, size_bytes))

    def close(self, file: Handle) -> None:
        """See Disk."""
        self._live()
        self._disk.close(file)

    def sync_folder(self, folder: str = "") -> None:
        """See Disk."""
        self._change("name", folder, lambda: self._disk.sync_folder(folder))

    def remove(self, path: str) -> None:
        """See Disk."""
        self._change("remove", path, lambda: self._disk.remove(path))

    def remove_folder(self, folder: str) -> None:
        """See Disk."""
        self._change("remove", folder, lambda: self._disk.remove_folder(folder))

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See Disk."""
        self._live()
        return self._disk.read(path, offset, length)


def _kind(path: str) -> str:
    return "truth" if path.endswith(TRUTH) else "latents"
