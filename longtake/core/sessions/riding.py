"""Riding: how far a stream has come whose blocks step together, and which ops go next, all of them or none.

Theory of operation. The ops of one iteration (recipe/joint.py) are sent together and reported together. So between two
dispatches what was sent of each chain, and what is done, is what it is between two iterations, and which one comes next
follows from the oldest block that is not finished. Of its ops the first denoise op stands for all: it alone is offered.

Not every worker has proved that a commit gives the same bits beside denoise ops as it does alone, as it is when a lane
is rebuilt (`Ability.joint_ops`). On such a worker it goes alone here as well, right before the others of its iteration.

What was lost, or moved, or parked between two iterations is the pages; the latents of the live blocks are in the
journal. So ops of blocks that were live then start once from there, and later ones from the lane again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from longtake.core.recipe.graph import Graph
from longtake.core.recipe.joint import Joint
from longtake.core.recipe.ops import Chain
from longtake.core.work import Ability


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

    __slots__ = ("_carried", "_joint", "_of", "commits_apart")

    def __init__(self, of: Counted, joint: Joint) -> None:
        self._of = of
        self._joint = joint
        self._carried: tuple[int, ...] = ()
        """How much of each chain was done when the lane was last lost or carried elsewhere: what ops had left beside
        its pages by then is not there. Empty if it never was."""
        self.commits_apart = False
        """Whether commits go alone, because of the worker that the lane is on."""

    def ride(self, ability: Ability) -> None:
        """Note that the lane is on a worker that can do this."""
        self.commits_apart = ability.joint_ops < self._joint.live

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
        return tuple([rider for rider in ops if of.wants(*rider) and not self._goes_alone(rider[0])])

    def _goes_alone(self, chain: int) -> bool:
        """Whether the ops of this chain are never one of several."""
        return chain == self._of.graph.decodes or (self.commits_apart and chain in self._of.graph.sealing)

    @property
    def _awaits_commit(self) -> bool:
        """Whether a commit must be sent before the ops that go together next, because it goes alone."""
        of, (sealing,) = self._of, self._of.graph.sealing
        block = of.sent[sealing]
        is_due = block < self._joint.begun(self.iteration + 1, self._joint.steps)
        return self.commits_apart and is_due and of.wants(sealing, block)

    def candidates(self, chains: Iterable[int]) -> Iterator[tuple[Chain, int]]:
        """As `Progress.candidates`, but of the ops that go together one stands for all."""
        of, graph = self._of, self._of.graph
        (sealing,) = graph.sealing
        for number in chains:
            block, chain = of.next(number), graph.chains[number]
            is_apart = self._goes_alone(number) or of.is_replay(number, block)
            if is_apart and all(of.has_sent(needed, block - back) for needed, back, _ in chain.needs):
                yield chain, block
        ops = () if of.is_replay(sealing, of.next(sealing)) or self._awaits_commit else self.ops
        if ops and not set(graph.in_lane[0]).isdisjoint(chains):
            number, block = next(rider for rider in ops if rider[0] != sealing)
            yield graph.chains[number], block

    def is_one_of_them(self, chain: int, block: int) -> bool:
        """Whether an op that is next in its chain goes together with others, and not for itself."""
        return not self._goes_alone(chain) and not self._of.is_replay(chain, block)

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
