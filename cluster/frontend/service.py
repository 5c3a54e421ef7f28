"""The front end: it turns gRPC calls into events for the engine, and what the engine tells a client into frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import grpc
from google.protobuf.message import DecodeError

from cluster.access.callers import current_call
from cluster.access.tenancy import Tenancy
from cluster.cell.engine import Engine
from cluster.cell.journal import GivenPictures
from cluster.cell.outbox import Moved, Outbox, SegmentOut, WatcherOutbox
from cluster.frontend import requests
from cluster.frontend.carrying import Carrying
from cluster.frontend.connections import Connection, Throttle
from cluster.frontend.names import new_session
from cluster.frontend.offer import Offer
from cluster.frontend.operations import Operations
from cluster.frontend.responses import MOVED, Speaker, model_response
from cluster.net.calls import when_over
from cluster.net.statuses import ENDINGS, AbortableCall, abort
from longtake.core.effects import Closed
from longtake.core.endings import Ending
from longtake.core.errors import (
    InvalidField,
    Lack,
    LongtakeError,
    NoCapacity,
    UnknownSession,
    UnknownToken,
    WrongState,
)
from longtake.core.events import CallRefused, Close, Cue, Detach, Event, FrameRefused, OpenRefused
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.sessions.life import State
from longtake.core.sessions.views import SessionView
from longtake.core.work import FIRST_CONNECTION, SessionId
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc

WATCH_RETRY_S = 5.0
HALF_CLOSE_S = 0.5
"""A call of which no frame will come any more is half-closed or broken; a broken one is over at once."""

StreamContext = grpc.aio.ServicerContext[pb.StreamRequest, pb.StreamResponse]
WatchContext = grpc.aio.ServicerContext[pb.WatchRequest, pb.WatchResponse]


class Frontend(rpc.LongtakeServiceServicer):
    """Serves `longtake.v1` for one engine, on the engine's event loop."""

    def __init__(self, engine: Engine, offer: Offer, tenancy: Tenancy) -> None:
        self._engine = engine
        self._tenancy = tenancy
        self._offer = offer
        self._watcher_counts: dict[SessionId, int] = {}
        self._operations = Operations(engine, offer)
        self._carrying = Carrying(engine, offer, tenancy)

    # --- a client's own stream --------------------------------------------------------------------------------------

    async def Stream(
        self, request_iterator: AsyncIterator[pb.StreamRequest], context: StreamContext
    ) -> AsyncIterator[pb.StreamResponse]:
        """Opens a session or goes on with one, and forwards frames both ways; if the call breaks, the session stays."""
        first = pb.StreamRequest()
        try:
            first = await self._first(request_iterator)
            connection = self._begin(first)
        except LongtakeError as error:
            self._refused(first, error)
            await abort(context, error)
        reader = asyncio.create_task(self._read(request_iterator, connection))
        when_over(reader.cancel)
        speaker = Speaker(self._offer, connection.token)
        try:
            closed: Closed | Moved | None = None
            while closed is None:
                message = await connection.outbox.get()
                current_call().is_complete = isinstance(message, Closed) and message.ending is Ending.COMPLETED
                for frame in speaker.stream_frames(message):
                    yield frame
                if isinstance(message, SegmentOut):
                    connection.receipts.sent = message.emit.block
                closed = message if isinstance(message, Closed | Moved) else None
        except LongtakeError as error:
            await abort(context, error)
        if isinstance(closed, Closed) and closed.ending is Ending.COMPLETED:
            await connection.receipts.last(reader)
        await _end(context, closed)

    def _begin(self, first: pb.StreamRequest) -> Connection:
        """Open the session that is asked for, or have the present call go on with it."""
        wanted, outbox = requests.resumption(first), Outbox()
        if wanted is not None:
            self._engine.keeping.check_adopted()
            session, token = self._tenancy.resume(wanted.token, wanted.cursor)
            number = self._engine.resume(session, wanted.cursor, outbox)
            self._tenancy.arrive(number)
            return Connection(session, number, outbox, token)
        session = new_session(self._offer.cell)
        event = requests.open_event(first, session=session, offer=self._offer, now_s=self._engine.now_s())
        if event.fork is not None:
            self._open_session(event.fork.session)
        self._engine.keeping.check()
        token = self._tenancy.begin(event)
        self._engine.attach(session, outbox)
        pictures = GivenPictures(given=tuple(first.open.given), references=tuple(first.open.references))
        self._engine.journal.give(session, pictures)
        self._engine.submit(event)
        return Connection(session, FIRST_CONNECTION, outbox, token)

    def _refused(self, first: pb.StreamRequest, error: LongtakeError) -> None:
        """Count and note that a call begins nothing."""
        now_s = self._engine.now_s()
        if isinstance(error, UnknownToken):
            self._engine.submit(CallRefused(now_s=now_s, problem=error.problem))
        else:
            self._engine.submit(OpenRefused(now_s=now_s, pace=requests.pace_of(first), problem=error.problem))
        self._tenancy.refused(current_call(), "resume" if first.open.resume_token else "open", error)

    async def _first(self, frames: AsyncIterator[pb.StreamRequest]) -> pb.StreamRequest:
        timeout_s = self._offer.wire.open_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(frames)
        except StopAsyncIteration:
            raise InvalidField("frame", None, "open, as the first frame of a call") from None
        except DecodeError as error:
            raise InvalidField("frame", str(error), "an encoded longtake.v1.StreamRequest") from None
        except TimeoutError:
            raise WrongState(f"frame: no open arrived within {timeout_s:g} s") from None

    async def _read(self, frames: AsyncIterator[pb.StreamRequest], connection: Connection) -> None:
        """Turn the later frames of a call into events, until another call has the session.

        The client's end of the call, and what is no frame, close the session; a broken call leaves it without a client.
        """
        throttle, session = Throttle(self._offer.wire.max_frames_per_s), connection.session
        try:
            async for frame in frames:
                await throttle.take()
                if self._engine.clients.is_elsewhere(session, connection.number):
                    return
                self._engine.submit(self._event(frame, session))
                if frame.HasField("ack"):
                    connection.receipts.came(frame.ack.segment)
                else:
                    connection.receipts.other()
            await asyncio.sleep(HALF_CLOSE_S)
            self._close(connection)
        except DecodeError as error:
            garbage = InvalidField("frame", str(error), "an encoded longtake.v1.StreamRequest")
            refused = FrameRefused(now_s=self._engine.now_s(), session=session, cue=None, problem=garbage.problem)
            self._engine.submit(refused)
            self._close(connection)
        finally:
            now_s = self._engine.now_s()
            self._engine.submit(Detach(now_s=now_s, session=session, connection=connection.number))

    def _close(self, connection: Connection) -> None:
        if not self._engine.clients.is_elsewhere(connection.session, connection.number):
            now_s = self._engine.now_s()
            self._engine.submit(Close(now_s=now_s, session=connection.session, ending=Ending.CLIENT))

    def _event(self, frame: pb.StreamRequest, session: SessionId) -> Event:
        """What a later frame of a call asks for, or why it cannot be."""
        now_s = self._engine.now_s()
        try:
            event = requests.later_event(frame, session=session, offer=self._offer, now_s=now_s)
            if isinstance(event, Cue):
                self._engine.keeping.check()
                self._tenancy.audit.check()
                self._tenancy.cue()
        except LongtakeError as error:
            return FrameRefused(now_s=now_s, session=session, cue=requests.cue_id(frame), problem=error.problem)
        return event

    # --- observers --------------------------------------------------------------------------------------------------

    async def Watch(self, request: pb.WatchRequest, context: WatchContext) -> AsyncIterator[pb.WatchResponse]:
        """Forwards what the session's client is shown, the newest segments if the observer is slow."""
        outbox = WatcherOutbox()
        try:
            view = self._watch(request, outbox)
        except LongtakeError as error:
            await abort(context, error)
        when_over(partial(self._unwatch, view.session, outbox))
        speaker = Speaker(self._offer)
        wanted = request.from_segment if request.HasField("from_segment") else None
        closed: Closed | None = None
        try:
            while closed is None:
                message = await outbox.get()
                if isinstance(message, SegmentOut):
                    block = message.emit.block
                    if wanted is not None and block < wanted:
                        continue
                    if wanted is not None and block > wanted:
                        yield pb.WatchResponse(skipped=pb.Skipped(first=wanted, count=block - wanted))
                    wanted = block + 1
                for frame in speaker.watch_frames(message):
                    yield frame
                closed = message if isinstance(message, Closed) else None
        except LongtakeError as error:
            await abort(context, error)
        await _end(context, closed)

    def _watch(self, request: pb.WatchRequest, outbox: WatcherOutbox) -> SessionView:
        view = self._open_session(request.session_id)
        if request.from_segment > requests.MAX_PICTURE:
            raise InvalidField("from_segment", request.from_segment, "0 to 2^40")
        limit = self._offer.wire.max_watchers
        count = self._watcher_counts.get(view.session, 0)
        if count >= limit:
            shortage = Shortage(of=view.session, unit="observers", needed=1, free=0, limit=limit)
            why = f"Session {view.session} has {count} observers, as many as it may have"
            raise NoCapacity(why, Scarcity(retry_after_s=WATCH_RETRY_S, shortage=shortage), Lack.OBSERVERS)
        self._watcher_counts[view.session] = count + 1
        self._engine.clients.watch(view.session, outbox)
        return view

    def _unwatch(self, session: SessionId, outbox: WatcherOutbox) -> None:
        self._engine.clients.unwatch(session, outbox)
        self._watcher_counts[session] -= 1
        if not self._watcher_counts[session]:
            del self._watcher_counts[session]

    # --- single answers ---------------------------------------------------------------------------------------------

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """What is offered."""
        return model_response(self._offer, self._operations.recipes())

    async def GetSession(
        self,
        request: pb.GetSessionRequest,
        context: grpc.aio.ServicerContext[pb.GetSessionRequest, pb.GetSessionResponse],
    ) -> pb.GetSessionResponse:
        """One session."""
        try:
            view = self._open_session(request.session_id)
        except LongtakeError as error:
            await abort(context, error)
        return pb.GetSessionResponse(session=self._session_message(view))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: object) -> pb.ListSessionsResponse:
        """All sessions that the caller may see."""
        return pb.ListSessionsResponse(sessions=map(self._session_message, filter(self._may_see, self._views())))

    async def CloseSession(
        self,
        request: pb.CloseSessionRequest,
        context: grpc.aio.ServicerContext[pb.CloseSessionRequest, pb.CloseSessionResponse],
    ) -> pb.CloseSessionResponse:
        """Ends a session."""
        try:
            view, reason = self._open_session(request.session_id), requests.close_reason(request.reason)
        except LongtakeError as error:
            await abort(context, error)
        now_s = self._engine.now_s()
        self._engine.submit(Close(now_s=now_s, session=view.session, ending=Ending.OPERATOR, reason=reason))
        return pb.CloseSessionResponse()

    async def GetStatus(self, request: pb.GetStatusRequest, context: object) -> pb.GetStatusResponse:
        """Workers and load."""
        return self._operations.status(self._views())

    async def Drain(
        self, request: pb.DrainRequest, context: grpc.aio.ServicerContext[pb.DrainRequest, pb.DrainResponse]
    ) -> pb.DrainResponse:
        """Begins the drain; whoever runs the server ends it when nothing is open any more."""
        try:
            grace_s = requests.drain_grace_s(request)
        except LongtakeError as error:
            await abort(context, error)
        self._engine.begin_drain(grace_s, end_streams=request.end_streams)
        return pb.DrainResponse(sessions=len(self._views()))

    # --- sessions that go elsewhere ---------------------------------------------------------------------------------

    async def Export(
        self, request: pb.ExportRequest, context: grpc.aio.ServicerContext[pb.ExportRequest, pb.ExportResponse]
    ) -> AsyncIterator[pb.ExportResponse]:
        """A snapshot of a session, in parts."""
        try:
            if request.hand_over:
                current_call().caller.check_operator("Export with hand_over")
            session = self._open_session(request.session_id).session
            async for part in self._carrying.export(session, hand_over=request.hand_over):
                yield pb.ExportResponse(data=part)
        except LongtakeError as error:
            await abort(context, error)

    async def Import(
        self,
        request_iterator: AsyncIterator[pb.ImportRequest],
        context: grpc.aio.ServicerContext[pb.ImportRequest, pb.ImportResponse],
    ) -> pb.ImportResponse:
        """A session is made of a snapshot."""
        try:
            return await self._carrying.take_in(request_iterator)
        except LongtakeError as error:
            await abort(context, error)

    async def HandOver(
        self, request: pb.HandOverRequest, context: grpc.aio.ServicerContext[pb.HandOverRequest, pb.HandOverResponse]
    ) -> pb.HandOverResponse:
        """A session goes on elsewhere, or stays after all."""
        try:
            to = requests.destination(request)
            await self._carrying.hand_over(self._open_session(request.session_id).session, to)
        except LongtakeError as error:
            await abort(context, error)
        return pb.HandOverResponse()

    async def WatchOps(
        self, request: pb.WatchOpsRequest, context: grpc.aio.ServicerContext[pb.WatchOpsRequest, pb.WatchOpsResponse]
    ) -> AsyncIterator[pb.WatchOpsResponse]:
        """Forwards what workers do for a session until it ends."""
        try:
            observer = self._operations.observe(self._open_session(request.session_id).session)
        except LongtakeError as error:
            await abort(context, error)
        when_over(partial(self._engine.timeline.leave, observer))
        while spans := await observer.get():
            yield pb.WatchOpsResponse(ops=map(self._operations.span, spans))

    def _views(self) -> list[SessionView]:
        """Sessions that a client would call open."""
        return [view for view in self._engine.scheduler.sessions() if _is_open(view)]

    def _may_see(self, view: SessionView) -> bool:
        """Whether an open session is there for the caller at all."""
        return current_call().caller.may_see(self._tenancy.owner(view.session))

    def _open_session(self, name: str) -> SessionView:
        """The open session of that name; the one place that finds sessions for callers, and never another tenant's."""
        session = requests.session_id("session_id", name)
        view = self._engine.scheduler.session(session)
        if view is None:
            self._engine.keeping.check_adopted()
        if view is None or not _is_open(view) or not self._may_see(view):
            raise UnknownSession(session)
        return view

    def _session_message(self, view: SessionView) -> pb.Session:
        message = self._operations.session(view)
        message.tenant = self._tenancy.owner(view.session) or ""
        return message


def _is_open(view: SessionView) -> bool:
    """Whether the session is open: one that was told Closed only waits for its last ops."""
    return view.state not in (State.CLOSING, State.CLOSED)


async def _end(call: AbortableCall, closed: Closed | Moved) -> None:
    """End a call whose session has ended, with the status of the ending, or has another call."""
    error = current_call().error
    if error is not None:
        await abort(call, error)
    if isinstance(closed, Moved):
        call.set_code(grpc.StatusCode.ABORTED)
        await call.abort(grpc.StatusCode.ABORTED, MOVED)
    status = ENDINGS[closed.ending]
    if status is not grpc.StatusCode.OK:
        call.set_code(status)
        await call.abort(status, f"the session has ended: {closed.reason or closed.ending.value}")
