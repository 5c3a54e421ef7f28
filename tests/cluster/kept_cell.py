"""A cell with a journal on disk, and clients of its engine that consume what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.access.audit import Audit
from cluster.access.identity import Access
from cluster.access.tenancy import Tenancy
from cluster.adoption import KeptSessions
from cluster.cell.engine import Engine
from cluster.cell.identity import Identity
from cluster.cell.journal import GivenPictures
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from cluster.config import AuthSection
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Closed, Refused
from longtake.core.events import Ack
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.work import SessionId
from tests.cluster.cell.world import STILL, open_event
from tests.workers.model_dir import model_info

PROMPT, OTHER = "a red ball resting in the fog", "a blue box swaying at night"
PICTURES = 5 + 8 * 19
BLOCKS = 20
IDENTITY = Identity(model_digest="m", recipe_digest="r")


@dataclass
class Client:
    """Consumes the segments of a session."""

    engine: Engine
    session: SessionId
    token: bytes
    outbox: Outbox = field(default_factory=Outbox)
    told: list[ClientMessage] = field(default_factory=list)
    segments: dict[int, bytes] = field(default_factory=dict)

    async def next(self, *, acknowledge: bool = True) -> ClientMessage:
        async with asyncio.timeout(120):
            self.told.append(await self.outbox.get())
        message = self.told[-1]
        if isinstance(message, SegmentOut):
            assert message.emit.block not in self.segments, "each once"
            self.segments[message.emit.block] = message.data
            if acknowledge:
                self.engine.submit(Ack(now_s=self.engine.now_s(), session=self.session, segment=message.emit.block))
        return message

    async def until(self, segments: int) -> None:
        while len(self.segments) < segments:
            message = await self.next()
            assert not isinstance(message, Closed | Refused), message

    async def to_the_end(self) -> None:
        while not isinstance(await self.next(), Closed | Refused):
            pass

    def of(self, kind: type[ClientMessage]) -> list[ClientMessage]:
        return [message for message in self.told if isinstance(message, kind)]


@dataclass
class Cell:
    """An engine with workers in this process and a journal on disk."""

    engine: Engine
    tenancy: Tenancy
    adopted: int

    def open(self, session: SessionId, **changes: object) -> Client:
        client = Client(self.engine, session, self.tenancy.owners.add(session, "default"))
        self.engine.attach(session, client.outbox)
        self.engine.submit(open_event(self.engine, session, PROMPT, picture_limit=PICTURES, **changes))
        return client

    def resume(self, token: bytes, cursor: int | None) -> Client:
        session, offered = self.tenancy.owners.resume(token, "default", cursor)
        client = Client(self.engine, session, offered)
        self.engine.resume(session, cursor, client.outbox)
        return client

    async def written(self) -> None:
        """Wait until the disk has everything."""
        durability = self.engine.keeping.durability
        assert durability is not None
        while durability.figures.lag_s or durability.held:
            await asyncio.sleep(0.01)


async def outlives_a_kill(model: Path, folder: Path, given: GivenPictures, **changes: object) -> list[Opened]:
    """What a client is told of a stream whose server is killed as it begins, and later; its segments are the same."""
    session = SessionId("a")
    async with cell(model, folder / "live") as before:
        before.engine.journal.give(session, given)
        client = before.open(session, **changes)
        while not client.of(Opened):
            await client.next()
        shutil.copytree(folder / "live", folder / "at once")  # whatever is not synced yet: a kill would leave this
        await client.until(9)
        await before.written()
        shutil.copytree(folder / "live", folder / "later")
        await client.to_the_end()
    told = []
    for name, consumed in (("at once", None), ("later", 8)):
        async with cell(model, folder / name) as after:
            assert after.adopted == 1
            again = after.resume(client.token, consumed)
            await again.to_the_end()
            (opened,) = again.of(Opened)
            assert isinstance(opened, Opened)
            told.append(opened)
            first = 0 if consumed is None else consumed + 1
            assert again.segments == {block: data for block, data in client.segments.items() if block >= first}
    return told


@contextlib.asynccontextmanager
async def cell(
    model: Path, folder: Path, identity: Identity = IDENTITY, *, limits: Limits | None = None
) -> AsyncIterator[Cell]:
    tenancy = Tenancy(Access.of(AuthSection()), Audit(None))
    workers = in_process_workers(model, model_info().recipe, denoise=2, sessions=3)
    limits = replace(limits or STILL, moves=STILL.moves)
    async with in_process_engine(model, workers, limits, recorder=tenancy) as engine:
        kept = KeptSessions(folder, engine, tenancy.owners, identity, asyncio.get_running_loop())
        try:
            yield Cell(engine, tenancy, await kept.take_over())
        finally:
            await kept.close()
