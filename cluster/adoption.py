"""Taking over, when a server starts, the sessions that the one before has left on disk."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from cluster.access.owners import Owners
from cluster.cell.durability import Durability
from cluster.cell.engine import Engine
from cluster.cell.ownership import Ownership
from cluster.journal.disk import Disk
from cluster.journal.facts import ForkRecord, SessionRecord
from cluster.journal.reading import StoredSession
from cluster.journal.thread import DiskJournal
from cluster.journal.writer import JournalWriter
from cluster.journal.writes import TakeOver
from longtake.core.adoption import MadeBy, runs_of
from longtake.core.errors import InternalFault
from longtake.core.events import Adopt, Open
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.session import Session
from longtake.core.work import Fork

_log = logging.getLogger("longtake.journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server serves: a session that was made by anything else cannot go on with it."""

    model_digest: str
    recipe_digest: str

    def objection(self, record: SessionRecord) -> str:
        """Why a session cannot go on here; empty if it can."""
        for name, theirs, ours in (
            ("model", record.model_digest, self.model_digest),
            ("recipe", record.recipe_digest, self.recipe_digest),
        ):
            if theirs != ours:
                return f"it was made by the {name} {theirs}, this server has {ours}"
        return ""

    def record(self, session: Session, owned: Ownership) -> SessionRecord:
        """What must outlive the server of a session."""
        request, kin = session.request, session.kin
        return SessionRecord(
            session=session.id,
            tenant=owned.tenant,
            tokens_sha256=tuple(token.hex() for token in owned.hashes),
            model_digest=self.model_digest,
            recipe=request.recipe,
            recipe_digest=self.recipe_digest,
            denoise_numerics=session.classes.lanes or "",
            decode_numerics=session.classes.decoder or "",
            seed=request.seed,
            prompt=request.prompt,
            settings=request.settings,
            pace=request.pace,
            window=request.window,
            picture_limit=request.picture_limit,
            header=session.header or b"",
            media_type=session.media_type,
            seeds=kin.seeds,
            sink_blocks=session.graph.sink_blocks,
            fork=None if request.fork is None else ForkRecord(parent=request.fork.session, block=kin.first_block),
        )


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

    def adopt(self, stored: StoredSession, latents: dict[tuple[int, int], bytes]) -> None:
        """Have the engine take over a session whose latents are these."""
        session = stored.record.session
        self._engine.journal.adopt(session, latents, {key: stored.version(*key) for key in latents})
        self._owners.restore(session, ownership_of(stored.record))
        self._writer.append(TakeOver(stored=stored))
        self._engine.submit(adopt_event(stored, frozenset(latents), self._engine))


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
            why = self._identity.objection(stored.record)
            if why:
                _log.warning("session %s stays on disk: %s", stored.record.session, why)
                continue
            self._keeper.adopt(stored, await asyncio.to_thread(self._keeper.latents, stored))
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


def adopt_event(stored: StoredSession, there: frozenset[tuple[int, int]], engine: Engine) -> Adopt:
    """What the core is told of a stored session whose latents are `there`, by block and step."""
    record = stored.record
    graph: Graph = engine.scheduler.cell.graphs.get(record.recipe) or engine.scheduler.cell.graphs[""]
    return Adopt(
        now_s=engine.now_s(),
        request=Open(
            now_s=engine.now_s(),
            session=record.session,
            prompt=record.prompt,
            seed=record.seed,
            pace=record.pace,
            window=record.window,
            picture_limit=record.picture_limit,
            settings=record.settings,
            recipe=record.recipe,
            fork=None if record.fork is None else Fork(session=record.fork.parent, block=record.fork.block),
        ),
        made_by=MadeBy(lanes=record.denoise_numerics, decoder=record.decode_numerics),
        header=record.header,
        media_type=record.media_type,
        cues=stored.cues,
        latents=tuple(
            runs_of(block for block, entered in there if entered == step) for step in range(1, graph.step_count + 1)
        ),
        acknowledged=-1 if stored.acknowledged is None else stored.acknowledged,
        first_block=0 if record.fork is None else record.fork.block,
        seeds=record.seeds,
    )
