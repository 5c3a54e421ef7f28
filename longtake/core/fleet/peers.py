"""The fleet: all workers of a cell by role, ordered by load, and how fast each is against the others.

Theory of operation. Every change of what a worker holds, or of its time beyond noise, re-enters it in the order of its
role: a few binary searches, whatever the size of the cell. How slow a worker is, is the moving average of its forwards'
times over what the fleet takes for as many ops (an op costs less in a larger batch, which says nothing about the
device), against the median of the fleet. A worker counts as one of the usual ones until it is clearly off that median
(`_ODD`), and again when it is clearly back (`_EVEN`): the averages jitter by per cents, and lanes that moved because of
that would never rest. For admission, where too high a load makes streams late, the worker's own time counts always.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from longtake.core.errors import Lack
from longtake.core.fleet.placement import Ranking, Room
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import forwards_per_block
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Role, WorkerId

_NOTICED = 0.01
"""Relative change of a worker's time from which on it is entered anew."""
_ODD = 0.15
"""A worker whose time is so far off the median is slow (or fast) …"""
_EVEN = 0.08
"""… until it is as near as this."""
_MEMORY = 256
"""Forwards of one batch size over which the fleet's time is averaged."""


class _Figures:
    """One figure of each worker, and their median."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._filed: dict[WorkerId, float] = {}

    @property
    def median(self) -> float:
        """The lower of the middle ones; 0 of none."""
        return self._sorted[(len(self._sorted) - 1) // 2] if self._sorted else 0.0

    def differs(self, worker: WorkerId, figure: float) -> bool:
        """Whether the figure is noticeably another than was put."""
        filed = self._filed.get(worker, 0.0)
        return abs(figure - filed) > _NOTICED * filed

    def put(self, worker: WorkerId, figure: float) -> None:
        self.drop(worker)
        self._filed[worker] = figure
        insort(self._sorted, figure)

    def drop(self, worker: WorkerId) -> None:
        figure = self._filed.pop(worker, None)
        if figure is not None:
            del self._sorted[bisect_left(self._sorted, figure)]


class _Average:
    """A moving average."""

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def fold(self, value: float) -> None:
        self._count = min(self._count + 1, _MEMORY)
        self.value += (value - self.value) / self._count


class Peers:
    """The workers of one role."""

    def __init__(self, ops_per_block: int, geometry: Geometry, lack: Lack) -> None:
        self.ranking = Ranking(lack=lack)
        self._ops_per_block = ops_per_block
        self._block_s = geometry.block_s
        self._op_times = _Figures()
        self._slowness = _Figures()
        self._usual: dict[int, _Average] = {}
        """By number of ops, the time of a dispatch."""
        self._odd: set[WorkerId] = set()
        self._new: dict[WorkerId, Worker] = {}
        """Workers that too little is known of to call them slow."""
        self._assumed_s = 0.0
        """What workers of unknown time were last taken to need."""

    def join(self, worker: Worker) -> None:
        """The worker is new; what it said of its time counts for what it has measured."""
        if worker.op_s:
            usual = self._usual.setdefault(1, _Average())
            usual.fold(worker.op_s)
            worker.slowness = worker.op_s / usual.value
        self.enter(worker)

    def enter(self, worker: Worker) -> None:
        """Something about the worker has changed."""
        if worker.op_s and self._op_times.differs(worker.id, worker.op_s):
            self._op_times.put(worker.id, worker.op_s)
        if worker.is_measured:
            self._new.pop(worker.id, None)
            if self._slowness.differs(worker.id, worker.slowness):
                self._slowness.put(worker.id, worker.slowness)
        else:
            self._new[worker.id] = worker
        self._rank(worker)
        usual_s = self._op_times.median
        if self._new and abs(usual_s - self._assumed_s) > _NOTICED * self._assumed_s:
            self._assumed_s = usual_s
            for new in self._new.values():
                self._rank(new)

    def measured(self, worker: Worker, seconds: float, ops: int) -> None:
        """The worker says how long a dispatch of so many ops took."""
        usual = self._usual.setdefault(ops, _Average())
        worker.measured(seconds, ops, usual_s=usual.value)
        if seconds > 0:
            usual.fold(seconds)
        known = worker.is_measured and (worker.id in self._new or self._slowness.differs(worker.id, worker.slowness))
        if known or self._op_times.differs(worker.id, worker.op_s):
            self.enter(worker)

    def drop(self, worker: Worker) -> None:
        """The worker has gone."""
        self.ranking.drop(worker.id)
        self._op_times.drop(worker.id)
        self._slowness.drop(worker.id)
        self._odd.discard(worker.id)
        self._new.pop(worker.id, None)

    def _rank(self, worker: Worker) -> None:
        usual_s = self._op_times.median
        own_s = worker.op_s or usual_s
        weight = self._weight(worker)
        denoises = worker.role is Role.DENOISE
        live = (worker.live_lanes if denoises else worker.live_slots) if own_s else 0  # of no time nothing is reserved
        held = worker.lanes if denoises else worker.capacity - len(worker.free_slots)
        self.ranking.put(
            worker.id,
            Room(
                lanes=worker.lane_room if denoises else len(worker.free_slots),
                live=live,
                bulk=held - live,
                lane_share=self._ops_per_block * own_s / self._block_s,
                even_share=self._ops_per_block * usual_s * weight / self._block_s,
                weight=weight,
            ),
        )

    def _weight(self, worker: Worker) -> float:
        """How many times as long as usual the worker takes: 1 unless it is clearly off."""
        usual = self._slowness.median
        if not worker.is_measured or not usual:
            self._odd.discard(worker.id)
            return 1.0
        off = abs(worker.slowness / usual - 1)
        if off > _ODD:
            self._odd.add(worker.id)
        elif off < _EVEN:
            self._odd.discard(worker.id)
        return worker.slowness / usual if worker.id in self._odd else 1.0


class Fleet:
    """All workers of a cell, by role."""

    def __init__(self, recipe: Recipe, geometry: Geometry) -> None:
        lane_ops = forwards_per_block(recipe) // recipe.lane_count
        self._peers = {
            Role.DENOISE: Peers(lane_ops, geometry, Lack.PAGES),
            Role.DECODE: Peers(1, geometry, Lack.SLOTS),
        }

    def ranking(self, role: Role) -> Ranking:
        """The workers of `role`, by load."""
        return self._peers[role].ranking

    def joined(self, worker: Worker) -> None:
        """The worker is new."""
        self._peers[worker.role].join(worker)

    def changed(self, *workers: Worker) -> None:
        """What these workers hold has changed."""
        for worker in workers:
            self._peers[worker.role].enter(worker)

    def measured(self, worker: Worker, seconds: float, ops: int) -> None:
        """The worker has reported how long a dispatch of so many ops took."""
        self._peers[worker.role].measured(worker, seconds, ops)

    def lost(self, worker: Worker) -> None:
        """The worker has gone."""
        self._peers[worker.role].drop(worker)
