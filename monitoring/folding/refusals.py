"""Why an Open started nothing, in words that a metric can be labelled with."""

from __future__ import annotations

from enum import Enum

from longtake.core.errors import CallerFault, InternalFault, Lack, LongtakeError, NoCapacity, ShuttingDown, Unavailable


class Refusal(Enum):
    """The label `reason` of longtake_opens_refused_total."""

    PAGES = "pages"
    SLOTS = "slots"
    TIME = "time"
    SESSIONS = "sessions"
    TURN = "turn"
    QUEUE = "queue"
    QUOTA = "quota"
    DRAINING = "draining"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    INTERNAL = "internal"


_LACKS = {
    Lack.PAGES: Refusal.PAGES,
    Lack.SLOTS: Refusal.SLOTS,
    Lack.TIME: Refusal.TIME,
    Lack.SESSIONS: Refusal.SESSIONS,
    Lack.TURN: Refusal.TURN,
    Lack.QUEUE: Refusal.QUEUE,
    Lack.QUOTA: Refusal.QUOTA,
}
_FAMILIES: tuple[tuple[type[LongtakeError], Refusal], ...] = (
    (CallerFault, Refusal.INVALID),
    (ShuttingDown, Refusal.DRAINING),
    (Unavailable, Refusal.UNAVAILABLE),
    (InternalFault, Refusal.INTERNAL),
)
"""The first row whose family the error belongs to counts."""


def refusal_of(error: LongtakeError) -> Refusal:
    """Why `error` refuses an Open."""
    if isinstance(error, NoCapacity):
        return _LACKS.get(error.lack, Refusal.INTERNAL)
    return next((refusal for family, refusal in _FAMILIES if isinstance(error, family)), Refusal.INTERNAL)
