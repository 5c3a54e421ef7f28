"""A replay: which ops of one chain run once more, and how far that has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Replay:
    """The ops of one chain that run again: of the blocks before `lead`, then of those from `start` up to `until`."""

    lead: int
    start: int
    until: int
    sent: int = 0
    """The block that is sent next; `until` when all are."""
    done: int = 0
    """The same of what is done."""

    def __post_init__(self) -> None:
        self.sent = self.done = self._or_start(0)

    def after(self, block: int) -> int:
        """The block that comes after this one."""
        return self._or_start(block + 1)

    def covers(self, block: int) -> bool:
        """Whether the op of this block runs again."""
        return block < self.lead or self.start <= block < self.until

    @property
    def left(self) -> int:
        """How many ops are still to be done once more."""
        return self.until - max(self.done, self.start) + max(0, self.lead - self.done)

    def _or_start(self, block: int) -> int:
        return block if block < self.lead or block > self.start else self.start
