"""What a client is told of an error: the one table from families of errors to gRPC statuses, with rich details."""

from __future__ import annotations

from typing import NoReturn, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from longtake.core.errors import (
    CallerFault,
    Contradiction,
    InternalFault,
    InvalidField,
    LongtakeError,
    NoCapacity,
    NotAllowed,
    NotAuthenticated,
    TooLate,
    Unavailable,
    UnknownSession,
    WrongState,
)
from longtake.core.events import Ending

DETAILS_KEY = "grpc-status-details-bin"

STATUSES: tuple[tuple[type[LongtakeError], grpc.StatusCode], ...] = (
    (UnknownSession, grpc.StatusCode.NOT_FOUND),
    (NotAuthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (NotAllowed, grpc.StatusCode.PERMISSION_DENIED),
    (WrongState, grpc.StatusCode.FAILED_PRECONDITION),
    (TooLate, grpc.StatusCode.FAILED_PRECONDITION),
    (CallerFault, grpc.StatusCode.INVALID_ARGUMENT),
    (NoCapacity, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (InternalFault, grpc.StatusCode.INTERNAL),
    (LongtakeError, grpc.StatusCode.INTERNAL),
)
"""The first row whose family the error belongs to counts."""

ENDINGS: dict[Ending, grpc.StatusCode] = {
    Ending.COMPLETED: grpc.StatusCode.OK,
    Ending.CLIENT: grpc.StatusCode.OK,
    Ending.OPERATOR: grpc.StatusCode.ABORTED,
    Ending.DRAINED: grpc.StatusCode.UNAVAILABLE,
    Ending.LOST: grpc.StatusCode.UNAVAILABLE,
    Ending.FAILED: grpc.StatusCode.INTERNAL,
    Ending.ACCESS: grpc.StatusCode.UNAUTHENTICATED,
    Ending.QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""The status of a call whose session has ended."""


class Call(Protocol):
    """The part of a server call's context that an error needs."""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> NoReturn: ...

    def set_code(self, code: grpc.StatusCode) -> None: ...


def status_of(error: LongtakeError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return next(status for family, status in STATUSES if isinstance(error, family))


def number_of(status: grpc.StatusCode) -> int:
    """The number of a status, as in google.rpc.Code."""
    number: int = status.value[0]
    return number


def details_of(error: LongtakeError) -> tuple[Message, ...]:
    """The google.rpc details of an error: which field and what is allowed, or when to try again."""
    match error:
        case InvalidField():
            return (_bad_request((error.field, f"{error.value!r} is not allowed; allowed: {error.allowed}")),)
        case Contradiction():
            return (_bad_request((error.first, str(error)), (error.second, str(error))),)
        case TooLate():
            return (_bad_request(("cue.at", str(error))),)
        case UnknownSession():
            resource: Message = error_details_pb2.ResourceInfo(resource_type="session", resource_name=error.session)
            return (resource,)
        case NoCapacity():
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(max(0, round(error.retry_after_s * 1000)))
            retry: Message = error_details_pb2.RetryInfo(retry_delay=delay)
            return (retry,)
    return ()


async def abort(call: Call, error: LongtakeError) -> NoReturn:
    """End a call with the status and the details of `error`."""
    status = status_of(error)
    rich = status_pb2.Status(code=number_of(status), message=str(error))
    for detail in details_of(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        rich.details.append(packed)
    call.set_code(status)  # which abort does not, and who asks the context afterwards should know
    await call.abort(status, str(error), ((DETAILS_KEY, rich.SerializeToString()),))


def _bad_request(*violations: tuple[str, str]) -> Message:
    fields = [{"field": field, "description": description} for field, description in violations]
    request: Message = error_details_pb2.BadRequest(field_violations=fields)
    return request
