"""A replay: which ops of one chain run once more, and how far that has come.

Theory of operation. A replay is a list of stretches of blocks, each in ascending order. A block may be in several of
them: a rebuild may need what a renewal once made of it, and then the block itself. Therefore such a stretch begins when
all ops of those before are done, and how far a replay has come is a number of ops and not a block. What waits for a
block waits for the last of its ops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.recipe.renewals import Renewal


class Stretch(NamedTuple):
    """Blocks that are done once more, one after the other."""

    blocks: range
    renewal: Renewal | None = None
    """What they belong to, if they are committed anew with another conditioning than their own."""

    @property
    def is_joint(self) -> bool:
        """Whether they are one dispatch."""
        return self.renewal is not None and self.renewal.is_joint


def last_of(until: int, reach: int, lead: int = 0) -> tuple[Stretch, ...]:
    """The last `reach` blocks before `until`, those of the first `lead` ones before them."""
    start = max(0, until - reach)
    return (Stretch(range(lead)), Stretch(range(start, until))) if lead < start else (Stretch(range(until)),)


@dataclass(slots=True)
class Replay:
    """The ops of one chain that run again; there is at least one."""

    stretches: tuple[Stretch, ...]
    is_renewal: bool = False
    """Whether nothing was lost: a prompt changes."""
    sent: int = 0
    """How many of the ops were sent."""
    done: int = 0
    """The same of what is done."""
    blocks: tuple[int, ...] = field(init=False)
    """The blocks of the ops, in order."""
    _last: dict[int, int] = field(init=False)
    """The number of the last op of each block."""
    _starts: dict[int, Stretch] = field(init=False)
    """The stretches, by the numbers of their first ops."""
    _is_mixed: bool = field(init=False)
    """Whether it is not the same for all ops how they are done."""

    def __post_init__(self) -> None:
        self.blocks = tuple(block for stretch in self.stretches for block in stretch.blocks)
        self._last = {block: number for number, block in enumerate(self.blocks)}
        self._starts, number = {}, 0
        for stretch in self.stretches:
            self._starts[number] = stretch
            number += len(stretch.blocks)
        self._is_mixed = len(self.stretches) > 1 and any(stretch.renewal for stretch in self.stretches)

    @property
    def is_sent(self) -> bool:
        """Whether all ops were sent."""
        return self.sent == len(self.blocks)

    @property
    def is_done(self) -> bool:
        """Whether all ops are done."""
        return self.done == len(self.blocks)

    @property
    def next(self) -> int:
        """The block of the op that is sent next; not all were."""
        return self.blocks[self.sent]

    @property
    def oldest(self) -> int:
        """The oldest block of which an op is still to be done; not all are. The reference has the prompt of block 0."""
        return max(0, min(self.blocks[self.done :]))

    @property
    def until(self) -> int:
        """The block after the last one."""
        return self.blocks[-1] + 1

    @property
    def waits(self) -> bool:
        """Whether the next op begins a stretch, and those before are not all done."""
        return self._is_mixed and self.sent in self._starts and self.done < self.sent

    @property
    def stretch(self) -> Stretch:
        """The stretch of the op that was sent last, or of the one that is sent next if all others are done."""
        at = self.sent - (self.done < self.sent)
        return self._starts[max((start for start in self._starts if start <= at), default=0)]

    def covers(self, block: int) -> bool:
        """Whether the op of this block runs again."""
        return block in self._last

    def has_sent(self, block: int) -> bool:
        """Whether the op of this block, which runs again, was sent for the last time."""
        return self._last[block] < self.sent

    def has_done(self, block: int) -> bool:
        """Whether it is done for the last time."""
        return self._last[block] < self.done

    @property
    def left(self) -> int:
        """How many ops are still to be done once more."""
        return len(self.blocks) - self.done


class Replays(dict[int, Replay]):
    """The replays of a session, by the chains whose ops they are."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed: dict[int, int] = {}
        """The block before which each lane was renewed last, or is being renewed; it may not have begun that yet."""

    def has_renewed(self, block: int) -> bool:
        """Whether any lane was renewed before this block, or is being: then the cue there is in effect."""
        return block in self.renewed.values()

    def forget_from(self, block: int) -> None:
        """Blocks from this one on are begun again, and nothing is replayed any more."""
        self.clear()
        self.renewed = {lane: known for lane, known in self.renewed.items() if known < block}

    def lose(self, lane: int, begun: int) -> None:
        """A lane is lost that has begun the blocks before `begun`; it is renewed again if its block is none of them."""
        if self.renewed.get(lane, -1) >= begun:
            del self.renewed[lane]

    def next(self, chain: int, otherwise: int) -> int:
        """The block of the chain's op that is sent next, if one is left that runs again."""
        replay = self.get(chain)
        return otherwise if replay is None or replay.is_sent else replay.next

    def is_in_order(self, chain: int, needed: int) -> bool:
        """Whether what the next op of a chain needs of this chain comes before it anyway: it is a replay of its own."""
        replay = self.get(chain) if chain == needed else None
        return replay is not None and not replay.is_sent

    def renewal(self, chain: int, block: int) -> Renewal | None:
        """What the op of this block, which is sent next or was sent last, commits anew; None if it is none of these."""
        replay = self.get(chain)
        return None if replay is None or block not in replay.stretch.blocks else replay.stretch.renewal

    def joint(self, chain: int) -> range | None:
        """The blocks whose ops, of which none was sent, are sent together in the order of the blocks; else None."""
        replay = self.get(chain)
        return None if replay is None or replay.is_sent or not replay.stretch.is_joint else replay.stretch.blocks

    def woken_by(self, op: Op, graph: Graph) -> tuple[int, ...]:
        """The numbers of the chains whose next op may have waited until `op` was done, be it one that runs again."""
        return (*graph.woken_by(op), graph.number_of(op)) if self else graph.woken_by(op)

    def renews(self, chain: int) -> bool:
        """Whether ops of the chain run once more because a prompt changes, and nothing was lost."""
        replay = self.get(chain)
        return replay is not None and replay.is_renewal
