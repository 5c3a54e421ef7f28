"""Forwards for tests, from plain values, and what a test changes of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from longtake.core.recipe.ops import Kind, Op, Returns, Times
from longtake.core.work import (
    ConditioningRef,
    ForwardWork,
    FromNoise,
    Input,
    NoiseKey,
    PageId,
    Pages,
    SessionId,
)


class Changes(TypedDict, total=False):
    """What a test may change of a forward."""

    session: SessionId
    lane: int
    kind: Kind
    step: int
    block: int
    timestep: float
    sigma: float
    next_sigma: float | None
    seed: int
    positions: tuple[int, ...]
    key_positions: tuple[int, ...] | None
    read_turns: tuple[int, ...]
    reads: tuple[PageId, ...]
    writes: tuple[PageId, ...]
    conditioning: ConditioningRef
    input: Input
    returns: Returns


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A forward as plain values; what becomes of the output follows from the kind if it is not said. Keys stand where
    queries do."""

    session: SessionId
    kind: Kind
    timestep: float
    sigma: float
    next_sigma: float | None
    positions: tuple[int, ...]
    reads: tuple[PageId, ...]
    writes: tuple[PageId, ...]
    conditioning: ConditioningRef
    lane: int = 0
    step: int = 0
    block: int = 0
    seed: int = 0
    input: Input = field(default_factory=FromNoise)
    returns: Returns | None = None
    key_positions: tuple[int, ...] | None = None
    read_turns: tuple[int, ...] = ()

    def work(self) -> ForwardWork:
        """The same in parts."""
        usual = Returns.SENT_AND_KEPT if self.kind is Kind.DENOISE else Returns.NOTHING
        return ForwardWork(
            session=self.session,
            lane=self.lane,
            op=Op(self.kind, self.step, self.block),
            pages=Pages(reads=self.reads, writes=self.writes),
            times=Times(timesteps=(self.timestep,) * len(self.positions), sigma=self.sigma, next_sigma=self.next_sigma),
            positions=self.positions,
            key_positions=self.positions if self.key_positions is None else self.key_positions,
            read_turns=self.read_turns,
            noise=NoiseKey(seed=self.seed, block=self.block),
            conditioning=self.conditioning,
            input=self.input,
            returns=usual if self.returns is None else self.returns,
            enters=self.step + 1 if self.kind is Kind.DENOISE else 0,
        )


def changed(work: ForwardWork, **changes: Unpack[Changes]) -> ForwardWork:
    """The forward with some of its values changed."""
    keys = None if work.key_positions == work.positions else work.key_positions
    flat = Flat(
        session=work.session, lane=work.lane, kind=work.kind, step=work.step, block=work.block,
        timestep=work.times.timesteps[0], sigma=work.times.sigma, next_sigma=work.times.next_sigma,
        seed=work.noise.seed, positions=work.positions, reads=work.pages.reads, writes=work.pages.writes,
        conditioning=work.conditioning, input=work.input, returns=None if "kind" in changes else work.returns,
        key_positions=keys, read_turns=work.read_turns,
    )  # fmt: skip
    return replace(flat, **changes).work()
