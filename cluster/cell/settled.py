"""Settled steps: what a block took of a stream that sheds, on disk before anybody sees the block.

Theory of operation. A change of load is appended when it is settled, which is while its block is computed, so its
segment hardly ever waits for it. What the disk did not take is appended again, and the segment waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.cell.landing import Appender
from cluster.journal.writer import Reached
from cluster.journal.writes import WriteSteps
from longtake.core.adoption import StepsSettled
from longtake.core.errors import Unavailable
from longtake.core.work import SessionId


@dataclass(slots=True)
class _Change:
    """A change of load that is not known to be on disk."""

    write: WriteSteps
    number: int = 0
    """Under which it was appended; 0 if it is still to be."""


class Settled:
    """The changes of load of all sessions that are on their way to the disk. On the engine's loop."""

    def __init__(self, writer: Appender) -> None:
        self._writer = writer
        self._changes: dict[SessionId, list[_Change]] = {}

    def settled(self, effect: StepsSettled) -> None:
        """A session begins blocks under another load."""
        self._changes.setdefault(effect.session, []).append(_Change(WriteSteps(settled=effect)))
        self.append()

    def append(self) -> None:
        """Append what is not; of each session in order."""
        try:
            for change in (each for changes in self._changes.values() for each in changes if not each.number):
                change.number = self._writer.append(change.write)
        except Unavailable:
            return  # it is tried again with every tick

    def reached(self, reached: Reached) -> None:
        """The disk has come further."""
        for session, changes in list(self._changes.items()):
            for change in changes:
                if change.number in reached.failed:
                    change.number = 0
            left = [change for change in changes if not 0 < change.number <= reached.number]
            if left:
                self._changes[session] = left
            else:
                del self._changes[session]

    def before(self, session: SessionId, block: int) -> Iterator[tuple[WriteSteps, int]]:
        """What must be on disk before the segment of a block is told, with the number of each; 0: it has none yet."""
        for change in self._changes.get(session, ()):
            if change.write.settled.block <= block:
                yield change.write, change.number

    def forget(self, session: SessionId) -> None:
        """Nothing of a session has to be found any more."""
        self._changes.pop(session, None)
