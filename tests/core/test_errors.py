"""Errors as plain data: what is told of an error can be compared and kept, and says what a program can use."""

from __future__ import annotations

import pytest

from longtake.core.effects import Refused, RequestRefused
from longtake.core.errors import (
    About,
    CallerFault,
    Clash,
    Contradiction,
    Declined,
    Fault,
    InternalFault,
    InvalidField,
    Lack,
    LongtakeError,
    Missed,
    NoCapacity,
    NotAllowed,
    NotAuthenticated,
    NotOpen,
    QuotaUsed,
    Refusal,
    ShuttingDown,
    TooLate,
    Unavailable,
    UnknownSession,
    WrongState,
    WrongValue,
)
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.work import SessionId

SESSION = SessionId("s")
USED = Scarcity(retry_after_s=60.0, shortage=Shortage(of="tenant", unit="streams", needed=1, free=0, limit=3))
ERRORS: tuple[tuple[LongtakeError, Refusal, About | None, bool], ...] = (
    (InvalidField("window", 0, "1 to 4"), Fault.INVALID, WrongValue(field="window", value="0", allowed="1 to 4"), True),
    (Contradiction("a = 1", "b = 2", "no"), Fault.INVALID, Clash(first="a = 1", second="b = 2"), True),
    (UnknownSession("x"), Fault.UNKNOWN_SESSION, NotOpen(session="x"), True),
    (WrongState("paused"), Fault.WRONG_STATE, None, True),
    (TooLate(2, 5), Fault.TOO_LATE, Missed(earliest_block=5), True),
    (NotAuthenticated("missing", "no token"), Fault.NO_CREDENTIALS, None, True),
    (NotAuthenticated("expired", "old token"), Fault.WRONG_CREDENTIALS, None, True),
    (NotAllowed("clients may not"), Fault.NOT_ALLOWED, None, True),
    (CallerFault("wrong"), Fault.INVALID, None, True),
    (NoCapacity("full", 2.5, Lack.PAGES), Lack.PAGES, Scarcity(retry_after_s=2.5), False),
    (QuotaUsed("used", USED), Lack.QUOTA, USED, False),
    (Unavailable("no worker"), Fault.UNAVAILABLE, None, False),
    (ShuttingDown(), Fault.DRAINING, None, False),
    (InternalFault("broken"), Fault.INTERNAL, None, False),
)  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "about", "callers"), ERRORS)
def test_a_problem_says_what_the_error_says(error: LongtakeError, kind: Refusal, about: object, callers: bool) -> None:
    problem = error.problem
    assert (problem.kind, problem.about, problem.is_callers) == (kind, about, callers)
    assert problem.message == str(error) and problem.is_callers == isinstance(error, CallerFault)


@pytest.mark.parametrize("error", [row[0] for row in ERRORS])
def test_whoever_raises_a_problem_again_says_the_same(error: LongtakeError) -> None:
    with pytest.raises(Declined) as caught:
        raise Declined(error.problem)
    assert caught.value.problem == error.problem and str(caught.value) == str(error)


def test_equal_errors_make_equal_effects() -> None:
    def refused(window: int) -> Refused:
        return Refused(session=SESSION, problem=InvalidField("open.window", window, "1 to 4").problem)

    def late(block: int) -> RequestRefused:
        return RequestRefused(session=SESSION, cue=None, problem=TooLate(block, 5).problem)

    assert refused(9) == refused(9) and hash(refused(9)) == hash(refused(9))
    assert refused(9) != refused(10)
    assert late(1) == late(1) != late(2)


@pytest.mark.parametrize(
    ("retry_after_s", "fast_instead", "told"),
    [
        (28.3, True, "full. Try again in 29 s, or choose pace fast."),
        (28.3, False, "full. Try again in 29 s."),
        (None, True, "full. Choose pace fast."),
        (None, False, "full"),
        (119.5, False, "full. Try again in 120 s."),
        (121.0, False, "full. Try again in 3 min."),
        (7201.0, False, "full. Try again in 3 h."),
    ],
)
def test_a_lack_of_room_says_what_to_do(retry_after_s: float | None, fast_instead: bool, told: str) -> None:
    scarcity = Scarcity(retry_after_s=retry_after_s, fast_instead=fast_instead)
    error = NoCapacity("full", scarcity, Lack.TIME)
    assert (error.problem.message, error.problem.about) == (told, scarcity)


def test_no_word_for_a_refusal_has_two_meanings() -> None:
    words = [refusal.value for refusal in (*Lack, *Fault)]
    assert len(set(words)) == len(words)
