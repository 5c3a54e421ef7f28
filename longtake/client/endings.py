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
    "unspecified": "the stream has ended, and this program does not know why",
    "completed": "the stream is complete",
    "client": "the stream has ended",
    "operator": "an operator has ended the stream",
    "drained": "the server is shutting down, and the stream has ended",
    "lost": "the server is shutting down, and a worker was lost with the last block of the stream",
    "failed": "the server could not go on with the stream",
    "access": "the stream has ended: the token or certificate that began it has expired or was taken back",
    "quota": "the stream has ended: the quota of the day is used up",
    "moved": "the stream goes on elsewhere",
    "abandoned": "the stream has ended: nobody was there for it for too long",
    "orphaned": "the stream that this one was forked from has ended too soon, and so this one has ended, too",
}
"""What each ending means; programs, the server and its page all say it in these words."""
WATCHED: dict[EndingName, str] = {
    "client": "the stream has ended: whoever began it has ended it",
    "access": "the stream has ended: the token or certificate that began it, or yours, has expired or was taken back",
    "quota": "the stream has ended: the quota of whoever began it is used up for this day",
    "moved": "the stream goes on at another server",
    "abandoned": "the stream has ended: whoever began it went away and did not come back",
}
"""What is another thing for who only watches."""
REPEATED = frozenset({"the server is shutting down", "it goes on at another server"})
"""Reasons of servers that say what the ending says."""


def in_words(closed: ClosedEvent, *, watching: bool = False) -> str:
    """How a stream has ended, for who began it or who only watches it, with the server's reason."""
    known, reason = SENTENCES[closed.ending], closed.reason.removesuffix(".")
    if watching:
        known = WATCHED.get(closed.ending, known)
    if not reason or reason in REPEATED:
        return known
    return reason if closed.ending == "orphaned" else f"{known} ({reason})"


def error_of(closed: ClosedEvent) -> ClientError:
    """What somebody is told who asks for something after this end."""
    return ClientError(ENDINGS.get(closed.ending, grpc.StatusCode.FAILED_PRECONDITION), in_words(closed))
