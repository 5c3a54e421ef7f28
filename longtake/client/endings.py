"""What it means that a stream has ended, for whoever is told so."""

from __future__ import annotations

import grpc

from longtake.client.errors import ClientError
from longtake.client.events import ClosedEvent, EndingName

ENDINGS: dict[EndingName, grpc.StatusCode] = {
    "operator": grpc.StatusCode.ABORTED,
    "drained": grpc.StatusCode.UNAVAILABLE,
    "lost": grpc.StatusCode.UNAVAILABLE,
    "failed": grpc.StatusCode.INTERNAL,
    "access": grpc.StatusCode.UNAUTHENTICATED,
    "quota": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "moved": grpc.StatusCode.ABORTED,
    "abandoned": grpc.StatusCode.ABORTED,
    "orphaned": grpc.StatusCode.ABORTED,
}
"""Endings that nobody asked for, and the status of a call that ends so."""
SENTENCES: dict[EndingName, str] = {
    "operator": "an operator has ended the stream",
    "drained": "the server has shut down",
    "lost": "a worker was lost, and the server could not wait for another one",
    "failed": "the server could not go on with the stream",
    "access": "the server no longer knows the token that was shown",
    "quota": "the quota of the day is used up",
    "moved": "another call goes on with the stream",
    "abandoned": "nobody was there for the stream for too long",
    "orphaned": "the session it was forked from ended before the fork had its share of it",
}
"""What each of them means, for whoever is told no reason."""


def error_of(closed: ClosedEvent) -> ClientError:
    """What somebody is told who asks for something after this end."""
    if closed.ending in ENDINGS:
        return ClientError(ENDINGS[closed.ending], closed.reason or SENTENCES[closed.ending])
    return ClientError(grpc.StatusCode.FAILED_PRECONDITION, f"the stream has ended: {closed.ending}")
