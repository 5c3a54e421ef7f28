"""Three families of errors: the caller's fault, no capacity, our fault; the front end maps each to one gRPC status."""

from __future__ import annotations

from enum import Enum


class LongtakeError(Exception):
    """Root of every error this project raises on purpose."""


class CallerFault(LongtakeError):
    """The caller asked for something that cannot be: fix the request, do not retry it."""


class InvalidField(CallerFault):
    """One field of a request, a configuration or a file holds a value that is not allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class Contradiction(CallerFault):
    """Two fields are each fine alone but not together."""

    def __init__(self, first: str, second: str, why: str) -> None:
        super().__init__(f"{first} contradicts {second}: {why}")
        self.first = first
        self.second = second


class UnknownSession(CallerFault):
    """No open session has this id."""

    def __init__(self, session: str) -> None:
        super().__init__(f"session: {session!r} is not open here")
        self.session = session


class WrongState(CallerFault):
    """The request does not fit the session's present state."""


class TooLate(CallerFault):
    """A cue names a block that has already started; `earliest_block` is the first that it could take."""

    def __init__(self, block: int, earliest_block: int) -> None:
        super().__init__(f"cue: block {block} has already started; the earliest possible block is {earliest_block}")
        self.block = block
        self.earliest_block = earliest_block


class Lack(Enum):
    """What there was none left of."""

    PAGES = "pages"
    SLOTS = "slots"
    """Of decoders."""
    TIME = "time"
    """Of devices, to reserve for a live stream."""
    SESSIONS = "sessions"
    """So many are open as may be."""
    TURN = "turn"
    """Others were here first: parked sessions come back before anybody is let in, a lane is on its way."""
    QUEUE = "queue"
    """So many wait as may."""
    OBSERVERS = "observers"
    QUOTA = "quota"
    """Of the tenant."""


class NotAuthenticated(CallerFault):
    """The call shows no credentials, or none that hold; `kind` is a word for metrics, the text tells no secret."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class NotAllowed(CallerFault):
    """The caller is known, but may not do this."""


class NoCapacity(LongtakeError):
    """Nothing is wrong with the request, but what it needs is in use."""

    def __init__(self, reason: str, retry_after_s: float, lack: Lack) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.lack = lack


class QuotaUsed(NoCapacity):
    """What the caller's tenant may have is used up, whatever is free beside it."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason, retry_after_s, Lack.QUOTA)


class Unavailable(LongtakeError):
    """Something of ours that the request depends on was lost; trying again later may succeed."""


class ShuttingDown(Unavailable):
    """The server ends, and opens nothing any more."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class InternalFault(LongtakeError):
    """A promise of our own was broken."""


class UnknownPeer(InternalFault):
    """A message names a worker, a slot, a page or an op that this process does not know."""
