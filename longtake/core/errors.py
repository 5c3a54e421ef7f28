"""Three families of errors (the caller's fault, no capacity, our fault), and the plain data that describes one.

Errors are raised and caught inside functions. Where somebody has to be told of one, by an effect or over the wire, its
`problem` goes, which can be compared, kept and written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from longtake.core.scarcity import Scarcity


class Lack(Enum):
    """What has run out."""

    PAGES = "pages"
    SLOTS = "slots"
    """No decoder slot is free."""
    TIME = "time"
    """The devices have no time left to reserve for a REALTIME stream."""
    SESSIONS = "sessions"
    """As many sessions are open as are allowed."""
    TURN = "turn"
    """Others come first: parked sessions get their places back before a new one is let in, or a lane is on its way."""
    QUEUE = "queue"
    """As many sessions wait as are allowed."""
    OBSERVERS = "observers"
    """As many observers watch as are allowed."""
    JOURNAL = "journal"
    """The server's memory for what sessions may be rebuilt from is spoken for."""
    QUOTA = "quota"
    """The tenant has used what it may have."""


class Fault(Enum):
    """What is wrong although nothing has run out."""

    INVALID = "invalid"
    """A field, or two fields together, ask for what cannot be."""
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_TOKEN = "unknown_token"
    """A token resumes nothing."""
    OUT_OF_RANGE = "out_of_range"
    """What was asked for is not kept any more."""
    WRONG_STATE = "wrong_state"
    TOO_LATE = "too_late"
    NO_CREDENTIALS = "no_credentials"
    WRONG_CREDENTIALS = "wrong_credentials"
    NOT_ALLOWED = "not_allowed"
    UNAVAILABLE = "unavailable"
    """Something of ours is missing and may come back."""
    DRAINING = "draining"
    """The server is shutting down."""
    INTERNAL = "internal"


Refusal = Lack | Fault
"""Why something is refused, in one word: the status of a call and the labels of metrics follow from it."""

CALLER_FAULTS = frozenset({
    Fault.INVALID, Fault.UNKNOWN_SESSION, Fault.UNKNOWN_TOKEN, Fault.OUT_OF_RANGE, Fault.WRONG_STATE, Fault.TOO_LATE,
    Fault.NO_CREDENTIALS, Fault.WRONG_CREDENTIALS, Fault.NOT_ALLOWED,
})  # fmt: skip
"""Whoever repeats such a request unchanged is refused again."""


# --- problems: errors as plain data ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongValue:
    """A field holds a value that is not allowed."""

    field: str
    value: str
    """The value as Python writes it."""
    allowed: str

    @property
    def description(self) -> str:
        """What is wrong with the field, without its name."""
        return f"{self.value} is not allowed; allowed: {self.allowed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TooOld(WrongValue):
    """A field names something that is no longer kept; what came later is."""

    least: int
    """The least number that is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongValues:
    """Several fields hold values that are not allowed."""

    fields: tuple[WrongValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two fields contradict each other."""

    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOpen:
    """The session that was asked for is not open."""

    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """The block that was asked for has started."""

    earliest_block: int
    """The first block that has not started."""


About = WrongValue | WrongValues | Clash | NotOpen | Missed | Scarcity


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why something cannot be, as plain data: equal errors make equal problems."""

    kind: Refusal
    message: str
    about: About | None = None
    """Details for programs."""

    @property
    def is_callers(self) -> bool:
        """Whether the request is wrong, and not the moment."""
        return self.kind in CALLER_FAULTS


# --- errors ---------------------------------------------------------------------------------------------------------


class LongtakeError(Exception):
    """Root of every error this project raises on purpose."""

    refusal: Refusal = Fault.INTERNAL
    about: About | None = None

    @property
    def problem(self) -> Problem:
        """The error as plain data."""
        return Problem(kind=self.refusal, message=str(self), about=self.about)


class Declined(LongtakeError):
    """A problem that came as plain data, raised where it arrived."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.refusal = problem.kind
        self.about = problem.about


class CallerFault(LongtakeError):
    """The caller asked for something that cannot be: fix the request, do not retry it."""

    refusal = Fault.INVALID


class InvalidField(CallerFault):
    """One field of a request, a configuration or a file holds a value that is not allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed
        self.about = self.wrong = WrongValue(field=field, value=repr(value), allowed=allowed)


class InvalidFields(CallerFault):
    """Several fields of one request hold values that are not allowed."""

    def __init__(self, errors: Sequence[InvalidField]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)
        self.about = WrongValues(fields=tuple(error.wrong for error in errors))


def refuse(wrong: Iterable[InvalidField]) -> None:
    """InvalidField, or InvalidFields with all of them, if any field is wrong."""
    found = tuple(wrong)
    if found:
        raise found[0] if len(found) == 1 else InvalidFields(found)


class Contradiction(CallerFault):
    """Two fields are each fine alone but not together."""

    def __init__(self, first: str, second: str, why: str) -> None:
        super().__init__(f"{first} contradicts {second}: {why}")
        self.why = why
        self.about: Clash | None = Clash(first=first, second=second)


class Contradictions(Contradiction):
    """Several pairs of fields are not fine together."""

    def __init__(self, found: Sequence[Contradiction]) -> None:
        CallerFault.__init__(self, "; ".join(map(str, found)))
        self.all = tuple(found)
        self.about = None


class UnknownSession(CallerFault):
    """No open session has this id."""

    refusal = Fault.UNKNOWN_SESSION

    def __init__(self, session: str) -> None:
        super().__init__(f"session: {session!r} is not open here")
        self.about = NotOpen(session=session)


class UnknownToken(CallerFault):
    """A token resumes nothing. Why (it never was one, was replaced, is another tenant's) is told to nobody."""

    refusal = Fault.UNKNOWN_TOKEN

    def __init__(self) -> None:
        super().__init__("open.resume_token: it resumes no session of yours")


class OutOfRange(CallerFault):
    """What is asked for is not kept any more; the text says from when on it is."""

    refusal = Fault.OUT_OF_RANGE


class SegmentGone(OutOfRange):
    """A segment can no longer be sent again; `oldest` is the first that can."""

    def __init__(self, cursor: int | None, oldest: int) -> None:
        super().__init__(f"open.cursor: segment {oldest} is the oldest that can still be sent")
        least = oldest - 1
        self.about = TooOld(field="open.cursor", value=repr(cursor), allowed=f"{least} or more", least=least)


class PastGone(OutOfRange):
    """A stream can no longer be forked at a block; `oldest` is the first at which it can."""

    def __init__(self, block: int, oldest: int) -> None:
        what = f"block {oldest} is the oldest at which the stream can still be forked, not {block}"
        super().__init__(f"open.fork.block: {what}")
        self.about = TooOld(field="open.fork.block", value=repr(block), allowed=f"{oldest} or more", least=oldest)


class WrongState(CallerFault):
    """The request does not fit the session's present state."""

    refusal = Fault.WRONG_STATE


class TooLate(CallerFault):
    """A cue names a block that has already started; `earliest_block` is the first that it could take."""

    refusal = Fault.TOO_LATE

    def __init__(self, block: int, earliest_block: int) -> None:
        super().__init__(f"cue: block {block} has already started; the earliest possible block is {earliest_block}")
        self.about = Missed(earliest_block=earliest_block)


class NotAuthenticated(CallerFault):
    """The call shows no credentials (`kind` is "missing"), or none that hold.

    `kind` is a word for the audit log, and the text tells no secret.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.refusal = Fault.NO_CREDENTIALS if kind == "missing" else Fault.WRONG_CREDENTIALS


class NotAllowed(CallerFault):
    """The caller is known, but may not do this."""

    refusal = Fault.NOT_ALLOWED


class NoCapacity(LongtakeError):
    """Nothing is wrong with the request, but what it needs is in use.

    The text is the reason, and then what to do: try again at some time, if that helps, or choose pace fast.
    """

    def __init__(self, reason: str, scarcity: Scarcity | float, lack: Lack) -> None:
        """A mere number is when to try again; 0: nothing is to be said of that."""
        about = scarcity if isinstance(scarcity, Scarcity) else Scarcity(retry_after_s=scarcity or None)
        super().__init__(f"{reason}. {about.advice}" if about.advice else reason)
        self.retry_after_s = about.retry_after_s
        self.shortage = about.shortage
        self.lack = lack
        self.refusal = lack
        self.about = about


class QuotaUsed(NoCapacity):
    """What the caller's tenant may have is used up, whatever is free beside it."""

    def __init__(self, reason: str, scarcity: Scarcity | float) -> None:
        super().__init__(reason, scarcity, Lack.QUOTA)


class Unavailable(LongtakeError):
    """Something of ours that the request depends on was lost; trying again later may succeed."""

    refusal = Fault.UNAVAILABLE


class ShuttingDown(Unavailable):
    """The server is shutting down and opens nothing any more."""

    refusal = Fault.DRAINING

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class InternalFault(LongtakeError):
    """A promise of our own was broken."""


class UnknownPeer(InternalFault):
    """A message names a worker, a slot, a page or an op that this process does not know."""
