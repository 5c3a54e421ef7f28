"""Free numbers, of pages or of slots: what costs nothing to have, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain


class FreeNumbers:
    """Those of the numbers 0, 1, 2, … below `size` that are free. The one that came back last is taken first.

    Numbers that were never taken are not written down, so a million of them is as quickly made as one.
    """

    __slots__ = ("_back", "_fresh", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._fresh = 0
        """This number and all above it were never taken."""
        self._back: list[int] = []

    def __len__(self) -> int:
        return self._size - self._fresh + len(self._back)

    def __iter__(self) -> Iterator[int]:
        return chain(self._back, range(self._fresh, self._size))

    def take(self) -> int:
        """Take one; IndexError if none is free. Fresh ones come in ascending order, so that they lie in one run."""
        if self._back:
            return self._back.pop()
        if self._fresh == self._size:
            raise IndexError("no number is free")
        self._fresh += 1
        return self._fresh - 1

    def give_back(self, number: int) -> None:
        """Let a number that was taken be free again."""
        self._back.append(number)
