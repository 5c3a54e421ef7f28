"""Loads: under which load each block of a session was begun, which decides what steps it takes.

Theory of operation. The load of a block is settled when its first op is dispatched, and never changes: what was shown
of it once is made again with the same steps, after a loss, by a fork, or by another engine. Only changes are kept, as
cues are: from some block on this load. A session whose recipe has nothing to shed has the load 0 for ever, and no
change.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(slots=True)
class Loads:
    """The loads of a session's blocks; its size depends on how far back blocks may be made again."""

    changes: list[tuple[int, int]] = field(default_factory=list)
    """From this block on, this load: in ascending order, no two in sequence the same; before the first the load is 0,
    if it is known."""
    settled: int = 0
    """The loads of the blocks before this one are settled."""
    known_from: int = 0
    """The loads of blocks from this one on are known, as far as they are settled."""

    def at(self, block: int) -> int:
        """The load of a block; that of the newest one for those that are not begun."""
        if not self.changes:  # nearly always, and asked for with every op
            return 0
        place = bisect_right(self.changes, block, key=lambda change: change[0])
        return self.changes[place - 1][1] if place else 0

    @property
    def newest(self) -> int | None:
        """The block of the newest change; None if there was none."""
        return self.changes[-1][0] if self.changes else None

    def settle(self, block: int, load: int) -> bool:
        """Settle the load of the next block; returns whether it is another one than that of the block before."""
        self.settled = max(self.settled, block + 1)
        if load == self.at(block):
            return False
        self.changes.append((block, load))
        return True

    def settle_to(self, block: int) -> None:
        """Settle the loads of all blocks before this one as they are known: they may have been shown."""
        self.settled = max(self.settled, block)

    def before(self, block: int) -> Loads:
        """What a fork at `block` has of these."""
        kept = [change for change in self.changes if change[0] < block]
        return Loads(changes=kept, settled=block, known_from=self.known_from)

    def forget_before(self, block: int) -> None:
        """Drop what only blocks before this one need."""
        place = bisect_right(self.changes, block, key=lambda change: change[0])
        if place > 1:
            del self.changes[: place - 1]
            self.known_from = max(self.known_from, self.changes[0][0])
