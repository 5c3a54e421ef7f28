"""The door of the public port: asks every call who it is before its request is parsed, and goes on asking.

Theory of operation. The interceptor puts a handler of its own before each handler of a method. That one identifies the
caller by the call's metadata and the connection's certificate, looks the method up in the table of rights, and only
then takes the request, parses it and lets the handler serve it; it also counts how the call ends. gRPC reads the
request of a unary method before it asks any handler; so to gRPC each is one of streams, which on the wire is the same.
Streams of answers can outlive what their caller showed: a task looks at all of them every second, and ends those whose
caller's credentials have expired or were taken back, and those whose tenant has used up its day.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from cluster.access.audit import Entry
from cluster.access.call_counts import CallCounts
from cluster.access.callers import HEALTH_CHECK, LONGTAKE, Call, Caller, enter
from cluster.access.tenancy import EXPIRED, Tenancy
from cluster.cell.engine import Engine
from cluster.net.calls import when_over
from cluster.net.statuses import STATUSES, abort
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, LongtakeError, NotAuthenticated, QuotaUsed
from longtake.core.events import CallRefused, Close
from longtake.v1 import longtake_pb2 as pb

SWEEP_S = 1.0
"""How often streams are looked at."""
GRACE_S = 5.0
"""A stream that is to end is cut off after this many seconds if its client does not read."""

MAX_CHECK_BYTES = 1 << 10
"""A health check, which anybody may make, names a service."""

Request = TypeVar("Request")
Response = TypeVar("Response")
_Context = grpc.aio.ServicerContext[object, Message]
_Unary = Callable[[object, _Context], Awaitable[Message]]
_Streaming = Callable[[object, _Context], AsyncGenerator[Message, None]]
_Parse = Callable[[bytes], Message]
_AUDITED = {
    LONGTAKE + "CloseSession": "close",
    LONGTAKE + "Drain": "drain",
    LONGTAKE + "Export": "export",
    LONGTAKE + "Import": "import",
    LONGTAKE + "HandOver": "hand_over",
}
"""Methods that end something, or carry it elsewhere."""
_WRITTEN = {LONGTAKE + "Stream", *_AUDITED}
"""Methods that are not to be called while the audit log cannot be written, if it must be."""


class _Live:
    """A stream of answers that is being sent."""

    def __init__(self, call: Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.call = call
        self.task = task
        self.stopped = False
        """Whether no further answer shall be sent."""
        self.waits = False
        """Whether the stream waits for its next answer, and not for the client to read the last one."""
        self.is_whole = False
        """Whether all answers were sent."""
        self._cut_at_s = 0.0

    def end(self, error: LongtakeError, engine: Engine) -> None:
        """Have the stream end with a status. A session of its own ends first, and then the client is told why."""
        self.call.error = error
        self._cut_at_s = asyncio.get_running_loop().time() + GRACE_S
        if self.call.session is None:
            self.stopped = True
            if self.waits:
                self.task.cancel()
            return
        ending = Ending.QUOTA if isinstance(error, QuotaUsed) else Ending.ACCESS
        engine.submit(Close(now_s=engine.now_s(), session=self.call.session, ending=ending, reason=str(error)))

    def insist(self) -> None:
        """Cut the stream off if its client has not read for too long after it was to end."""
        if asyncio.get_running_loop().time() >= self._cut_at_s:
            self.stopped = True
            self.task.cancel()


class Guard(grpc.aio.ServerInterceptor):
    """The interceptor; `watch` is to run beside the server."""

    def __init__(self, tenancy: Tenancy, engine: Engine) -> None:
        self.calls = CallCounts()
        self._tenancy = tenancy
        self._engine = engine
        self._live: set[_Live] = set()

    async def watch(self) -> None:
        """Until cancelled, look at the tenants file and at every stream."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """End the streams that may not go on."""
        self._tenancy.refresh()
        self._tenancy.audit.look()
        for live in list(self._live):
            if live.call.error is not None:
                live.insist()
                continue
            error = self._tenancy.objection(live.call)
            if error is not None:
                self._count(error)
                self._tenancy.note_end(live.call, error)
                live.end(error, self._engine)
        for session, call in self._tenancy.left_behind():
            error = NotAuthenticated("expired", EXPIRED)
            self._count(error)
            self._tenancy.note_end(call, error)
            close = Close(now_s=self._engine.now_s(), session=session, ending=Ending.ACCESS, reason=str(error))
            self._engine.submit(close)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Request, Response] | None:
        """The method's handler, behind one of ours."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            self.calls.unserved()
            return None
        return cast(
            "grpc.RpcMethodHandler[Request, Response]",
            self._guarded(method, cast("grpc.RpcMethodHandler[Message, Message]", handler)),
        )

    def _guarded(
        self, method: str, handler: grpc.RpcMethodHandler[Message, Message]
    ) -> grpc.RpcMethodHandler[Message, Message]:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if method == HEALTH_CHECK:
            check = self._check(method, cast(_Unary, handler.unary_unary), cast(_Parse, parse))
            return grpc.stream_unary_rpc_method_handler(check, None, serialize)
        if handler.unary_unary is not None:
            unary = self._unary(method, cast(_Unary, handler.unary_unary), cast(_Parse, parse))
            return grpc.stream_unary_rpc_method_handler(unary, None, serialize)
        if handler.stream_unary is not None:
            taking = self._unary(method, cast(_Unary, handler.stream_unary), None)
            return grpc.stream_unary_rpc_method_handler(taking, parse, serialize)
        if handler.unary_stream is not None:
            stream = self._stream(method, cast(_Streaming, handler.unary_stream), cast(_Parse, parse))
            return grpc.stream_stream_rpc_method_handler(stream, None, serialize)
        # The frames of a client are parsed one by one, as the handler asks for them.
        frames = self._stream(method, cast(_Streaming, handler.stream_stream), None)
        return grpc.stream_stream_rpc_method_handler(frames, parse, serialize)

    def _check(self, method: str, answer: _Unary, parse: _Parse) -> _Unary:
        """For health checks, which anybody may make."""

        async def check(frames: object, context: _Context) -> Message:
            with self.calls.noted(method, context):
                return await answer(await _request(parse, context, most_bytes=MAX_CHECK_BYTES), context)

        return check

    def _unary(self, method: str, answer: _Unary, parse: _Parse | None) -> _Unary:
        async def unary(frames: object, context: _Context) -> Message:
            with self.calls.noted(method, context):
                call = await self._admit(method, context)
                request = frames if parse is None else await _request(parse, context)
                response: Message | None = None
                try:
                    response = await answer(request, context)
                finally:
                    if method in _AUDITED:
                        self._audit(call, request, response, "OK" if response is not None else _status_name(context))
                self._tenancy.sent(call, response.ByteSize())
                return response

        return unary

    def _stream(self, method: str, answer: _Streaming, parse: _Parse | None) -> Callable[[object, _Context], object]:
        async def stream(frames: object, context: _Context) -> AsyncIterator[Message]:
            with self.calls.noted(method, context) as noted:
                live = _Live(await self._admit_stream(method, context))
                request = frames if parse is None else await _request(parse, context)
                self._live.add(live)
                when_over(partial(self._live.discard, live))
                if method in _AUDITED:
                    when_over(lambda: self._audit(live.call, request, None, _outcome(live, context)))
                async for frame in self._frames(answer(request, context), live):
                    yield frame
                    noted.returned = live.is_whole = live.call.is_complete
                if live.call.error is not None:
                    await abort(context, live.call.error)

        async def written(frames: object, context: _Context) -> None:
            """Serve a method whose handler writes its own answers, as that of the health service does."""
            with self.calls.noted(method, context):
                await self._admit(method, context)
                request = frames if parse is None else await _request(parse, context)
                await cast(Awaitable[None], answer(request, context))

        return written if inspect.iscoroutinefunction(answer) else stream

    async def _frames(self, frames: AsyncGenerator[Message, None], live: _Live) -> AsyncIterator[Message]:
        """The answers, until there are no more or `live` is stopped."""
        try:
            while not live.stopped:
                live.waits = True
                frame = await anext(frames, None)
                live.waits = False
                if frame is None:
                    live.is_whole = True
                    return
                self._tenancy.sent(live.call, frame.ByteSize())
                yield frame
        except asyncio.CancelledError:
            live.waits = False
            if not live.stopped or live.task.uncancel() > 0:
                raise
        finally:
            with contextlib.suppress(RuntimeError):
                await frames.aclose()

    async def _admit(self, method: str, context: _Context) -> Call:
        """The caller, if they may call; otherwise the call ends."""
        caller: Caller | None = None
        try:
            caller = await self._tenancy.access.identify(context.invocation_metadata() or (), context.auth_context())
            caller.check(method)
            if method in _WRITTEN:
                self._tenancy.audit.check()
        except LongtakeError as error:
            self._refused(error, caller, context.peer(), method, "call")
            await abort(context, error)
        call = Call(caller=caller, method=method, peer=context.peer())
        enter(call)
        return call

    async def _admit_stream(self, method: str, context: _Context) -> Call:
        """The same for a stream of answers, which may not begin either if it could not go on."""
        call = await self._admit(method, context)
        objection = self._tenancy.objection(call)
        if objection is not None:
            self._refused(objection, call.caller, call.peer, method, "open")
            await abort(context, objection)
        return call

    def _refused(self, error: LongtakeError, caller: Caller | None, peer: str, method: str, action: str) -> None:
        self._count(error)
        outcome = STATUSES[error.refusal].name
        detail = error.kind if isinstance(error, NotAuthenticated) else ""
        entry = Entry(caller=caller, peer=peer, method=method, action=action, outcome=outcome, detail=detail)
        self._tenancy.audit.refused(entry)

    def _count(self, error: LongtakeError) -> None:
        self._engine.submit(CallRefused(now_s=self._engine.now_s(), problem=error.problem))

    def _audit(self, call: Call, request: object, response: Message | None, outcome: str) -> None:
        session = ""
        if isinstance(request, pb.CloseSessionRequest | pb.ExportRequest | pb.HandOverRequest):
            session = request.session_id
        elif isinstance(response, pb.ImportResponse):
            session = response.session_id
        self._tenancy.audit.write(
            Entry(
                caller=call.caller,
                peer=call.peer,
                method=call.method,
                action=_AUDITED[call.method],
                session=session,
                outcome=outcome,
                reason=request.reason if isinstance(request, pb.CloseSessionRequest) else "",
            )
        )


def _outcome(live: _Live, context: _Context) -> str:
    """How a stream of answers that is over has ended."""
    if live.is_whole:
        return "OK"
    code: object = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.CANCELLED.name


def _status_name(context: _Context) -> str:
    """The status of a call that has failed."""
    code: object = context.code()  # before anything is set it is a number, whatever its type says
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name


async def _request(parse: _Parse, context: _Context, *, most_bytes: int | None = None) -> Message:
    """The one request of a method that takes one."""
    raw: object = await context.read()
    if not isinstance(raw, bytes):
        await abort(context, InvalidField("request", "nothing", "a message of the method's request type"))
    if most_bytes is not None and len(raw) > most_bytes:
        await abort(context, InvalidField("request", f"{len(raw)} bytes", f"at most {most_bytes} bytes"))
    try:
        return parse(raw)
    except DecodeError as error:
        await abort(context, InvalidField("request", str(error), "an encoded message of the method's request type"))
