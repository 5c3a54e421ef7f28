"""Counts gRPC calls by method and status."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import grpc

from cluster.net.calls import when_over

UNKNOWN_METHOD = "unknown"
_NAMES: dict[object, str] = {status.value[0]: status.name for status in grpc.StatusCode}


class _Context(Protocol):
    """The part of a server call's context that says how it ended."""

    def code(self) -> object:
        """A status or its number; OK if nothing was set yet."""
        ...


class CallCounts:
    """What the guard notes of every call."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        """Calls by method (package.Service/Method, or UNKNOWN_METHOD if it is not served) and name of the status."""

    def unserved(self) -> None:
        """There was a call of a method that is not served."""
        self.ended[UNKNOWN_METHOD, grpc.StatusCode.UNIMPLEMENTED.name] += 1

    @contextlib.contextmanager
    def noted(self, method: str, context: _Context) -> Iterator[NotedCall]:
        """Count the present call when it is over; within is all that serves it."""
        call = NotedCall(context)
        when_over(lambda: self._count(method.removeprefix("/"), call))
        try:
            yield call
        except Exception:
            call.failed = True
            raise
        call.returned = True

    def _count(self, method: str, call: NotedCall) -> None:
        self.ended[method, call.code] += 1


@dataclass(slots=True)
class NotedCall:
    """A call that is being served."""

    context: _Context
    returned: bool = False
    """Whether all is told that there is to tell."""
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
