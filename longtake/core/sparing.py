"""Lines that anybody can cause again and again: so many of them in a while, and of the others the number."""

from __future__ import annotations


class Sparing:
    """Says of each line whether it may be written."""

    __slots__ = ("_count", "_most", "_period", "_period_s")

    def __init__(self, most: int, period_s: float) -> None:
        """At most `most` in each `period_s` seconds."""
        self._most = most
        self._period_s = period_s
        self._period = 0.0
        self._count = 0

    def left_out(self, now_s: float) -> int | None:
        """How many were left out before this one, which may be written; None if it may not.

        They are told once, with the first line of the next period.
        """
        period = now_s // self._period_s
        before = 0
        if period != self._period:
            before = max(0, self._count - self._most)
            self._period, self._count = period, 0
        self._count += 1
        return before if self._count <= self._most else None


def with_left_out(text: str, count: int) -> str:
    """The line, with the number of those before it that were left out, if there were any."""
    return f"{text} (and {count} more of the kind before, left out)" if count else text
