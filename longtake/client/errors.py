"""What a server answers when it cannot do what was asked, as an exception."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_WHERE = r"(?:ipv4:|ipv6:|unix:)(?P<where>\S+)"
_UNREACHED = (
    (
        re.compile(rf"^failed to connect to all addresses; .*?{_WHERE}: (?:Socket closed|.*reset.*)$"),
        "what listens at {where} closes the connection; does it expect TLS?",
    ),
    (
        re.compile(rf"^failed to connect to all addresses; .*?{_WHERE}: (?:.*: )?(?P<why>.+)$"),
        "no server at {where} ({why})",
    ),
    (
        re.compile(r"^(?:errors resolving|DNS resolution failed for) (?P<where>[^:\s]+:\d+)"),
        "no server at {where} (there is no such name)",
    ),
)
"""How gRPC says that nobody answers, and how we do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One field of the request that is not right."""

    field: str
    description: str


class ClientError(Exception):
    """A call ended with an error: its gRPC status, which fields are not right, when it may be tried again."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
        reason: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s
        """When the same request may be met; None: the server does not say, or waiting does not help."""
        self.reason = reason
        """What has run out, in one word of the protocol such as `TIME`; empty if it is not that."""
        self.facts = dict(facts or {})
        """How much of what is short, by the names that the protocol gives them: of, unit, needed, free, limit."""


def error_from(failure: grpc.aio.AioRpcError | grpc.Call) -> ClientError:
    """The exception for an ended call, with the google.rpc details its trailing metadata carries."""
    violations: list[Violation] = []
    retry_after_s: float | None = None
    info = error_details_pb2.ErrorInfo()
    for detail in _details(failure.trailing_metadata() or ()):
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            violations += [Violation(field=v.field, description=v.description) for v in request.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after_s = delay.seconds + delay.nanos / 1e9
        elif detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
    return ClientError(
        failure.code(),
        _in_words(failure.details() or ""),
        violations=tuple(violations),
        retry_after_s=retry_after_s,
        reason=info.reason,
        facts=info.metadata,
    )


def _in_words(details: str) -> str:
    """What gRPC says of a server that it does not reach, without what only gRPC's makers can use."""
    for pattern, words in _UNREACHED:
        if found := pattern.search(details):
            return unquote(words.format(**found.groupdict()))
    return details


def _details(metadata: Iterable[tuple[str, str | bytes]]) -> list[status_pb2.Any]:
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
