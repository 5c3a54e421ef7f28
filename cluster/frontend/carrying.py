"""Sessions on their way: out as a file, in from one, and over to another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

from google.protobuf.message import DecodeError

from cluster.access.tenancy import Tenancy
from cluster.cell.engine import Engine
from cluster.cell.outbox import MovedAway
from cluster.cell.ownership import Ownership
from cluster.cell.snapshot import Snapshot, brought, taken
from cluster.frontend import exported, imported
from cluster.frontend.names import new_session
from cluster.frontend.offer import Offer
from cluster.frontend.requests import Destination
from cluster.frontend.responses import FRAME_OVERHEAD_BYTES
from cluster.journal.facts import SessionRecord
from cluster.net.calls import when_over
from longtake.core.adoption import Adopted, AdoptFailed, Freeze, HandOver, HandOverRefused, Thaw
from longtake.core.endings import Ending
from longtake.core.errors import (
    Declined,
    InvalidField,
    Lack,
    NoCapacity,
    ShuttingDown,
    Unavailable,
    UnknownSession,
    WrongState,
)
from longtake.core.events import Close, Event
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import Role, SessionId
from longtake.v1 import longtake_pb2 as pb

RETRY_S = 1.0


@dataclass(slots=True)
class _UnderWay:
    """An export that is being read."""

    session: SessionId
    stays: bool
    """Whether the session was frozen for it, and is not if this goes no further."""
    is_over: bool = False


class Carrying:
    """Exports, imports and hands over the sessions of one engine, on its loop."""

    def __init__(self, engine: Engine, offer: Offer, tenancy: Tenancy) -> None:
        self._engine = engine
        self._offer = offer
        self._tenancy = tenancy
        self._exporting: set[SessionId] = set()
        self._is_importing = False
        self._identity = offer.identity

    # --- out --------------------------------------------------------------------------------------------------------

    async def export(self, session: SessionId, *, hand_over: bool) -> AsyncIterator[bytes]:
        """The file of an open session in parts. With `hand_over` it is frozen, and thawed if not all was read."""
        if session in self._exporting:
            raise NoCapacity(f"Session {session} is being exported by somebody else", RETRY_S, Lack.TURN)
        self._exporting.add(session)
        under_way = _UnderWay(session, hand_over)
        when_over(partial(self._end, under_way))  # a call that breaks does not tell the generator
        try:
            if hand_over:
                await self._asked(Freeze(now_s=self._engine.now_s(), session=session))
            found = self._open(session)
            form, snapshot = exported.Form.of(found.graph, found.geometry), self._snapshot(found)
            pieces = await asyncio.to_thread(exported.pieces, snapshot, form)
            for part in exported.parts(pieces, self._offer.wire.max_message_bytes - FRAME_OVERHEAD_BYTES):
                yield part
            under_way.stays = False
        finally:
            self._end(under_way)

    def _end(self, export: _UnderWay) -> None:
        """An export has ended; the second time nothing follows."""
        if not export.is_over:
            export.is_over = True
            self._exporting.discard(export.session)
            if export.stays:
                self._engine.submit(Thaw(now_s=self._engine.now_s(), session=export.session))

    def _snapshot(self, session: Session) -> Snapshot:
        if not session.is_opened:
            raise WrongState("session_id: the stream has not begun, so there is nothing of it to export")
        if session.kin.depends:
            raise Unavailable("the session still depends on the one that it forks; try again")
        owned = self._tenancy.owners.of(session.id) or Ownership(tenant="", offered=b"")
        return taken(self._engine, session, self._identity.record(session, owned))

    def _open(self, name: SessionId) -> Session:
        session = self._engine.scheduler.cell.sessions.get(name)
        if session is None or session.state is State.CLOSING:
            raise UnknownSession(name)
        return session

    # --- in ---------------------------------------------------------------------------------------------------------

    async def take_in(self, requests: AsyncIterable[pb.ImportRequest]) -> pb.ImportResponse:
        """Make a session of a file that comes in parts."""
        self._check_ready()
        if self._is_importing:
            raise NoCapacity("Another import is under way", RETRY_S, Lack.TURN)
        self._is_importing = True
        try:
            data = await self._received(requests)
            snapshot = await asyncio.to_thread(self._read, data)
            del data
            return await self._adopt(snapshot)
        finally:
            self._is_importing = False

    def _check_ready(self) -> None:
        """Unavailable if no session can be taken in now."""
        if self._engine.is_draining:
            raise ShuttingDown
        self._engine.keeping.check()
        self._engine.keeping.check_adopted()
        roles = {worker.role for worker in self._engine.scheduler.workers()}
        for role in (Role.DENOISE, Role.DECODE):  # they say how far back a session's state depends on its past
            if role not in roles:
                raise Unavailable(f"no {role.value} worker is up yet")

    async def _received(self, requests: AsyncIterable[pb.ImportRequest]) -> bytearray:
        """The file, if it is no larger than a session of this server may be."""
        cell, data = self._engine.scheduler.cell, bytearray()
        most = exported.HEADER_BYTES + max(map(self._most_bytes, cell.graphs.values()))
        frames, timeout_s = aiter(requests), self._offer.wire.open_timeout_s
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    request = await anext(frames)
            except StopAsyncIteration:
                return data
            except DecodeError as error:
                raise InvalidField("request", str(error), "an encoded longtake.v1.ImportRequest") from None
            except TimeoutError:
                raise WrongState(f"data: nothing more arrived within {timeout_s:g} s") from None
            if len(data) + len(request.data) > most:
                raise InvalidField(
                    "data", f"more than {most} bytes", f"at most {most} bytes, the most of a session here"
                )
            data += request.data

    def _most_bytes(self, graph: Graph) -> int:
        """The most bytes of latents of a session with this recipe."""
        latents = self._engine.scheduler.cell.fleet.retention(graph).most_latents(self._offer.limits.max_window)
        return latents * self._offer.geometry.divided(graph.blocks).latent_bytes

    def _read(self, data: bytearray) -> Snapshot:
        """The session in a file, checked, by the names of this server; on any thread."""
        snapshot = exported.read(data, self._form)
        imported.check(snapshot, self._offer)
        return replace(snapshot, record=self._identity.here(snapshot.record))

    def _form(self, record: SessionRecord) -> exported.Form:
        """What is in the file of a session; InvalidField if it cannot go on here."""
        cell = self._engine.scheduler.cell
        graph = graph_with(cell.graphs[self._identity.here(record).recipe], record.given_frames)
        return exported.Form.of(graph, self._offer.geometry)

    async def _adopt(self, snapshot: Snapshot) -> pb.ImportResponse:
        session, is_done = new_session(self._offer.cell), False
        token = self._tenancy.take_in(session, snapshot.record.tenant)
        snapshot = replace(snapshot, record=replace(snapshot.record, session=session))
        try:
            frontier = await self._asked(brought(snapshot, self._engine, promised=False))
            durability = self._engine.keeping.durability
            if durability is not None:
                await durability.land(self._open(session), snapshot.cues, self._engine.journal)
            self._open(session)
            is_done = True
            return pb.ImportResponse(session_id=session, resume_token=token, block=frontier)
        finally:
            if not is_done:
                why = "its import was not finished"
                now_s = self._engine.now_s()
                self._engine.submit(Close(now_s=now_s, session=session, ending=Ending.OPERATOR, reason=why))

    # --- over -------------------------------------------------------------------------------------------------------

    async def hand_over(self, session: SessionId, to: Destination | None) -> None:
        """Have a frozen session go on elsewhere, or (None) here after all."""
        now_s = self._engine.now_s()
        if to is None:
            await self._asked(Thaw(now_s=now_s, session=session))
            return
        leads = MovedAway(session=session, address=to.address, token=to.token, name=to.session)
        self._engine.clients.leads(leads)
        try:
            await self._asked(HandOver(now_s=now_s, session=session))
        except Declined:
            self._engine.clients.leads_no_more(session)
            raise

    async def _asked(self, event: Event) -> int:
        """Have an event handled; Declined if it is refused. Of an Adopt, the frontier."""
        for effect in await self._engine.answers.to(event):
            match effect:
                case HandOverRefused(problem=problem) | AdoptFailed(problem=problem):
                    raise Declined(problem)
                case Adopted(frontier=frontier):
                    return frontier
        return 0
