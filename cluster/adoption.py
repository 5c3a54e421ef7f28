"""Taking over, when a server starts, the sessions that the one before has left on disk."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from cluster.access.owners import Owners
from cluster.cell.durability import Durability
from cluster.cell.engine import Engine
from cluster.cell.identity import Identity
from cluster.cell.ownership import Ownership
from cluster.cell.snapshot import Snapshot, brought
from cluster.journal.disk import Disk
from cluster.journal.facts import SessionRecord
from cluster.journal.reading import StoredSession
from cluster.journal.thread import DiskJournal
from cluster.journal.writer import JournalWriter
from cluster.journal.writes import TakeOver
from longtake.core.errors import InternalFault, InvalidField
from longtake.core.sessions.session import Session

_log = logging.getLogger("longtake.journal")


class Keeper:
    """Keeps the sessions of one engine on disk, and gives it those that were found there. On the engine's loop."""

    def __init__(self, disk: Disk, writer: JournalWriter, engine: Engine, owners: Owners, identity: Identity) -> None:
        self._disk = disk
        self._writer = writer
        self._engine = engine
        self._owners = owners
        self._identity = identity
        sessions = engine.scheduler.cell.sessions
        durability = Durability(writer, session=sessions.get, record=self._record)
        engine.keeping.durability = durability
        engine.keeping.is_adopting = True
        owners.changed = durability.changed

    def _record(self, session: Session) -> SessionRecord:
        owned = self._owners.of(session.id)
        if owned is None:
            raise InternalFault(f"nobody owns {session.id}")
        return self._identity.record(session, owned)

    def latents(self, stored: StoredSession) -> dict[tuple[int, int], bytes]:
        """The latents of a session that can be read, by block and step; on any thread."""
        payloads = ((key, stored.payload(self._disk, *key)) for key in stored.latents)
        return {key: data for key, data in payloads if data is not None}

    def adopt(self, stored: StoredSession, record: SessionRecord, latents: dict[tuple[int, int], bytes]) -> None:
        """Have the engine take over a session whose latents are these; `record` is its own by the names used here."""
        snapshot = Snapshot(
            record=record,
            cues=stored.cues,
            acknowledged=-1 if stored.acknowledged is None else stored.acknowledged,
            latents=latents,
            versions={key: stored.version(*key) for key in latents},
            loads=stored.loads,
            loads_known_from=stored.loads_known_from,
        )
        self._owners.restore(stored.record.session, ownership_of(stored.record))
        self._writer.append(TakeOver(stored=stored))
        self._engine.submit(brought(snapshot, self._engine))


class KeptSessions:
    """The sessions of one engine on disk: those of the server before, which it takes over, and its own."""

    def __init__(
        self, path: Path, engine: Engine, owners: Owners, identity: Identity, loop: asyncio.AbstractEventLoop
    ) -> None:
        """InvalidField about `journal.path` if the folder cannot be used, or another server uses it."""
        self._engine = engine
        self._identity = identity
        self._journal = DiskJournal(path, lambda reached: loop.call_soon_threadsafe(engine.written, reached))
        self._keeper = Keeper(self._journal.disk, self._journal.writer, engine, owners, identity)

    async def take_over(self) -> int:
        """Adopt every session that was found and can go on here; how many they are.

        Workers must have joined. What cannot go on here is left on disk, and named in the log.
        """
        count = 0
        sessions = self._journal.found.sessions()
        while (stored := await asyncio.to_thread(next, sessions, None)) is not None:
            try:
                record = self._identity.here(stored.record)
            except InvalidField as error:
                _log.warning("session %s stays on disk: %s", stored.record.session, error)
                continue
            self._keeper.adopt(stored, record, await asyncio.to_thread(self._keeper.latents, stored))
            count += 1
        self._engine.keeping.is_adopting = False
        if count:
            _log.info("%d streams of the server before wait for their clients", count)
        return count

    async def close(self) -> None:
        """Write what waits; another server may have the folder then."""
        await asyncio.to_thread(self._journal.close)


def ownership_of(record: SessionRecord) -> Ownership:
    """Whose a session is: of several tokens, the last was offered last."""
    hashes = [bytes.fromhex(text) for text in record.tokens_sha256]
    return Ownership(tenant=record.tenant, offered=hashes[-1], held=hashes[-2] if len(hashes) > 1 else None)
