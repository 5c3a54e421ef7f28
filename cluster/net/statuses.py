"""What a client is told of an error: the one table from refusals to gRPC statuses, with rich details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from longtake.core.endings import Ending
from longtake.core.errors import (
    Clash,
    Fault,
    Lack,
    LongtakeError,
    Missed,
    NotOpen,
    Problem,
    Refusal,
    TooOld,
    WrongValue,
    WrongValues,
)
from longtake.core.scarcity import Scarcity, Shortage

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "longtake"
"""Whose words the reasons of a google.rpc.ErrorInfo are."""

STATUSES: dict[Refusal, grpc.StatusCode] = {
    **dict.fromkeys(Lack, grpc.StatusCode.RESOURCE_EXHAUSTED),
    Fault.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Fault.UNKNOWN_SESSION: grpc.StatusCode.NOT_FOUND,
    Fault.UNKNOWN_TOKEN: grpc.StatusCode.NOT_FOUND,
    Fault.OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    Fault.WRONG_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    Fault.TOO_LATE: grpc.StatusCode.FAILED_PRECONDITION,
    Fault.NO_CREDENTIALS: grpc.StatusCode.UNAUTHENTICATED,
    Fault.WRONG_CREDENTIALS: grpc.StatusCode.UNAUTHENTICATED,
    Fault.NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    Fault.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Fault.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Fault.INTERNAL: grpc.StatusCode.INTERNAL,
}
"""The status of a call that is refused."""

ENDINGS: dict[Ending, grpc.StatusCode] = {
    Ending.COMPLETED: grpc.StatusCode.OK,
    Ending.CLIENT: grpc.StatusCode.OK,
    Ending.OPERATOR: grpc.StatusCode.ABORTED,
    Ending.DRAINED: grpc.StatusCode.UNAVAILABLE,
    Ending.LOST: grpc.StatusCode.UNAVAILABLE,
    Ending.FAILED: grpc.StatusCode.INTERNAL,
    Ending.ACCESS: grpc.StatusCode.UNAUTHENTICATED,
    Ending.QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Ending.ABANDONED: grpc.StatusCode.ABORTED,
    Ending.KEPT: grpc.StatusCode.UNAVAILABLE,
    Ending.MOVED: grpc.StatusCode.ABORTED,
    Ending.ORPHANED: grpc.StatusCode.ABORTED,
}
"""The status of a call whose session has ended."""


class AbortableCall(Protocol):
    """The part of a server call's context that an error needs."""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> NoReturn: ...

    def set_code(self, code: grpc.StatusCode) -> None: ...


def number_of(status: grpc.StatusCode) -> int:
    """The number of a status, as in google.rpc.Code."""
    number: int = status.value[0]
    return number


def details_of(problem: Problem) -> tuple[Message, ...]:
    """The google.rpc details of a problem: which field and what is allowed, or when to try again."""
    match problem.about:
        case TooOld() as old:
            return (_bad_request((old.field, old.description)), _info(problem.kind, {"least": str(old.least)}))
        case WrongValue() as wrong:
            return (_bad_request((wrong.field, wrong.description)),)
        case WrongValues(fields=fields):
            return (_bad_request(*((wrong.field, wrong.description) for wrong in fields)),)
        case Clash(first=first, second=second):
            return (_bad_request((first, problem.message), (second, problem.message)),)
        case Missed():
            return (_bad_request(("cue.at", problem.message)),)
        case NotOpen(session=session):
            resource: Message = error_details_pb2.ResourceInfo(resource_type="session", resource_name=session)
            return (resource,)
        case Scarcity() as scarcity:
            return _scarce(problem.kind, scarcity)
        case None:
            return ()


async def abort(call: AbortableCall, error: LongtakeError) -> NoReturn:
    """End a call with the status and the details of `error`."""
    problem = error.problem
    status = STATUSES[problem.kind]
    rich = status_pb2.Status(code=number_of(status), message=problem.message)
    for detail in details_of(problem):
        packed = any_pb2.Any()
        packed.Pack(detail)
        rich.details.append(packed)
    call.set_code(status)  # which abort does not, and who asks the context afterwards should know
    await call.abort(status, problem.message, ((DETAILS_KEY, rich.SerializeToString()),))


def _scarce(kind: Refusal, scarcity: Scarcity) -> tuple[Message, ...]:
    """When to try again, if that helps, and what is short."""
    known = {"fast_instead": "true"} if scarcity.fast_instead else {}
    known |= {} if scarcity.shortage is None else _numbers(scarcity.shortage)
    info = _info(kind, known)
    if scarcity.retry_after_s is None:
        return (info,)
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(max(0, round(scarcity.retry_after_s * 1000)))
    retry: Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return (retry, info)


def _numbers(shortage: Shortage) -> dict[str, str]:
    """A shortage as the metadata of a google.rpc.ErrorInfo, which holds only strings."""
    counts = {"needed": shortage.needed, "free": shortage.free, "limit": shortage.limit}
    told = {name: f"{count:.12g}" for name, count in counts.items() if count is not None}
    return {"of": shortage.of, "unit": shortage.unit, **told}


def _info(kind: Refusal, facts: Mapping[str, str]) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=kind.value.upper(), domain=DOMAIN, metadata=facts)
    return info


def _bad_request(*violations: tuple[str, str]) -> Message:
    fields = [{"field": field, "description": description} for field, description in violations]
    request: Message = error_details_pb2.BadRequest(field_violations=fields)
    return request
