"""Counts gRPC calls by method and status."""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import grpc
import grpc.aio

from cluster.net.calls import when_over

Request = TypeVar("Request")
Response = TypeVar("Response")

UNKNOWN_METHOD = "unknown"
_NAMES: dict[object, str] = {status.value[0]: status.name for status in grpc.StatusCode}


class _Context(Protocol):
    """The part of a server call's context that says how it ended."""

    def code(self) -> object:
        """A status or its number; OK if nothing was set yet."""
        ...


class CallCounts(grpc.aio.ServerInterceptor):
    """Counts how calls end; it must be the first of a server's interceptors, so that it sees every call."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        """Calls by method (package.Service/Method, or UNKNOWN_METHOD if it is not served) and name of the status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Request, Response] | None:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self.ended[UNKNOWN_METHOD, grpc.StatusCode.UNIMPLEMENTED.name] += 1
            return None
        return self._counted(handler, str(handler_call_details.method).removeprefix("/"))

    def _counted(
        self, handler: grpc.RpcMethodHandler[Request, Response], method: str
    ) -> grpc.RpcMethodHandler[Request, Response]:
        """A handler that does the same, and notes how its calls end."""
        kinds = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }
        inner, make = kinds[handler.request_streaming, handler.response_streaming]

        async def one(request: object, context: _Context) -> object:
            with self._noted(method, context):
                return await cast(Callable[[object, object], Awaitable[object]], inner)(request, context)

        async def many(request: object, context: _Context) -> AsyncIterator[object]:
            with self._noted(method, context):
                async for response in cast(Callable[[object, object], AsyncIterator[object]], inner)(request, context):
                    yield response

        outer = many if inspect.isasyncgenfunction(inner) else one
        return make(outer, handler.request_deserializer, handler.response_serializer)

    @contextlib.contextmanager
    def _noted(self, method: str, context: _Context) -> Iterator[None]:
        """Count the present call when it is over."""
        call = _Call(context)
        when_over(lambda: self._count(method, call))
        try:
            yield
        except Exception:
            call.failed = True
            raise
        call.returned = True

    def _count(self, method: str, call: _Call) -> None:
        self.ended[method, call.code] += 1


@dataclass(slots=True)
class _Call:
    context: _Context
    returned: bool = False
    failed: bool = False

    @property
    def code(self) -> str:
        """The status that the call's client got, as far as this side knows."""
        code = self.context.code()
        if code not in (None, 0, grpc.StatusCode.OK):
            return code.name if isinstance(code, grpc.StatusCode) else _NAMES.get(code, grpc.StatusCode.UNKNOWN.name)
        if self.failed:
            return grpc.StatusCode.UNKNOWN.name  # what gRPC makes of an exception that sets no status
        return (grpc.StatusCode.OK if self.returned else grpc.StatusCode.CANCELLED).name
