"""The recipe, compiled: ops, what each of them waits for, and everything else that follows from level and steps.

Theory of operation. A block passes through S denoise ops D(0,n) .. D(S-1,n) and is then decoded by V(n). What earlier
blocks look like to D(s,n) is the recipe's level, and the level alone decides which commits exist and what waits for
what. Nothing outside this file and the recipe names the level: workers see page lists and timesteps, the scheduler
walks the chains of a graph.

    OUTPUT   D(s,n) <- D(s-1,n), C(s,n-1)      C(s,n) <- D(s,n), C(s,n-1)      a lane per step
    CLEAN    D(s,n) <- D(s-1,n), C(n-1)        C(n)   <- D(S-1,n)              one lane
    INPUT    D(s,n) <- D(s-1,n), D(s,n-1)      no commit                       a lane per step
    all      V(n)   <- D(S-1,n), V(n-1)

A chain is all ops of one kind and step, one a block, in the order of their blocks. A graph is made once for each
recipe; its chains are rows of small numbers, because the scheduler asks them with every op.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe


class Kind(Enum):
    """What an op does."""

    DENOISE = "D"
    COMMIT = "C"
    DECODE = "V"

    __hash__ = object.__hash__
    """The hash by identity, as members are compared: Enum's own is slow, and ops are looked up all the time."""


class Op(NamedTuple):
    """One op of one session. `step` is 0 for a decode and for the commit of level CLEAN."""

    kind: Kind
    step: int
    block: int


class Need(NamedTuple):
    """What an op waits for: an op of chain number `chain`, `back` blocks before its own (0 or 1)."""

    chain: int
    back: int
    is_input: bool
    """Whether the op starts from the latents that this one puts out."""


class Readers(NamedTuple):
    """The chains, by number, whose ops start from the latents that enter one step of a block."""

    further: int
    """The denoise op or decode that takes them further."""
    commit: int | None
    """The commit that starts from them, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The noise levels of one op."""

    timesteps: tuple[float, ...]
    """What the model is told, 0 to 1000, of each of the op's own frames."""
    sigma: float
    """Noise level of the input, 0 to 1."""
    next_sigma: float | None
    """A denoise op re-noises its x0 to this level; None if its output is x0. A commit has no output."""


class Returns(Enum):
    """What becomes of the output of an op."""

    NOTHING = "nothing"
    """There is no output, or no op starts from it."""
    KEPT = "kept"
    """Its lane keeps it on the worker."""
    SENT = "sent"
    """It goes to the engine, from where it travels."""
    SENT_AND_KEPT = "sent and kept"

    __hash__ = object.__hash__

    @property
    def are_sent(self) -> bool:
        """Whether the worker reports the output."""
        return self in (Returns.SENT, Returns.SENT_AND_KEPT)

    @property
    def are_kept(self) -> bool:
        """Whether the worker keeps the output in its lane."""
        return self in (Returns.KEPT, Returns.SENT_AND_KEPT)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """All ops of one kind and step of a session."""

    number: int
    """Its place in `Graph.chains`."""
    kind: Kind
    step: int
    lane: int | None
    """The lane whose pages its ops read and write; None for decodes, which have none."""
    needs: tuple[Need, ...]
    times: Times
    """Noise levels of its ops; those of a decode are all 0."""
    returns: Returns
    """What becomes of its outputs on a worker that holds a whole model."""
    entered_step: int
    """Its ops start from the latents that enter this step of their block: S is the finished x0, 0 is noise."""
    begins_block: bool
    """Whether its op is the first of its block in its lane: before it, and only there, a lane is at a boundary."""
    input_is_in_lane: bool
    """Whether its ops start from the output of the last denoise op in their own lane.

    A worker keeps exactly that latent, so it need not be sent again; a chain of workers does not.
    """
    lanes_left: tuple[int, ...]
    """Lanes that a block passes through from the end of its op to finished latents: what a deadline must leave."""


_REMEMBERED = 256
"""Blocks of which positions are kept: every op of a block asks for them."""


class Graph:
    """The chains of one recipe, and who waits for whom."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.blocks = recipe.blocks
        self.window = recipe.window
        self.chains = tuple(_chains(recipe))
        self._numbers = {(chain.kind, chain.step): chain.number for chain in self.chains}
        self.numbers = range(len(self.chains))
        """The numbers of all chains."""
        self.step_count = recipe.step_count
        self.lane_count = recipe.lane_count
        self.sink_blocks = -(-recipe.sink_frames // recipe.blocks.frames)
        """The first blocks of a stream, whose frames every later one may read."""
        self.first = self._numbers[Kind.DENOISE, 0]
        """Number of the chain whose ops begin blocks."""
        self.last = self._numbers[Kind.DENOISE, recipe.step_count - 1]
        """Number of the chain whose ops put out finished latents."""
        self.decodes = self._numbers[Kind.DECODE, 0]
        """Number of the chain of decodes."""
        self.forwards_per_block = len(self.chains) - 1
        """Forwards that one block costs: 2 S at level OUTPUT, S + 1 at CLEAN, S at INPUT."""
        self.sealing = tuple(_sealing(recipe, self._numbers))
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
        self._positions: dict[int, tuple[int, ...]] = {}
        self._readers = (None, *(self._readers_of(step) for step in range(1, self.step_count + 1)))

    def chain_of(self, op: Op) -> Chain:
        """The chain that `op` belongs to."""
        return self.chains[self._numbers[op.kind, op.step]]

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
            self.op(need.chain, op.block - need.back) for need in self.chain_of(op).needs if op.block >= need.back
        )

    def woken_by(self, op: Op) -> tuple[int, ...]:
        """The numbers of the chains whose next op may have waited until `op` was done."""
        return self._woken[self._numbers[op.kind, op.step]]

    def readers(self, step: int) -> Readers | None:
        """The chains that start from what enters `step`, 0 to S; None for step 0, which starts from noise."""
        return self._readers[step]

    def positions(self, block: int) -> tuple[int, ...]:
        """The numbers by which queries and keys of the block's own frames are rotated."""
        known = self._positions.get(block)
        if known is None:
            if len(self._positions) >= _REMEMBERED:
                self._positions.clear()
            known = self._positions[block] = self.recipe.positions.of(self.blocks.own(block))
        return known

    def shape(self, block: int) -> tuple[int, int]:
        """What ops of one forward have in common: how many frames the block makes, and how many pages it reads."""
        own = self.blocks.own(block)
        return len(own), min(own.stop, self.window.size)

    def sealing_op(self, lane: int, block: int) -> Op:
        """The op whose K/V later blocks read in `lane`."""
        return self.op(self.sealing[lane], block)

    def _woken_by(self, chain: Chain) -> tuple[int, ...]:
        if chain.number == self.decodes:  # a segment leaves: the playback clock of the whole session may shift
            return tuple(self.numbers)
        return tuple(row.number for row in self.chains if any(need.chain == chain.number for need in row.needs))

    def _readers_of(self, step: int) -> Readers:
        taken = [chain for chain in self.chains if chain.entered_step == step]
        further = next(chain.number for chain in taken if chain.kind is not Kind.COMMIT)
        return Readers(further, next((chain.number for chain in taken if chain.kind is Kind.COMMIT), None))


def _rows(recipe: Recipe) -> Iterator[tuple[Kind, int]]:
    for step in range(recipe.step_count):
        yield Kind.DENOISE, step
    if recipe.level is not Level.INPUT:
        for step in range(recipe.lane_count):
            yield Kind.COMMIT, step
    yield Kind.DECODE, 0


def _chains(recipe: Recipe) -> Iterator[Chain]:
    rows = list(_rows(recipe))
    numbers = {row: number for number, row in enumerate(rows)}
    lanes = [_lane(recipe, step) for step in range(recipe.step_count)]
    for number, (kind, step) in enumerate(rows):
        commits, decodes = kind is Kind.COMMIT, kind is Kind.DECODE
        in_lane = commits or (recipe.level is Level.CLEAN and kind is Kind.DENOISE and step > 0)
        yield Chain(
            number=number,
            kind=kind,
            step=step,
            lane=None if decodes else lanes[step],
            needs=tuple(
                Need(numbers[row], back, row[0] is Kind.DENOISE and not back)
                for row, back in _needs(recipe, kind, step)
            ),
            times=_times(recipe, kind, step),
            returns=_returns(recipe, kind, step),
            entered_step=_entered_step(recipe, kind, step),
            begins_block=kind is Kind.DENOISE and not in_lane,
            input_is_in_lane=in_lane,
            # A commit is in time if the next block's denoise op in its lane, which waits for it, is.
            lanes_left=() if decodes else tuple(lanes[step + (not commits) :]),
        )


def _needs(recipe: Recipe, kind: Kind, step: int) -> list[tuple[tuple[Kind, int], int]]:
    """What an op waits for: rows, and how many blocks back."""
    last = (Kind.DENOISE, recipe.step_count - 1)
    match kind:
        case Kind.DENOISE:
            own = [((Kind.DENOISE, step - 1), 0)] if step else []
            return [*own, (_sealing_row(recipe, step), 1)]
        case Kind.COMMIT if recipe.level is Level.CLEAN:
            return [(last, 0)]
        case Kind.COMMIT:
            return [((Kind.DENOISE, step), 0), ((Kind.COMMIT, step), 1)]
        case Kind.DECODE:
            return [(last, 0), ((Kind.DECODE, 0), 1)]


def _sealing_row(recipe: Recipe, step: int) -> tuple[Kind, int]:
    """The row of the ops whose K/V later blocks read when they are denoised at `step`."""
    match recipe.level:
        case Level.OUTPUT:
            return Kind.COMMIT, step
        case Level.CLEAN:
            return Kind.COMMIT, 0
        case Level.INPUT:
            return Kind.DENOISE, step


def _sealing(recipe: Recipe, numbers: dict[tuple[Kind, int], int]) -> Iterator[int]:
    for lane in range(recipe.lane_count):
        yield numbers[_sealing_row(recipe, lane)]


def _lane(recipe: Recipe, step: int) -> int:
    return 0 if recipe.level is Level.CLEAN else step


def _times(recipe: Recipe, kind: Kind, step: int) -> Times:
    if kind is Kind.DECODE:
        return Times(timesteps=(0.0,) * recipe.blocks.frames, sigma=0.0, next_sigma=None)
    timestep = recipe.commit_timestep(step) if kind is Kind.COMMIT else recipe.timesteps[step]
    return Times(
        timesteps=(timestep,) * recipe.blocks.frames,
        sigma=recipe.sigmas[step],
        next_sigma=recipe.sigmas[step + 1] if step + 1 < recipe.step_count else None,
    )


def _returns(recipe: Recipe, kind: Kind, step: int) -> Returns:
    """A commit starts from what its lane keeps, and so does every later step of a level that has one lane."""
    last = step + 1 == recipe.step_count
    match recipe.level:
        case _ if kind is not Kind.DENOISE:
            return Returns.NOTHING
        case Level.INPUT:
            return Returns.SENT
        case Level.CLEAN if not last:
            return Returns.KEPT
        case _:
            return Returns.SENT_AND_KEPT


def _entered_step(recipe: Recipe, kind: Kind, step: int) -> int:
    match kind:
        case Kind.DENOISE:
            return step
        case Kind.COMMIT if recipe.level is Level.OUTPUT:
            return step + 1
        case _:
            return recipe.step_count
