"""Progress alone: what counts as sent and done, with skipped ops, replays, and ops that are taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import InternalFault
from longtake.core.recipe.context import Level
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions.progress import Progress
from tests.core.support.parts import recipe
from tests.core.support.recipes import APART

LEVELS = st.sampled_from(APART)
LAST = 9


class Runner:
    """Sends and finishes ops in any order that their needs allow, and keeps a list of what it did."""

    def __init__(self, level: Level, seed: int, last_block: int = LAST) -> None:
        self.graph = Graph(recipe(level))
        self.progress = Progress(self.graph, last_block)
        self.draw = random.Random(seed)
        self.flying: list[tuple[int, int, int]] = []
        self.ran: list[tuple[Op, int]] = []
        """Ops that reported and counted, with their attempt."""
        self.emitted: list[int] = []

    def runnable(self) -> list[tuple[int, int]]:
        """Chains and blocks whose needs are done, as the dispatcher would find them."""
        progress = self.progress
        return [
            (chain.number, block)
            for chain, block in progress.candidates(self.graph.numbers)
            if progress.wants(chain.number, block)
            and all(block < back or progress.has_done(needed, block - back) for needed, back, _ in chain.needs)
        ]

    def send(self) -> bool:
        """Send any op that can run."""
        found = self.runnable()
        if not found:
            return False
        chain, block = self.draw.choice(found)
        assert self.progress.next(chain) == block
        self.flying.append((chain, block, self.progress.attempt(chain, block)))
        self.progress.mark_sent(chain)
        return True

    def finish(self) -> None:
        """The oldest op of any chain in flight reports."""
        chain = self.draw.choice(sorted({chain for chain, _, _ in self.flying}))
        flown = next(flight for flight in self.flying if flight[0] == chain)
        self.flying.remove(flown)
        _, block, attempt = flown
        if not self.progress.mark_reported(chain, block, attempt):
            return
        self.ran.append((self.graph.op(chain, block), attempt))
        if self.progress.mark_done(chain, block) and chain == self.graph.decodes:
            self.emitted.append(block)

    def run(self, steps: int | None = None) -> None:
        """Go on until nothing is left to do, or for so many turns."""
        while steps is None or steps > 0:
            sent = self.draw.random() < 0.6 and self.send()
            if not sent and self.flying:
                self.finish()
            elif not sent and not self.send():
                return
            assert self.progress.in_flight == len(self.flying)
            steps = None if steps is None else steps - 1

    def land(self) -> None:
        """Everything in flight reports."""
        while self.flying:
            self.finish()


def wanted(graph: Graph, blocks: range, last: int = LAST) -> set[Op]:
    """Every op of a stream that ends with block `last`: nobody reads the commits of that block."""
    return {
        graph.op(chain.number, block)
        for chain in graph.chains
        for block in blocks
        if chain.kind is not Kind.COMMIT or block < last
    }


@settings(deadline=None)
@given(level=LEVELS, seed=st.integers(0, 2**32))
def test_every_op_runs_once_and_every_segment_leaves_in_order(level: Level, seed: int) -> None:
    runner = Runner(level, seed)
    runner.run()
    assert [attempt for _, attempt in runner.ran] == [0] * len(runner.ran)
    ops = [op for op, _ in runner.ran]
    assert len(ops) == len(set(ops)) and set(ops) == wanted(runner.graph, range(LAST + 1))
    assert runner.emitted == list(range(LAST + 1))
    position = {op: number for number, op in enumerate(ops)}
    assert all(position[need] < position[op] for op in ops for need in runner.graph.needs(op))


def needs_without(skipped: set[Op], op: Op, graph: Graph) -> Iterator[Op]:
    """What an op waits for, where some are skipped: in place of one of those, what it would have waited for."""
    for need in graph.needs(op):
        if need in skipped:
            yield from needs_without(skipped, need, graph)
        else:
            yield need


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_block_goes_without_the_ops_that_it_skips_and_everybody_else_goes_on(seed: int, data: st.DataObject) -> None:
    """Level CLEAN: a block may take fewer steps; what waits for a skipped step waits for the one before it."""
    runner = Runner(Level.CLEAN, seed)
    graph = runner.graph
    middle = [graph.number_of(Op(Kind.DENOISE, step, 0)) for step in range(1, graph.step_count)]
    skips = {}
    for block in sorted(data.draw(st.sets(st.integers(0, LAST), max_size=4))):
        skips[block] = data.draw(st.sets(st.sampled_from(middle[:-1]), min_size=1))
        runner.progress.skip(block, skips[block])
    runner.run()
    skipped = {graph.op(chain, block) for block, chains in skips.items() for chain in chains}
    assert {op for op, _ in runner.ran} == wanted(graph, range(LAST + 1)) - skipped
    assert len(runner.ran) == len(wanted(graph, range(LAST + 1))) - len(skipped)
    position = {op: number for number, (op, _) in enumerate(runner.ran)}
    for op, place in position.items():
        assert all(position[need] < place for need in needs_without(skipped, op, graph)), op
    assert runner.emitted == list(range(LAST + 1))


def test_a_block_that_has_begun_cannot_skip_and_none_goes_without_beginning_or_end() -> None:
    runner = Runner(Level.CLEAN, 0)
    second = runner.graph.number_of(Op(Kind.DENOISE, 1, 0))
    assert runner.send()
    for block, chains in ((0, {second}), (3, {runner.graph.first}), (3, {runner.graph.decodes})):
        with pytest.raises(InternalFault, match="has begun, or would lose its beginning or its end"):
            runner.progress.skip(block, chains)
    runner.progress.skip(1, {second})
    assert second in runner.progress.skipped(1) and second not in runner.progress.skipped(2)


@settings(deadline=None)
@given(level=LEVELS, seed=st.integers(0, 2**32), back=st.integers(1, 4), turns=st.integers(5, 60))
def test_a_replay_runs_what_seals_a_lane_again_and_emits_nothing_twice(
    level: Level, seed: int, back: int, turns: int
) -> None:
    runner = Runner(level, seed)
    runner.run(turns)
    runner.land()
    progress, graph = runner.progress, runner.graph
    lane = runner.draw.randrange(graph.lane_count)
    chain = graph.sealing[lane]
    blocks = range(max(0, progress.done[chain] - back), progress.done[chain])
    before, emitted, next_block = list(runner.ran), list(runner.emitted), progress.next_block
    progress.replay(chain, back)
    if blocks:
        assert progress.replays(lane) and progress.boundary(lane) is None and not progress.is_even
        assert progress.oldest_block <= blocks.start
        assert not progress.has_done(chain, blocks[-1])
    assert (progress.next_block, progress.emitted) == (next_block, len(emitted)), "nothing goes back for others"
    runner.run()
    again = [op for op, _ in runner.ran[len(before) :]]
    assert [op for op in again if op in {graph.op(chain, block) for block in blocks}] == [
        graph.op(chain, block) for block in blocks
    ], "each once, in order"
    new = wanted(graph, range(LAST + 1)) - {op for op, _ in before}
    assert sorted(map(str, again)) == sorted(map(str, [*new, *(graph.op(chain, block) for block in blocks)]))
    assert runner.emitted == list(range(LAST + 1))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), back=st.integers(1, 5))
def test_a_decoder_is_replayed_without_emitting(seed: int, back: int) -> None:
    runner = Runner(Level.OUTPUT, seed)
    runner.run(60)
    runner.land()
    chain, done = runner.graph.decodes, runner.progress.done[runner.graph.decodes]
    emitted = list(runner.emitted)
    runner.progress.replay(chain, back)
    while runner.progress.next(chain) < done:
        before = runner.progress.next(chain)
        runner.progress.mark_sent(chain)
        assert runner.progress.mark_reported(chain, before)
        assert not runner.progress.mark_done(chain, before), "a replay is no progress"
    assert runner.emitted == emitted and runner.progress.emitted == len(emitted)
    runner.run()
    assert runner.emitted == list(range(LAST + 1))


@settings(deadline=None)
@given(
    level=LEVELS, seed=st.integers(0, 2**32), reach=st.integers(0, 5), lead=st.integers(0, 3), turns=st.integers(0, 90)
)
def test_a_lane_that_is_lost_anywhere_goes_on_when_its_sinks_and_the_blocks_it_remembers_were_run_again(
    level: Level, seed: int, reach: int, lead: int, turns: int
) -> None:
    runner = Runner(level, seed)
    runner.run(turns)
    progress, graph = runner.progress, runner.graph
    lane = runner.draw.randrange(graph.lane_count)
    for flight in [flight for flight in runner.flying if flight[0] in graph.in_lane[lane]]:
        runner.flying.remove(flight)
        progress.mark_reported(*flight)
    before, seal = len(runner.ran), graph.sealing[lane]
    done, restarted = list(progress.done), set()
    progress.lose(graph.in_lane[lane])
    for chain in graph.in_lane[lane]:
        restarted |= {graph.op(chain, block) for block in range(progress.done[chain], done[chain])}
        assert progress.sent[chain] == progress.done[chain] <= done[chain]
        assert chain == seal or not progress.takes_journalled(graph.chains[chain], progress.done[chain])
    assert level is Level.CLEAN or not restarted, "only what nobody else has is done again"
    progress.replay(seal, reach, lead)
    until, start = done[seal], max(0, done[seal] - reach)
    replayed = [block for block in range(until) if block < lead or block >= start]
    assert progress.left_to_replay(seal) == len(replayed)
    assert progress.replays(lane) == bool(replayed)
    runner.run()
    again = [op for op, _ in runner.ran[before:] if graph.number_of(op) == seal and op.block < until]
    assert again == [graph.op(seal, block) for block in replayed], "each once, in order, and nothing between"
    assert runner.emitted == list(range(LAST + 1))
    ops = [op for op, _ in runner.ran]
    assert set(ops) == wanted(graph, range(LAST + 1))
    assert len(ops) == len(set(ops)) + len(replayed) + len(restarted)
    assert progress.is_whole and not progress.in_flight


def test_only_what_is_done_and_quiet_can_be_replayed() -> None:
    runner = Runner(Level.OUTPUT, 3)
    runner.run(40)
    runner.land()
    chain = runner.graph.sealing[0]
    done = runner.progress.done[chain]
    assert done > 1
    runner.progress.replay(chain, done)
    with pytest.raises(InternalFault, match="cannot be replayed"):
        runner.progress.replay(chain, done)


@settings(deadline=None)
@given(level=LEVELS, seed=st.integers(0, 2**32), turns=st.integers(5, 80), data=st.data())
def test_what_is_taken_back_is_sent_again_and_late_reports_do_not_count(
    level: Level, seed: int, turns: int, data: st.DataObject
) -> None:
    runner = Runner(level, seed)
    runner.run(turns)
    progress = runner.progress
    block = data.draw(st.integers(progress.emitted, max(progress.emitted, progress.next_block)))
    late = [flight for flight in runner.flying if flight[1] >= block]
    runner.ran = [(op, attempt) for op, attempt in runner.ran if op.block < block]
    progress.take_back(block)
    assert progress.next_block <= block and all(sent <= block or sent <= block for sent in progress.sent)
    assert progress.in_flight == len(runner.flying), "what flies still names pages"
    if late:
        assert all(progress.boundary(lane) is None for lane in range(runner.graph.lane_count))
    runner.run()
    assert progress.in_flight == 0
    ops = [op for op, _ in runner.ran]
    assert len(ops) == len(set(ops)) and set(ops) == wanted(runner.graph, range(LAST + 1))
    assert all(attempt == 0 for op, attempt in runner.ran if op.block < block)
    assert all((op, 1) in runner.ran for op in {runner.graph.op(chain, number) for chain, number, _ in late})
    assert runner.emitted == list(range(LAST + 1))


def test_what_is_known_of_a_block_goes_with_it() -> None:
    runner = Runner(Level.CLEAN, 1, last_block=400)
    second = runner.graph.number_of(Op(Kind.DENOISE, 1, 0))
    for block in range(0, 400, 3):
        runner.progress.skip(block, {second}) if block > runner.progress.next_block else None
    runner.run()
    assert runner.emitted == list(range(401))
    # Nothing is remembered of blocks that are done: they take part again, as far as anybody could ask.
    assert all(second not in runner.progress.skipped(block) for block in range(400))
