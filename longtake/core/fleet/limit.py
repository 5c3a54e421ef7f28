"""The limit of the cell: the blocks a second that each role of its workers can do at most, and which of them is least.

Theory of operation. A block passes through every role, so the cell makes as many as the role that can do the fewest. A
worker that is always busy does 1 / t ops a second, t being what an op costs it now, as it reports it: of a forward its
share of the batch, of a decode all that stands between two segments, encoding included. A worker that nobody has
measured is taken to be like the others; if none of its role was measured, nothing is known of the role, and so nothing
of the cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low

from longtake.core.fleet.worker import Worker
from longtake.core.recipe.graph import Graph
from longtake.core.work import Role, WorkerId

STAGES = (Role.DENOISE, Role.DECODE)
"""The roles that every block passes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimit:
    """What the workers of one role can do."""

    role: Role
    workers: tuple[WorkerId, ...]
    """All of them."""
    blocks_per_s: float | None
    """The most, together, at their present times; 0 without a worker, None while no time is known."""

    @property
    def name(self) -> str:
        """Who that is: the worker if it is the only one, else how many there are."""
        if len(self.workers) == 1:
            return self.workers[0]
        return f"{len(self.workers) or 'no'} {self.role.value} workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLimit:
    """What the whole cell can do."""

    stages: tuple[StageLimit, ...]

    @property
    def least(self) -> StageLimit | None:
        """The stage that limits all others, the first one where several do; None while a stage is not known."""
        known = [(stage.blocks_per_s, stage) for stage in self.stages if stage.blocks_per_s is not None]
        if len(known) < len(self.stages):
            return None
        return min(known, key=lambda pair: pair[0])[1]


def cell_limit(graph: Graph, workers: Iterable[Worker]) -> CellLimit:
    """The limit of a cell with these workers, whose streams are of this recipe."""
    found = sorted(workers, key=lambda worker: worker.id)
    ops = {Role.DENOISE: float(graph.forwards_per_block), Role.DECODE: 1.0}
    return CellLimit(
        stages=tuple(_stage(role, ops[role], [each for each in found if each.role is role]) for role in STAGES)
    )


def _stage(role: Role, ops_per_block: float, workers: list[Worker]) -> StageLimit:
    names = tuple(worker.id for worker in workers)
    times_s = [worker.timing.op_s for worker in workers if worker.timing.op_s]
    if workers and not times_s:
        return StageLimit(role=role, workers=names, blocks_per_s=None)
    usual_s = median_low(times_s) if times_s else 0.0
    ops_per_s = sum(1 / (worker.timing.op_s or usual_s) for worker in workers)
    return StageLimit(role=role, workers=names, blocks_per_s=ops_per_s / (ops_per_block * _cost(role, workers)))


def _cost(role: Role, workers: list[Worker]) -> float:
    """What an op of the streams that are here costs over what the workers' times are of, on average.

    Decoders differ by stream (`DecoderKind`); forwards are all of one kind.
    """
    held = sum(worker.load.total for worker in workers)
    if role is Role.DENOISE or not held:
        return 1.0
    return sum(worker.load.time(realtime=True) + worker.load.time(realtime=False) for worker in workers) / held
