"""Progress: how far each chain of one session has come.

Theory of operation. The ops of a chain run in the order of their blocks, so how far it has come is two numbers: before
`sent` every op of it was dispatched, before `done` every op is done. Three things do not fit numbers that only grow,
and stand beside them:

    skipped    a block may go without an op of a chain (it takes fewer steps than others); the chain passes over it
               once all that the op would have waited for is done
    replay     the ops that seal a lane's pages, or decode, run once more over blocks that are done, to build state that
               was lost, or to renew it with another prompt (sessions/renewing.py); they do not count as progress:
               nothing is emitted for them, and no boundary moves. Of a lane that was lost the blocks of the sinks come
               first, then a jump to as many blocks as the state remembers
    attempt    how often the op of a block was taken back: what an earlier attempt reports does not count

While a lane is replayed it begins nothing new; its other chains may go on, since their needs are done.

When a lane is lost (`lose`), its chains go back to what is known of them elsewhere: ops in flight are sent again, and
so are those whose outputs no one but the lost worker had. What ops of the lane would have taken from the lane itself
then comes from the journal, for all blocks that had it by then (`takes_journalled`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from longtake.core.errors import InternalFault
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Chain, Kind, Op, Returns
from longtake.core.sessions.replay import Replay, Replays, Stretch, last_of
from longtake.core.sessions.riding import Riding


class Progress:
    """What was sent and what is done, of every chain of a session; its size does not depend on the stream's length.

    Chains are named by their numbers in the graph. Ops that are reported are always the oldest of their chain in
    flight, because links are first in, first out.
    """

    __slots__ = (
        "_attempts",
        "_journalled",
        "_late",
        "_skipped",
        "again",
        "done",
        "graph",
        "in_flight",
        "last_block",
        "riding",
        "sent",
    )

    def __init__(self, graph: Graph, last_block: int | None = None) -> None:
        """`last_block` is the last of the stream, None while it is endless."""
        self.graph = graph
        self.last_block = last_block
        self.sent = list(graph.begun)
        """For each chain, a block: the ops of all blocks before it were dispatched or skipped."""
        self.done = list(graph.begun)
        """For each chain, a block: the ops of all blocks before it are done or skipped."""
        self.in_flight = 0
        """Ops that were sent and have not reported."""
        self._skipped: dict[int, frozenset[int]] = {}
        """For each block that is not done in every chain, the chains that have no op of it."""
        self.again = Replays()
        self._attempts: dict[tuple[int, int], int] = {}
        """How often an op was taken back, by chain and block; only of blocks that are not done in every chain."""
        self._late = 0
        """Ops in flight that were taken back."""
        self._journalled: dict[int, int] = {}
        """For lanes that were lost, a block: what earlier ones left in the lane itself is not there."""
        self.riding = None if graph.joint is None else Riding(self, graph.joint)
        """What is different if blocks step together; None if each goes for itself."""

    # --- what is next -----------------------------------------------------------------------------------------------

    def next(self, chain: int) -> int:
        """The block whose op of this chain is to be sent next; while the chain is replayed, that of the replay."""
        return self.again.next(chain, self.sent[chain]) if self.again else self.sent[chain]

    def candidates(self, chains: Iterable[int]) -> Iterator[tuple[Chain, int]]:
        """The chains among these, with their next block, whose next op waits only for ops that are sent or done."""
        graph = self.graph
        rows, clean = graph.chains, graph.clean_blocks
        if self.riding is not None:
            yield from self.riding.candidates(chains)
            return
        if self.again:
            for number in chains:
                replay, block = self.again.get(number), self.next(number)
                chain = graph.row(number, block)
                if (replay is None or not replay.waits) and all(
                    self.again.is_in_order(number, needed) or self.has_sent(needed, block - back)
                    for needed, back, _ in chain.needs
                ):
                    yield chain, block
            return
        sent = self.sent  # the same, without replays: this is asked after every event
        for number in chains:
            block = sent[number]
            chain = rows[number] if block >= clean else graph.row(number, block)
            for needed, back, _ in chain.needs:
                if sent[needed] <= block - back:
                    break
            else:
                yield chain, block

    def wants(self, chain: int, block: int) -> bool:
        """Whether the stream needs this op at all: not past its last block, and no commit that nobody will read."""
        last, commits = self.last_block, self.graph.chains[chain].kind is Kind.COMMIT
        return last is None or block < last + (not commits)

    def skipped(self, block: int) -> frozenset[int]:
        """The chains that have no op of a block that is not done in every chain."""
        return self._skipped.get(block, frozenset())

    def has_sent(self, chain: int, block: int) -> bool:
        """Whether the op was dispatched; while it is to be replayed, whether it was dispatched again."""
        if not self.again:
            return block < self.sent[chain]
        replay = self.again.get(chain)
        return block < self.sent[chain] if replay is None or not replay.covers(block) else replay.has_sent(block)

    def has_done(self, chain: int, block: int) -> bool:
        """Whether the op is done; while it is to be replayed, whether it is done again."""
        if not self.again:
            return block < self.done[chain]
        replay = self.again.get(chain)
        return block < self.done[chain] if replay is None or not replay.covers(block) else replay.has_done(block)

    def is_sent(self, op: Op) -> bool:
        """The same as `has_sent`, by the op."""
        return self.has_sent(self.graph.number_of(op), op.block)

    def is_replay(self, chain: int, block: int) -> bool:
        """Whether the op of this block runs once more, now or soon, though it was done before."""
        replay = self.again.get(chain) if self.again else None
        return replay is not None and replay.covers(block)

    def replayed_to(self, chain: int, block: int) -> int:
        """The block up to which ops of this chain run once more; `block` itself if its op does not."""
        replay = self.again.get(chain) if self.again else None
        return block if replay is None or not replay.covers(block) else replay.until

    def takes_journalled(self, chain: Chain, block: int) -> bool:
        """Whether an op that starts from what its lane keeps finds nothing there: it was lost with a worker."""
        is_lost = bool(self._journalled) and block < self._journalled.get(chain.lane or 0, 0)
        return is_lost if self.riding is None else self.riding.takes_journalled(chain, block)

    def attempt(self, chain: int, block: int) -> int:
        """How often the op was taken back; 0 for almost all ops."""
        return self._attempts.get((chain, block), 0) if self._attempts else 0

    # --- what happens -----------------------------------------------------------------------------------------------

    def mark_sent(self, chain: int) -> None:
        """Note that the next op of the chain was dispatched."""
        replay = self.again.get(chain)
        if replay is not None and not replay.is_sent:
            replay.sent += 1
        else:
            self.sent[chain] += 1
            if self._skipped:
                self._pass_over()
        self.in_flight += 1

    def mark_reported(self, chain: int, block: int, attempt: int = 0) -> bool:
        """Note that an op has reported; returns whether it counts, because it was not taken back meanwhile."""
        self.in_flight -= 1
        if attempt >= self.attempt(chain, block):
            return True
        self._late -= 1
        self._forget()
        return False

    def mark_done(self, chain: int, block: int) -> bool:
        """Note that an op which has reported, and counts, is done; returns whether that is progress and no replay."""
        replay = self.again.get(chain)
        if replay is not None and block == replay.blocks[replay.done]:
            replay.done += 1
            if replay.is_done:
                del self.again[chain]
            return False
        if block != self.done[chain]:
            raise InternalFault(f"block {block} of chain {chain} is done, but {self.done[chain]} is the oldest")
        self.done[chain] += 1
        if self._skipped or self._attempts:
            self._pass_over()
            self._forget()
        return True

    # --- what is not plain counting ---------------------------------------------------------------------------------

    def begin_at(self, block: int) -> None:
        """Begin as a fork, with everything before `block` done."""
        self.resume_at((block,) * len(self.sent))

    def resume_at(self, done: tuple[int, ...]) -> None:
        """Begin with each chain done so far, and nothing in flight."""
        self.sent, self.done = list(done), list(done)
        self.again.forget_from(0)
        self._journalled.clear()

    def skip(self, block: int, chains: Iterable[int]) -> None:
        """Note that `block`, of which nothing was sent, has no ops of these chains."""
        skipped = frozenset(chains)
        if any(sent > block for sent in self.sent) or skipped & {self.graph.first, self.graph.decodes}:
            raise InternalFault(f"block {block} has begun, or would lose its beginning or its end")
        self._skipped[block] = skipped
        self._pass_over()

    def replay(self, chain: int, reach: int, lead: int = 0) -> Replay | None:
        """Run the last `reach` ops that are done once more, those of the first `lead` blocks before them."""
        return self.run_again(chain, last_of(self.done[chain], reach, lead))

    def run_again(self, chain: int, stretches: Iterable[Stretch], *, is_renewal: bool = False) -> Replay | None:
        """Run these ops of a chain, of which none is in flight, once more; returns them, or None if there are none."""
        if self.sent[chain] != self.done[chain] or chain in self.again:
            raise InternalFault(f"chain {chain}, sent to {self.sent[chain]}, cannot be replayed")
        if found := tuple(stretch for stretch in stretches if stretch.blocks):
            self.again[chain] = Replay(found, is_renewal=is_renewal)
        return self.again.get(chain)

    def lose(self, chains: Iterable[int]) -> None:
        """Go back, in these chains of one lane (or in that of decodes), to what is known of them elsewhere.

        Ops in flight do not count, whether or not they will still report: their workers have said so before.
        """
        rows = [self.graph.chains[number] for number in chains]
        if self.riding is not None:
            self.riding.carried()
        known = min((self.done[row.number] for row in rows if row.returns.are_sent), default=None)
        for row in rows:
            self.again.pop(row.number, None)
            if row.returns is Returns.KEPT and known is not None:  # nobody else has its outputs
                self.done[row.number] = min(self.done[row.number], known)
            self.sent[row.number] = self.done[row.number]
            if row.lane is not None and row.kind is Kind.DENOISE:
                self._journalled[row.lane] = max(self._journalled.get(row.lane, 0), self.done[row.number])
        for lane in {row.lane for row in rows if row.lane is not None}:
            self.again.lose(lane, self.done[self.graph.begins[lane]])

    def take_back(self, block: int) -> None:
        """Take back `block` and all later ones: their ops are sent again, and those in flight do not count."""
        if self.again:
            raise InternalFault(f"block {block} cannot be taken back while blocks before it are replayed")
        for chain, sent in enumerate(self.sent):
            for taken in range(block, sent):
                if chain not in self.skipped(taken):
                    self._attempts[chain, taken] = self._attempts.get((chain, taken), 0) + 1
                    self._late += taken >= self.done[chain]
        self._skipped = {known: chains for known, chains in self._skipped.items() if known < block}
        self.again.forget_from(block)
        self.sent = [min(sent, block) for sent in self.sent]
        self.done = [min(done, block) for done in self.done]

    def lose_all_but(self, lanes: Collection[int], *, slot: bool) -> None:
        """The same for all lanes but these, and for the decodes unless `slot`."""
        for lane, chains in enumerate(self.graph.in_lane):
            if lane not in lanes:
                self.lose(chains)
        if self.riding is not None:
            self.riding.carried()
        if not slot:
            self.lose((self.graph.decodes,))

    def rewind(self, chain: int, block: int) -> None:
        """Go back to `block`, which is before what is done, in a chain of which nothing is in flight that counts."""
        self.again.pop(chain, None)
        self.done[chain] = self.sent[chain] = min(self.done[chain], block)

    def disown(self, chain: int, block: int) -> None:
        """Note that what an op in flight will report does not count."""
        self._attempts[chain, block] = self._attempts.get((chain, block), 0) + 1
        self._late += 1

    def _pass_over(self) -> None:
        """Count skipped ops as sent (or done) as soon as what they would have needed is sent (or done)."""
        moved = True
        while moved:
            moved = False
            for chain in self.graph.chains:
                number, skips = chain.number, self._skipped
                for counts, has in ((self.sent, self.has_sent), (self.done, self.has_done)):
                    block = counts[number]
                    if number in skips.get(block, ()) and all(
                        has(needed, block - back) for needed, back, _ in chain.needs
                    ):
                        counts[number] += 1
                        moved = True

    def _forget(self) -> None:
        """Drop what is known of blocks that are done in every chain."""
        oldest = min([*self.done, *(replay.oldest for replay in self.again.values())])
        self._skipped = {block: skipped for block, skipped in self._skipped.items() if block >= oldest}
        if not self._late:
            self._attempts = {key: count for key, count in self._attempts.items() if key[1] >= oldest}

    # --- what others ask --------------------------------------------------------------------------------------------

    @property
    def next_block(self) -> int:
        """The first block whose D(0, ·) is not dispatched: the earliest a cue can take."""
        return self.sent[self.graph.first]

    @property
    def emitted(self) -> int:
        """Number of the next segment to leave."""
        return self.done[self.graph.decodes]

    @property
    def is_even(self) -> bool:
        """Whether every block begun is done to the last op that can be done now, with nothing in flight."""
        is_even = len(set(self.done)) == 1 if self.riding is None else self.riding.is_even
        return is_even and not self.in_flight and not self.again

    @property
    def is_whole(self) -> bool:
        """Whether no lane and no slot is being built again."""
        return not self.again

    def replays(self, lane: int) -> bool:
        """Whether the pages of this lane are being built again, or renewed."""
        return self.graph.sealing[lane] in self.again

    def left_to_replay(self, chain: int) -> int:
        """How many ops of the chain are still to be done once more."""
        return self.again[chain].left if chain in self.again else 0

    def boundary(self, lane: int) -> int | None:
        """The block that the lane begins next, if all its ops of the blocks before are done; None inside a block."""
        if self._late or self.replays(lane):
            return None
        if self.riding is not None:
            return self.riding.boundary
        counts = {count for chain in self.graph.in_lane[lane] for count in (self.sent[chain], self.done[chain])}
        return counts.pop() if len(counts) == 1 else None

    @property
    def oldest_block(self) -> int:
        """The oldest block of which an op that the stream needs is still to be done, or to be done once more."""
        return min([self.oldest_new_block, *(replay.oldest for replay in self.again.values())])

    @property
    def oldest_new_block(self) -> int:
        """The same without what is to be done once more."""
        return min((block for chain, block in enumerate(self.done) if self.wants(chain, block)), default=self.emitted)
