"""Joint ops: the blocks of one stream that step together, and which of them take part in which iteration.

Theory of operation. At level STAGGERED a block begins when the one before it has done L of its S steps. So block b does
D(s, b) in iteration i = b L + s, and in the iteration behind its last step C(b), which seals its pages:

    i    0       1       2       3       4       5       6          S = 4, L = 2
         D(0,0)  D(1,0)  D(2,0)  D(3,0)  C(0)
                         D(0,1)  D(1,1)  D(2,1)  D(3,1)  C(1)
                                         D(0,2)  D(1,2)  D(2,2)

What an op reads of a block that is not finished was written in the same iteration (sources.py), so the ops of an
iteration are one forward: in each layer all of them write their keys and values before any reads. Those of a block that
is not finished are scratch, written anew in each iteration before they are read. So between two iterations a stream is
nothing but its sealed pages and the latents of its live blocks: there it can be parked, moved and rebuilt, and only
there it can be held. What holds a block back holds the older ones as well, or they would be read at other steps.

Causally an op reads no block after its own, and a joint op gives the bits that its ops give one after the other, the
oldest block first. Both ways, a denoise op reads every block that has begun; a commit never does, so sealed pages
follow from finished latents alone and are rebuilt from them whatever came after.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """How the blocks of one recipe step together."""

    steps: int
    """S: steps of a block."""
    lag: int
    """L: steps that a block has done when the next one begins, 1 to S."""
    both_ways: bool
    """Whether denoise ops read blocks after their own, too."""

    @property
    def live(self) -> int:
        """The most blocks that take part in one iteration."""
        return self.steps // self.lag + 1

    @property
    def ahead(self) -> int:
        """How many blocks after a block have begun when that is finished."""
        return (self.steps - 1) // self.lag

    def iteration(self, step: int, block: int) -> int:
        """The iteration in which a block does a step; its commit is step S."""
        return block * self.lag + step

    def begun(self, iteration: int, step: int) -> int:
        """How many blocks of an endless stream have done a step, or S: their commit, before an iteration."""
        return max(0, -(-(iteration - step) // self.lag))

    def taking_part(self, iteration: int) -> range:
        """The blocks that take part in an iteration of an endless stream, the oldest first."""
        return range(max(0, -(-(iteration - self.steps) // self.lag)), iteration // self.lag + 1)
