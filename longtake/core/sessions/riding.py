"""Riding: how far a stream has come whose blocks step together, and which ops go next, all of them or none.

Theory of operation. The ops of one iteration (recipe/joint.py) are sent together and reported together. So between two
dispatches what was sent of each chain, and what is done, is what it is between two iterations, and which one comes next
follows from the oldest block that is not finished. Of its ops the first denoise op stands for all: it alone is offered.

What was lost, or moved, or parked between two iterations is the pages; the latents of the live blocks are in the
journal. So ops of blocks that were live then start once from there, and later ones from the lane again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from longtake.core.recipe.graph import Graph
from longtake.core.recipe.joint import Joint
from longtake.core.recipe.ops import Chain


class Counted(Protocol):
    """What is counted of a session; longtake.core.sessions.progress.Progress has it."""

    graph: Graph
    last_block: int | None
    sent: list[int]
    done: list[int]

    @property
    def next_block(self) -> int: ...
    def next(self, chain: int) -> int: ...
    def wants(self, chain: int, block: int) -> bool: ...
    def has_sent(self, chain: int, block: int) -> bool: ...
    def is_replay(self, chain: int, block: int) -> bool: ...


class Riding:
    """The part of a session's progress that is another where blocks step together."""

    __slots__ = ("_carried", "_joint", "_of")

    def __init__(self, of: Counted, joint: Joint) -> None:
        self._of = of
        self._joint = joint
        self._carried: tuple[int, ...] = ()
        """How much of each chain was done when the lane was last lost or carried elsewhere: what ops had left beside
        its pages by then is not there. Empty if it never was."""

    @property
    def iteration(self) -> int:
        """The one that is to be sent next; one behind the last at the end of a stream."""
        graph, sent = self._of.graph, self._of.sent
        block = sent[graph.last]  # the oldest that has steps left
        step = next(step for step in range(graph.step_count) if sent[graph.first + step] <= block)
        return self._joint.iteration(step, block)

    @property
    def ops(self) -> tuple[tuple[int, int], ...]:
        """Chain and block of the ops that go together next, the oldest block first; none once all are finished."""
        of = self._of
        if of.last_block is not None and of.sent[of.graph.last] > of.last_block:
            return ()
        ops = of.graph.taking_part(self.iteration, of.last_block)
        return tuple([rider for rider in ops if of.wants(*rider)])

    def candidates(self, chains: Iterable[int]) -> Iterator[tuple[Chain, int]]:
        """As `Progress.candidates`, but of the ops that go together one stands for all."""
        of, graph = self._of, self._of.graph
        (sealing,) = graph.sealing
        for number in chains:
            block, chain = of.next(number), graph.chains[number]
            is_apart = number == graph.decodes or of.is_replay(number, block)
            if is_apart and all(of.has_sent(needed, block - back) for needed, back, _ in chain.needs):
                yield chain, block
        ops = () if of.is_replay(sealing, of.next(sealing)) else self.ops
        if ops and not set(graph.in_lane[0]).isdisjoint(chains):
            number, block = next(rider for rider in ops if rider[0] != sealing)
            yield graph.chains[number], block

    def is_one_of_them(self, chain: int, block: int) -> bool:
        """Whether an op that is next in its chain goes together with others, and not for itself."""
        return chain != self._of.graph.decodes and not self._of.is_replay(chain, block)

    @property
    def paced_block(self) -> int:
        """The block that could be finished next once the next iteration is done."""
        return max(0, self.iteration // self._joint.lag - self._joint.ahead)

    @property
    def is_even(self) -> bool:
        """Whether all finished blocks are decoded: those that are live wait for the next one to begin."""
        return self._of.done[self._of.graph.decodes] == self._of.done[self._of.graph.last]

    @property
    def boundary(self) -> int | None:
        """The block that begins next, if nothing of the lane is in flight."""
        of = self._of
        return of.next_block if all(of.sent[chain] == of.done[chain] for chain in of.graph.in_lane[0]) else None

    def carried(self) -> None:
        """Note that the pages of the lane are lost, or elsewhere, and what it kept beside them is not there."""
        self._carried = tuple(self._of.done)

    def takes_journalled(self, chain: Chain, block: int) -> bool:
        """Whether the op starts from what was put out before the lane was lost or carried."""
        carried = self._carried
        return bool(carried) and any(need.is_input and block < carried[need.chain] for need in chain.needs)
