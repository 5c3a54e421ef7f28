"""The journal's writer: what is durable when, and what happens while the disk is full, read-only or fails.

Theory of operation. The engine appends and goes on. `step` does what there is to do, without waiting for more, so a
thread loops over it (cluster.journal.thread) and a simulation calls it by hand.

    record, cue, given latents
                      synced before their number is reached: until then nobody is told of them
    latents           written in groups, synced every 2 s: what a crash loses of them can be made again
    acknowledgements  written with that sync
    floors            files in which nothing is wanted are removed
    end               synced, then the session's files are removed

When writing fails the disk is in trouble, and nothing is written until it has recovered. Records and cues that were on
their way have failed: their numbers are told, and what is left of them in a file is cut off before anything else is
appended to it, so that what was refused does not come back with a restart. New ones are refused with Unavailable.
Latents are dropped, from disk only: streams go on. Once a second files are repaired and a piece of a mebibyte is
written and synced for a trial; when that works, the trouble is over. Removals are tried all the time, because they make
room.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.journal.disk import Disk
from cluster.journal.files import PROBE, SessionFiles, folder_of
from cluster.journal.queue import LIMIT_BYTES, Waiting, WriteQueue
from cluster.journal.reading import StoredSession
from cluster.journal.records import VERSIONS, Head, RecordKind
from cluster.journal.writes import (
    Durable,
    TakeOver,
    Write,
    WriteCue,
    WriteEnd,
    WriteGiven,
    WriteLatents,
    WriteRecord,
    WriteSteps,
)
from longtake.core.work import SessionId

SYNC_S = 2.0
"""Latents are durable after so long."""
RETRY_S = 1.0
"""So often a disk in trouble is tried again."""
GROUP_BYTES = 8 << 20
"""So many bytes of latents are written before records and cues are looked for again."""
TRIAL_BYTES = 1 << 20
"""So much is written to see whether a disk has recovered: more than most latents."""

_log = logging.getLogger("longtake.journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far the writer is."""

    number: int
    """Records and cues with numbers up to this one are durable, except those that have failed."""
    failed: tuple[int, ...] = ()
    """Numbers, not told before, of records and cues that are not on disk and will not be."""
    reason: str = ""
    """Why they failed."""
    latents: int = 0
    """Latents with numbers up to this one are durable, or lost to disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterFigures:
    """What the writer has done, and what waits."""

    trouble: str
    """What is wrong with the disk; empty if nothing."""
    lag_s: float
    """How long the oldest write that is not done has waited."""
    waiting_bytes: int
    written_bytes: int
    """Since the start."""
    size_bytes: int
    """What all sessions take on disk."""
    dropped_latents: int
    """How many latents are not on disk although they were wanted there."""
    failures: int
    """How often a system call has failed."""


class JournalWriter:
    """Writes what is appended; `append` and what can be asked are for any thread, the rest is for the writer's."""

    def __init__(
        self, disk: Disk, *, now_s: Callable[[], float] = time.monotonic, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """`limit_bytes` of latents may wait."""
        self._disk = disk
        self._now_s = now_s
        self._queue = WriteQueue(now_s, limit_bytes)
        self._sessions: dict[SessionId, SessionFiles] = {}
        self._doomed: dict[SessionId, SessionFiles] = {}
        """Sessions whose files are still to be removed."""
        self._spacious: set[SessionId] = set()
        """Sessions that may have files in which nothing is wanted."""
        self._acknowledged: dict[SessionId, int] = {}
        self._unsynced: Counter[SessionId] = Counter()
        """How many latents of each session are written and not synced."""
        self._trouble = ""
        self._failed: list[int] = []
        self._sync_at_s = self._retry_at_s = self._remove_at_s = now_s()
        self._written_bytes = self._size_bytes = self._lost_latents = self._failures = 0
        self._latents_written = self._latents_synced = 0

    # --- any thread -------------------------------------------------------------------------------------------------

    def append(self, write: Write) -> int:
        """Have something written; returns its number, which is higher than all before. Never waits for the disk.

        Latents are dropped where they do not fit, or the disk is in trouble. Unavailable if a record or a cue cannot be
        made durable now, InvalidField if it cannot be written at all.
        """
        return self._queue.put(write)

    def close(self) -> None:
        """Nothing is appended any more; what waits is still to be written, by `finish`."""
        self._queue.close()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is appended any more."""
        return self._queue.is_closed

    @property
    def is_healthy(self) -> bool:
        """Whether records and cues are taken."""
        return not self._queue.refuses

    @property
    def figures(self) -> WriterFigures:
        """How it goes."""
        return WriterFigures(
            trouble=self._queue.refuses,
            lag_s=self._queue.lag_s,
            waiting_bytes=self._queue.waiting_bytes,
            written_bytes=self._written_bytes,
            size_bytes=self._size_bytes,
            dropped_latents=self._queue.dropped_latents + self._lost_latents,
            failures=self._failures,
        )

    # --- the writer's thread ----------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait until there is something to do."""
        self._queue.wait(min(SYNC_S, RETRY_S))

    def step(self) -> Reached:
        """Write what waits, or a group of it; sync, remove and recover what is due. Says how far it has come."""
        taken = self._queue.take(GROUP_BYTES)
        if self._trouble and self._now_s() >= self._retry_at_s:
            self._recover()
        facts: dict[SessionId, list[Waiting]] = {}
        for fact in taken.facts:
            facts.setdefault(fact.write.session, []).append(fact)
        for session, each in facts.items():
            self._write_facts(session, each)
        self._write_latents(taken.latents)
        self._latents_written = taken.latents_number
        self._acknowledged.update(taken.acknowledged)
        for trim in taken.trims:
            if trim.session in self._sessions:
                self._sessions[trim.session].raise_floors(trim.floors, trim.held)
                self._spacious.add(trim.session)
        if not self._trouble and self._now_s() >= self._sync_at_s:
            self._sync()
        if self._now_s() >= self._remove_at_s:
            self._remove()
        self._queue.done()
        failed, self._failed = tuple(self._failed), []
        reason = self._trouble or "the session has no record on disk"
        reason = reason if failed else ""
        return Reached(number=taken.number, failed=failed, reason=reason, latents=self._latents_synced)

    def finish(self) -> Iterator[Reached]:
        """Write and sync what waits, step by step, and give up all files."""
        while not self._queue.is_empty:
            yield self.step()
        self._sync_at_s = self._now_s()
        yield self.step()
        for files in self._sessions.values():
            files.close()

    def abandon(self, why: str) -> None:
        """Refuse everything from now on: nobody will write it."""
        self._queue.refuse(why)

    # --- facts ------------------------------------------------------------------------------------------------------

    def _write_facts(self, session: SessionId, facts: list[Waiting]) -> None:
        """Make durable what waits of one session; if it cannot be, all of it has failed."""
        numbers = []
        for fact in facts:
            match fact.write:
                case TakeOver(stored=stored):
                    self._take_over(stored)
                case WriteRecord() | WriteCue() | WriteGiven() | WriteSteps():
                    numbers.append(fact.number)
                    self._add(fact.write, fact.payload)
        if numbers and not self._save(session):
            self._failed += numbers
        if any(isinstance(fact.write, WriteEnd) for fact in facts):
            self._end(session)

    def _add(self, write: Durable, payload: bytes) -> None:
        files = self._sessions.get(write.session)
        match write:
            case WriteRecord(record=record):
                if files is None and write.session not in self._doomed:
                    files = self._sessions[write.session] = SessionFiles(self._disk, folder_of(write.session))
                if files is not None:
                    files.sink_blocks = record.sink_blocks
                    files.add_truth(Head(kind=RecordKind.RECORD), payload)
            case WriteCue(cue=cue):
                if files is not None:
                    files.add_truth(Head(kind=RecordKind.CUE, block=cue.block, version=cue.version), payload)
            case WriteGiven(ref=ref):
                if files is not None:
                    files.add_truth(Head(kind=RecordKind.LATENT, block=ref.block, step=ref.step), payload)
            case WriteSteps(settled=settled):
                if files is not None:
                    head = Head(
                        kind=RecordKind.STEPS, block=settled.block, step=settled.load, version=settled.after % VERSIONS
                    )
                    files.add_truth(head)

    def _save(self, session: SessionId) -> bool:
        """Make durable what was added of record and cues; returns whether it is."""
        files = self._sessions.get(session)
        if files is None:
            return False
        if not self._trouble:
            try:
                self._written_bytes += files.save_truth()
            except OSError as error:
                self._fail(error)
            else:
                return True
        files.drop()
        if not files.is_durable:
            self._doom(session)
        return False

    def _take_over(self, stored: StoredSession) -> None:
        files = self._sessions[stored.record.session] = SessionFiles(self._disk, stored.folder)
        files.sink_blocks = stored.record.sink_blocks
        tops = stored.tops()
        for name, size_bytes in stored.sizes_bytes.items():
            files.take_over(name, size_bytes, tops.get(name, {}))
        if not self._trouble:  # else it is repaired with all others
            try:
                self._disk.sync_folder()
                files.repair()
            except OSError as error:
                self._fail(error)

    def _end(self, session: SessionId) -> None:
        files = self._sessions.get(session)
        if files is not None:
            files.add_truth(Head(kind=RecordKind.END))
            self._save(session)
            self._doom(session)

    def _doom(self, session: SessionId) -> None:
        """Have everything of a session removed."""
        files = self._sessions.pop(session, None)
        if files is not None:
            self._doomed[session] = files
        self._acknowledged.pop(session, None)
        self._unsynced.pop(session, None)
        self._spacious.discard(session)

    # --- latents ----------------------------------------------------------------------------------------------------

    def _write_latents(self, latents: tuple[Waiting, ...]) -> None:
        added: Counter[SessionId] = Counter()
        for each in latents:
            match each.write:
                case WriteLatents(ref=ref, version=version) if ref.session in self._sessions:
                    head = Head(kind=RecordKind.LATENT, block=ref.block, step=ref.step, version=version)
                    added[ref.session] += self._sessions[ref.session].add_latents(head, each.payload)
        for session, count in added.items():
            if count and not self._flush(session):
                self._lost_latents += count
            elif count:
                self._unsynced[session] += count

    def _flush(self, session: SessionId) -> bool:
        """Write what was added of latents; returns whether it is written."""
        files = self._sessions[session]
        if not self._trouble:
            try:
                self._written_bytes += files.flush_latents()
            except OSError as error:
                self._fail(error)
            else:
                return True
        files.drop()
        return False

    def _sync(self) -> None:
        """Make durable what was written of latents, and what was acknowledged, until more urgent facts come."""
        acknowledged, self._acknowledged = self._acknowledged, {}
        for session, block in acknowledged.items():
            if session in self._sessions:
                self._sessions[session].add_ack(block)
                if self._flush(session):
                    self._unsynced[session] += 0
        for session, count in list(self._unsynced.items()):
            if self._trouble:
                return
            try:
                self._sessions[session].sync_latents()
            except OSError as error:
                self._fail(error)
                self._lost_latents += count
            del self._unsynced[session]
            if self._queue.has_facts:
                return
        self._latents_synced = self._latents_written
        self._sync_at_s = self._now_s() + SYNC_S
        self._size_bytes = sum(files.size_bytes for files in self._sessions.values())

    # --- removal, trouble and recovery ------------------------------------------------------------------------------

    def _remove(self) -> None:
        """Remove what is not wanted; what cannot be removed is tried again later."""
        try:
            for session in list(self._spacious):
                self._sessions[session].trim()
                self._spacious.remove(session)
            for session in list(self._doomed):
                self._doomed[session].remove()
                del self._doomed[session]
        except OSError as error:
            self._failures += 1
            self._remove_at_s = self._now_s() + RETRY_S
            _log.warning("journal: files that are not wanted cannot be removed: %s", error.strerror)

    def _fail(self, error: OSError) -> None:
        self._failures += 1
        self._retry_at_s = self._now_s() + RETRY_S
        why = error.strerror or str(error)
        if why != self._trouble:
            _log.error("journal: %s; new streams and cues are refused, open streams go on", why)
        self._trouble = why
        self._queue.refuse(why)

    def _recover(self) -> None:
        """See whether the disk can be written again; whatever failures left in files is cut off then."""
        try:
            for files in self._sessions.values():
                files.repair()
            self._try_disk()
        except OSError as error:
            self._fail(error)
        else:
            _log.warning("journal: it can be written again")
            self._trouble = ""
            self._queue.refuse("")

    def _try_disk(self) -> None:
        try:
            file = self._disk.open(PROBE)
            try:
                self._disk.append(file, [bytes(TRIAL_BYTES)])
                self._disk.sync(file)
            finally:
                self._disk.close(file)
        finally:
            self._disk.remove(PROBE)
