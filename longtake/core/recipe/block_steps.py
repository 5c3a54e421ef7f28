"""The steps that one block takes, and what follows from them for its ops.

Theory of operation. The steps of all blocks are numbered by the ladder of the recipe, also those of a block that takes
fewer: so a lane, a timestep and a draw of noise are the same whatever else a block does. What a step puts out enters
the next one of the block's own: it is re-noised to that one's level, with the noise that is keyed by that one's number
(a block's bits depend on its own steps alone), and named after it where it travels. What the last one puts out is x0,
which enters step S, the length of the ladder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from longtake.core.recipe.ops import Chain, Kind, Returns, Times


@dataclass(frozen=True, slots=True, eq=False)
class BlockSteps:
    """The steps that a block takes, by their numbers, and the chains that have no op of it."""

    numbers: tuple[int, ...]
    skipped: frozenset[int]
    """The numbers of those chains."""
    enters: tuple[int, ...]
    """By step: which one its output enters; that of a step that is not taken is its own."""
    times: tuple[Times, ...]
    """Noise levels of the block's ops, by chain."""
    returns: tuple[Returns, ...]
    """What becomes of their outputs on a worker that holds a whole model, by chain."""
    lanes_left: tuple[tuple[int, ...], ...]
    """As `Chain.lanes_left`, by chain: of a commit those of the next block, if that takes the same steps."""

    @property
    def forwards(self) -> int:
        """How many forwards the block takes: its denoise ops and its commits."""
        return len(self.times) - 1 - len(self.skipped)


def block_steps(numbers: tuple[int, ...], chains: Sequence[Chain], sigmas: tuple[float, ...]) -> BlockSteps:
    """The steps of these numbers, ascending, where the ladder has one for each of `sigmas`."""
    count = len(sigmas)
    enters = dict(pairwise((*numbers, count)))
    denoises = {chain.step: chain for chain in chains if chain.kind is Kind.DENOISE}
    times, returns, left = [], [], []
    for chain in chains:
        is_last = chain.kind is Kind.DENOISE and enters.get(chain.step) == count
        times.append(_times(chain, enters, sigmas))
        returns.append(denoises[count - 1].returns if is_last else chain.returns)
        if len(numbers) == count:
            left.append(chain.lanes_left)
            continue
        later = [step for step in numbers if step >= chain.step + (chain.kind is Kind.DENOISE)]
        lanes = [denoises[step].lane for step in later] if chain.lane is not None else []
        left.append(tuple(lane for lane in lanes if lane is not None))
    return BlockSteps(
        numbers=numbers,
        skipped=frozenset(chain.number for step, chain in denoises.items() if step not in enters),
        enters=tuple(enters.get(step, step) for step in range(count)),
        times=tuple(times),
        returns=tuple(returns),
        lanes_left=tuple(left),
    )


def _times(chain: Chain, enters: dict[int, int], sigmas: tuple[float, ...]) -> Times:
    if chain.kind is not Kind.DENOISE or chain.step not in enters:
        return chain.times
    entered = enters[chain.step]
    next_sigma = sigmas[entered] if entered < len(sigmas) else None
    return chain.times if next_sigma == chain.times.next_sigma else replace(chain.times, next_sigma=next_sigma)
