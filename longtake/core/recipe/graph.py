"""The graph of a recipe: its chains, who waits for whom, and everything else that follows from them.

Theory of operation. A graph is made once for each recipe (chains.py); its chains are rows of small numbers, because the
scheduler asks them with every op.
"""

from __future__ import annotations

from functools import cached_property

from longtake.core.recipe.block_steps import BlockSteps, block_steps
from longtake.core.recipe.chains import chains, clean_chains, reference_chains
from longtake.core.recipe.ops import Chain, Kind, Op, Readers
from longtake.core.recipe.positions import Places
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.references import REFERENCE
from longtake.core.recipe.sources import sealing

_REMEMBERED = 256
"""Blocks of which places are kept: every op of a block asks for them."""


class Graph:
    """The chains of one recipe, and who waits for whom."""

    def __init__(
        self, recipe: Recipe, *, given_blocks: int = 0, proven: frozenset[tuple[int, int]] | None = None
    ) -> None:
        """`given_blocks` at the beginning of a stream are given; see `is_proven` for the other."""
        self.recipe = recipe
        self.given_blocks = given_blocks
        """The blocks at the beginning whose finished latents are given: nothing of them is denoised."""
        self.clean_blocks = given_blocks + recipe.context.start_blocks
        """The blocks at the beginning that are read as they are when finished, whatever the level says."""
        self.blocks = recipe.blocks
        self.window = recipe.window
        self.chains = tuple(chains(recipe))
        self._clean = tuple(clean_chains(recipe, self.chains)) if self.clean_blocks else self.chains
        self._before = tuple(reference_chains(recipe, self.chains)) if self.window.references else ()
        self._proven = self.shapes if proven is None and self._before else proven
        self._numbers = {(chain.kind, chain.step): chain.number for chain in self.chains}
        self.numbers = range(len(self.chains))
        """The numbers of all chains."""
        self.joint = recipe.joint
        """How ops of several blocks go together in one forward; None: each goes for itself."""
        self.step_count = recipe.step_count
        self.lane_count = recipe.lane_count
        self.sink_blocks = self.blocks.block_of(self.window.sinks - 1) + 1 if self.window.sinks else 0
        """The first blocks of a stream, whose frames every later one may read, or find in its memory."""
        self.renewing = recipe.renewing
        """How recaches are done."""
        self.shots = recipe.shots
        """How shots follow one another."""
        self.can_renew = self.renewing.is_possible or self.shots.can_cut
        """Whether there may be any."""
        self.begins = tuple(
            next(chain.number for chain in self.chains if chain.lane == lane and chain.begins_block)
            for lane in range(self.lane_count)
        )
        """The number of the chain whose ops begin blocks, by lane."""
        self.first = self._numbers[Kind.DENOISE, 0]
        """Number of the chain whose ops begin blocks."""
        self.decodes = self._numbers[Kind.DECODE, 0]
        """Number of the chain of decodes."""
        self._lists = {entries: self._steps_of(entries, self.chains) for entries in recipe.steps.lists}
        self._clean_lists = {entries: self._steps_of(entries, self._clean) for entries in recipe.steps.lists}
        self.usual = self._lists[recipe.steps.usual_entries]
        """The steps that a block takes as a rule."""
        self.skips = any(steps.skipped for steps in self._lists.values())
        """Whether some blocks take fewer steps than the ladder has."""
        self.sealing = tuple(self.number_of(sealing(recipe, lane)) for lane in range(self.lane_count))
        """The number of the chain whose ops seal a lane's pages, by lane."""
        self.in_lane = tuple(
            tuple(chain.number for chain in self.chains if chain.lane == lane) for lane in range(self.lane_count)
        )
        """The numbers of a lane's chains, by lane."""
        self.followers = tuple(
            self.in_lane[chain.lane] if chain.lane is not None else (chain.number,) for chain in self.chains
        )
        """The numbers of the chains whose next op may follow right behind an op of a chain, by that chain."""
        self._woken = tuple(self._woken_by(chain) for chain in self.chains)
        self._places: dict[int, Places] = {}
        self._readers = (None, *(self._readers_of(step) for step in range(1, self.step_count + 1)))

    @cached_property
    def last(self) -> int:
        """Number of the chain whose ops put out finished latents."""
        return self._numbers[Kind.DENOISE, self.step_count - 1]

    @cached_property
    def forwards_per_block(self) -> int:
        """Forwards that one block costs as a rule: 2 S at level OUTPUT, S + 1 at CLEAN, S at INPUT, for S steps."""
        return self.usual.forwards

    @cached_property
    def begun(self) -> tuple[int, ...]:
        """How far each chain counts as done before a stream begins: of given blocks nothing is denoised."""
        denoised = (chain.kind is Kind.DENOISE and chain.number not in self.sealing for chain in self.chains)
        return tuple(self.given_blocks if each else 0 for each in denoised)

    @cached_property
    def lasting_blocks(self) -> int:
        """The first blocks of a stream, from whose latents its sinks are made again."""
        return max(self.sink_blocks, self.renewing.lasting_blocks)

    @cached_property
    def kept_blocks(self) -> int:
        """The first blocks of a stream whose latents are kept for ever: those of sinks are read again whenever a lane
        is rebuilt, and what was given cannot be made again."""
        return max(self.lasting_blocks, self.given_blocks)

    @cached_property
    def _steps_before(self) -> BlockSteps:
        """Those of the reference, which is at the level of finished blocks in every lane."""
        return self._steps_of(self.recipe.steps.ladder, self._before)

    def _oldest(self, chain: int) -> int:
        """The oldest block of which there is an op in a chain: the reference, if it has one."""
        return REFERENCE if self._before and chain in self.sealing else self.begun[chain]

    @cached_property
    def prompting_blocks(self) -> int:
        """The first blocks of a stream whose prompts are kept for ever: the reference has that of block 0."""
        return max(self.kept_blocks, min(1, self.window.references))

    def chain_of(self, op: Op) -> Chain:
        """The chain that `op` belongs to, as it is for its block."""
        return self.row(self._numbers[op.kind, op.step], op.block)

    def row(self, chain: int, block: int) -> Chain:
        """The chain with this number, as it is for `block`."""
        if block >= self.clean_blocks:
            return self.chains[chain]
        return self._clean[chain] if block >= 0 else self._before[chain]

    def number_of(self, op: Op) -> int:
        """The number of the chain that `op` belongs to."""
        return self._numbers[op.kind, op.step]

    def op(self, chain: int, block: int) -> Op:
        """The op of `block` in the chain with this number."""
        row = self.chains[chain]
        return Op(row.kind, row.step, block)

    def needs(self, op: Op) -> tuple[Op, ...]:
        """The ops that must be done before `op` may run (DESIGN section 5; HiAR section 3)."""
        return tuple(
            self.op(need.chain, op.block - need.back)
            for need in self.chain_of(op).needs
            if op.block - need.back >= self._oldest(need.chain)
        )

    def woken_by(self, op: Op) -> tuple[int, ...]:
        """The numbers of the chains whose next op may have waited until `op` was done."""
        return self._woken[self._numbers[op.kind, op.step]]

    def lane_behind(self, op: Op) -> tuple[int, ...]:
        """The numbers of the chains, in other lanes, whose ops take further what `op` puts out."""
        lane = self.chain_of(op).lane
        return tuple(number for number in self.woken_by(op) if self.chains[number].lane not in (None, lane))

    def steps_of(self, block: int, load: int = 0) -> BlockSteps:
        """The steps that a block takes which is begun under this load."""
        if block < 0:
            return self._steps_before
        if block < self.clean_blocks:
            return self._clean_lists[self.recipe.steps.entries(max(0, block - self.given_blocks), load)]
        return self._lists[self.recipe.steps.entries(block - self.given_blocks, load)] if self.skips else self.usual

    def under(self, load: int) -> BlockSteps:
        """The steps that all blocks but the first ones take under a load; under the highest that changes anything if
        it is higher."""
        steps = self.recipe.steps
        load = min(load, steps.most_load)
        return self._lists[steps.shed[load - 1]] if load else self.usual

    def readers(self, step: int) -> Readers | None:
        """The chains that start from what enters `step`, 0 to S; None for step 0, which starts from noise."""
        return self._readers[step]

    def places(self, block: int) -> Places:
        """Where the frames that the block reads stand on the time axis."""
        known = self._places.get(block)
        if known is None:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            known = self._places[block] = self.recipe.positions.of(self.window, block)
        return known

    def shape(self, block: int) -> tuple[int, int]:
        """What ops of one forward have in common: how many frames the block makes, and how many pages it reads."""
        return len(self.window.own(block)), self.window.count(block)

    def is_proven(self, shape: tuple[int, int]) -> bool:
        """Whether workers have tried batches of this shape: they try those of the recipe that they serve, and what is
        given may divide the frames of a stream otherwise, until its window is full. The reference has a shape of its
        own."""
        return self._proven is None or shape in self._proven

    @property
    def shapes(self) -> frozenset[tuple[int, int]]:
        """The shapes of all blocks."""
        return frozenset(map(self.shape, range(self.blocks.block_of(self.window.span - 1) + 1)))

    def sealing_op(self, lane: int, block: int) -> Op:
        """The op whose K/V later blocks read in `lane`."""
        return self.op(self.sealing[lane], block)

    def taking_part(self, iteration: int, last_block: int | None) -> tuple[tuple[int, int], ...]:
        """Chain and block of the ops of an iteration, the oldest block first; there is none of blocks past the last."""
        assert self.joint is not None
        blocks = self.joint.taking_part(iteration)
        if last_block is not None:
            blocks = range(blocks.start, min(blocks.stop, last_block + 1))
        steps = ((iteration - self.joint.iteration(0, block), block) for block in blocks)
        return tuple(
            [(self.sealing[0] if step == self.step_count else self.first + step, block) for step, block in steps]
        )

    def _woken_by(self, chain: Chain) -> tuple[int, ...]:
        if (
            self.joint is not None or chain.number == self.decodes
        ):  # a segment leaves: the playback clock of the whole session may shift
            return tuple(self.numbers)
        rows = zip(self.chains, self._clean, strict=True)
        woken = [
            row for row, clean in rows if any(need.chain == chain.number for need in (*row.needs, *clean.needs))
        ]  # fmt: skip
        if self.skips:  # a block may go without the op that waits: then those have waited that wait for that one
            passed = [row for row in woken if row.kind is Kind.DENOISE and row.step > chain.step]
            further = {number for row in passed if row is not chain for number in self._woken_by(row)}
            return tuple(sorted({row.number for row in woken} | further))
        return tuple(row.number for row in woken)

    def _steps_of(self, entries: tuple[int, ...], rows: tuple[Chain, ...]) -> BlockSteps:
        steps = self.recipe.steps
        return block_steps(steps.indexes(entries), rows, steps.sigmas)

    def _readers_of(self, step: int) -> Readers:
        taken = [chain for chain in self.chains if chain.entered_step == step]
        further = next(chain.number for chain in taken if chain.kind is not Kind.COMMIT)
        return Readers(further, next((chain.number for chain in taken if chain.kind is Kind.COMMIT), None))
