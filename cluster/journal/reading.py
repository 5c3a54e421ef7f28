"""Reading the journal when a server starts: every session of the folder, and what of its latents is there.

Theory of operation. Sessions are read one at a time, and every byte is checked once, so that nothing that is told to be
there turns out to be bad later unless the disk loses it meanwhile. Latents are told by where they are; their bytes are
read when they are asked for.

Nothing makes a session unreadable but the loss of its record. Bad bytes in the middle of a file are passed over, so
latents are missing there: those before the gap are no checkpoint for what lies behind it. A torn tail does not count;
whoever takes the session over cuts it off. Latents whose conditioning has no cue are cut off likewise, with all that
follows in their file: their cue was on its way to the disk when the server ended, so nobody was told of it, and the
next cue will have the same version.

Reading changes nothing but this: a session that has ended, or never got its record, is removed. What the journal did
not write, or another version of it wrote, is left alone and named.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster.journal.disk import Disk
from cluster.journal.facts import SessionRecord, cue_from_json, record_from_json
from cluster.journal.files import PROBE, TRUTH, is_session_file, is_session_folder, remove_session
from cluster.journal.records import VERSIONS, BadBytes, GoodRecord, Head, RecordKind, scan
from longtake.core.adoption import PlacedCue, runs_of
from longtake.core.errors import InvalidField

_LONGEST_JSON_BYTES = 4 << 20
"""No record or cue is longer."""
_STRANGE = "it is not the journal's"

_log = logging.getLogger("longtake.journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes that were lost inside a file, with records behind them."""

    file: str
    offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class StoredLatents:
    """Where the latents of one block lie, as they enter one step."""

    path: str
    record: GoodRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session as it is on disk."""

    folder: str
    record: SessionRecord
    cues: tuple[PlacedCue, ...]
    """In the order in which they were accepted; of two for one block the later counts."""
    latents: Mapping[tuple[int, int], StoredLatents]
    """By block and the step that they enter."""
    acknowledged: int | None
    """The block of the last segment that is known to be consumed."""
    damages: tuple[Damage, ...]
    sizes_bytes: Mapping[str, int]
    """Of its files, by name, without what is to be cut off."""
    loads: tuple[tuple[int, int], ...] = ()
    """From which blocks on which load held, in ascending order."""
    loads_known_from: int = 0
    """The loads of blocks before this one are not known: a record is lost."""

    def runs(self, step: int) -> tuple[range, ...]:
        """Which blocks' latents entering `step` are there, as ranges without a gap, in order."""
        return tuple(range(*run) for run in runs_of(block for block, entered in self.latents if entered == step))

    def tops(self) -> dict[str, dict[int, int]]:
        """For each file of latents, the highest block for each step."""
        tops: dict[str, dict[int, int]] = {}
        for (block, step), stored in self.latents.items():
            of_file = tops.setdefault(stored.path.rpartition("/")[2], {})
            of_file[step] = max(block, of_file.get(step, 0))
        return tops

    def version(self, block: int, step: int) -> int:
        """The version of the conditioning that latents which are there were made with."""
        return self.latents[block, step].record.head.version

    def payload(self, disk: Disk, block: int, step: int) -> bytes | None:
        """The latents' bytes; None if they are not there, or not any more as they were written."""
        stored = self.latents.get((block, step))
        if stored is None:
            return None
        try:
            data = disk.read(stored.path, stored.record.offset, stored.record.length_bytes)
        except OSError as error:
            _log.warning("journal: %s cannot be read: %s", stored.path, error.strerror)
            return None
        return data if stored.record.holds(data) else None


class JournalFolder:
    """The sessions of a folder as they were when this was made; those that begin later are none of its business."""

    def __init__(self, disk: Disk) -> None:
        """OSError if the folder cannot be read."""
        self._disk = disk
        listing = disk.list_folder()
        self._folders = sorted(filter(is_session_folder, listing.folders))
        self.left_alone: dict[str, str] = {}
        """Names of what is left where it is, and why. It grows while sessions are read."""
        strangers = listing.files.keys() | listing.folders | listing.others
        for name in sorted(strangers - {PROBE, *self._folders}):
            self._leave(name, _STRANGE)

    def sessions(self) -> Iterator[StoredSession]:
        """Each session that has not ended, read when it is asked for."""
        for folder in self._folders:
            try:
                session = self._session(folder)
            except OSError as error:
                self._leave(folder, f"the disk fails: {error.strerror}")
            except InvalidField as error:
                self._leave(folder, str(error))
            else:
                if session is not None:
                    yield session

    def _leave(self, name: str, why: str) -> None:
        self.left_alone[name] = why
        _log.warning("journal: %r is left alone: %s", name, why)

    def _session(self, folder: str) -> StoredSession | None:
        listing = self._disk.list_folder(folder)
        sizes = {name: size for name, size in listing.files.items() if is_session_file(name)}
        strangers = listing.files.keys() | listing.folders | listing.others
        for name in sorted(strangers - sizes.keys()):
            self._leave(f"{folder}/{name}", _STRANGE)
        reading = _Reading(self._disk, folder, sizes)
        if TRUTH in sizes:
            reading.truth()
        if reading.has_ended or reading.record is None:
            _log.info("journal: %s is removed: it %s", folder, "ended" if reading.has_ended else "has no record")
            remove_session(self._disk, folder)
            return None
        for name in sorted(sizes.keys() - {TRUTH}):
            reading.latents_file(name)
        return reading.done(reading.record)


class _Reading:
    """One session, as far as it is read."""

    def __init__(self, disk: Disk, folder: str, sizes: dict[str, int]) -> None:
        self._disk = disk
        self._folder = folder
        self._sizes = sizes
        self.record: SessionRecord | None = None
        self.has_ended = False
        self._cues: list[PlacedCue] = []
        self._loads: list[tuple[int, int]] = []
        self._loads_known_from = 0
        self._latents: dict[tuple[int, int], StoredLatents] = {}
        self._acknowledged: int | None = None
        self._damages: list[Damage] = []

    def truth(self) -> None:
        """Read record, cues and what was given; InvalidField if they are not of this version."""
        for found in self._records(TRUTH):
            match found.head.kind:
                case RecordKind.RECORD:
                    self.record = record_from_json(self._json(found))
                case RecordKind.CUE:
                    self._cues.append(cue_from_json(self._json(found)))
                case RecordKind.LATENT:
                    key = (found.head.block, found.head.step)
                    self._latents[key] = StoredLatents(f"{self._folder}/{TRUTH}", found)
                case RecordKind.STEPS:
                    self._take_load(found.head)
                case RecordKind.END:
                    self.has_ended = True

    def _take_load(self, head: Head) -> None:
        """A change of load; if it does not follow on the one before, what held between them is lost."""
        newest = self._loads[-1][0] if self._loads else -1
        if head.block <= newest:
            return  # appended twice, because nobody could say whether the first had come to the disk
        if head.version != (newest + 1) % VERSIONS:
            self._loads_known_from = head.block
            self._loads.clear()
        self._loads.append((head.block, head.step))

    def _json(self, found: GoodRecord) -> bytes:
        if found.length_bytes > _LONGEST_JSON_BYTES:
            raise InvalidField(TRUTH, found.length_bytes, f"at most {_LONGEST_JSON_BYTES} bytes in one record")
        return self._disk.read(f"{self._folder}/{TRUTH}", found.offset, found.length_bytes)

    def latents_file(self, name: str) -> None:
        """Read one file of latents; from where the disk fails on, nothing of it is there."""
        path = f"{self._folder}/{name}"
        try:
            for found in self._records(name):
                if found.head.kind is RecordKind.ACK:
                    self._acknowledged = max(found.head.block, self._acknowledged or 0)
                elif found.head.kind is RecordKind.LATENT:
                    if not self._is_conditioned(found.head):
                        self._cut(name, found.begin, "a cue is not on disk")
                        break
                    self._latents[found.head.block, found.head.step] = StoredLatents(path, found)
        except OSError as error:
            _log.warning("journal: %s cannot be read: %s", path, error.strerror)
            self._damages.append(Damage(file=name, offset=0, length_bytes=self._sizes[name]))

    def done(self, record: SessionRecord) -> StoredSession:
        """What was read."""
        return StoredSession(
            folder=self._folder,
            record=record,
            cues=tuple(self._cues),
            latents=self._latents,
            acknowledged=self._acknowledged,
            damages=tuple(self._damages),
            sizes_bytes=self._sizes,
            loads=tuple(self._loads),
            loads_known_from=self._loads_known_from,
        )

    def _records(self, name: str) -> Iterator[GoodRecord]:
        """The good records of a file; what else is in it is noted."""
        path, size = f"{self._folder}/{name}", self._sizes[name]
        for found in scan(functools.partial(self._disk.read, path), size):
            match found:
                case GoodRecord():
                    yield found
                case BadBytes() if found.end == size:
                    self._cut(name, found.offset, "its end is torn")
                case BadBytes():
                    _log.warning("journal: %s is damaged from byte %d to %d", path, found.offset, found.end)
                    self._damages.append(Damage(file=name, offset=found.offset, length_bytes=found.end - found.offset))

    def _cut(self, name: str, offset: int, why: str) -> None:
        _log.info("journal: %s/%s is good up to byte %d: %s", self._folder, name, offset, why)
        self._sizes[name] = offset

    def _is_conditioned(self, head: Head) -> bool:
        """Whether it is known what latents of this version were conditioned on."""
        return head.version == 0 or any(cue.version == head.version for cue in self._cues)
