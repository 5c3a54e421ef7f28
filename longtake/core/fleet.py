"""The fleet: all workers of a cell by role, ordered by load, and how fast each is against the others.

Theory of operation. Every change of what a worker holds, or of its time beyond noise, re-enters it in the order of its
role: a few binary searches, whatever the size of the cell. The fleet's usual time is the median. A worker counts as
one of the usual ones until its own average is clearly off it (`_ODD`), and again when it is clearly back (`_EVEN`): the
averages jitter by per cents, and lanes that moved because of that would never rest. For admission, where too high a
load makes streams late, the worker's own time counts always.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from longtake.core.geometry import Geometry
from longtake.core.placement import Ranking, Room
from longtake.core.recipe import Recipe
from longtake.core.schedule import forwards_per_block
from longtake.core.work import Role, WorkerId
from longtake.core.workers import Worker

_NOTICED = 0.02
"""Relative change of a worker's time from which on it is entered anew."""
_ODD = 0.15
"""A worker whose time is so far off the median is slow (or fast) …"""
_EVEN = 0.08
"""… until it is as near as this."""


class Peers:
    """The workers of one role."""

    def __init__(self, ops_per_block: int, geometry: Geometry) -> None:
        self.ranking = Ranking()
        self._ops_per_block = ops_per_block
        self._block_s = geometry.block_s
        self._times: list[float] = []
        """Times of all that are known, sorted."""
        self._filed_s: dict[WorkerId, float] = {}
        """The time under which a worker is in `_times`; 0: not there."""
        self._odd: set[WorkerId] = set()
        self._unknown: dict[WorkerId, Worker] = {}
        self._new: set[WorkerId] = set()
        """Workers that too little is known of to call them slow."""
        self._assumed_s = 0.0
        """What workers of unknown time were last taken to need."""

    @property
    def usual_s(self) -> float:
        """The median time of an op; 0 while no worker's is known."""
        return self._times[(len(self._times) - 1) // 2] if self._times else 0.0

    def enter(self, worker: Worker) -> None:
        """The worker is new, or something about it has changed."""
        if worker.id not in self._filed_s or self.is_noticed(worker):
            self._file(worker)
        self._rank(worker)
        if self._unknown and abs(self.usual_s - self._assumed_s) > _NOTICED * self._assumed_s:
            self._assumed_s = self.usual_s
            for unknown in self._unknown.values():
                self._rank(unknown)

    def is_noticed(self, worker: Worker) -> bool:
        """Whether so much more is known of its time that it must be entered anew."""
        filed_s = self._filed_s.get(worker.id, 0.0)
        return (worker.is_measured and worker.id in self._new) or abs(worker.op_s - filed_s) > _NOTICED * filed_s

    def drop(self, worker: Worker) -> None:
        """The worker has gone."""
        self.ranking.drop(worker.id)
        self._unfile(worker.id)
        self._odd.discard(worker.id)
        self._new.discard(worker.id)
        self._unknown.pop(worker.id, None)

    def _file(self, worker: Worker) -> None:
        self._unfile(worker.id)
        self._filed_s[worker.id] = worker.op_s
        if worker.op_s:
            insort(self._times, worker.op_s)
            self._unknown.pop(worker.id, None)
        else:
            self._unknown[worker.id] = worker

    def _unfile(self, worker: WorkerId) -> None:
        filed_s = self._filed_s.pop(worker, 0.0)
        if filed_s:
            del self._times[bisect_left(self._times, filed_s)]

    def _rank(self, worker: Worker) -> None:
        own_s, usual_s = worker.op_s or self.usual_s, self.usual_s
        even_s = own_s if self._is_odd(worker, usual_s) else usual_s
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
                even_share=self._ops_per_block * even_s / self._block_s,
                weight=even_s / usual_s if usual_s else 1.0,
            ),
        )

    def _is_odd(self, worker: Worker, usual_s: float) -> bool:
        if not worker.is_measured:
            self._new.add(worker.id)
            return False
        self._new.discard(worker.id)
        off = abs(worker.op_s / usual_s - 1)
        if off > _ODD:
            self._odd.add(worker.id)
        elif off < _EVEN:
            self._odd.discard(worker.id)
        return worker.id in self._odd


class Fleet:
    """All workers of a cell, by role."""

    def __init__(self, recipe: Recipe, geometry: Geometry) -> None:
        lane_ops = forwards_per_block(recipe) // recipe.lane_count
        self._peers = {Role.DENOISE: Peers(lane_ops, geometry), Role.DECODE: Peers(1, geometry)}

    def ranking(self, role: Role) -> Ranking:
        """The workers of `role`, by load."""
        return self._peers[role].ranking

    def usual_s(self, role: Role) -> float:
        """The median time of an op of `role`; 0 while unknown."""
        return self._peers[role].usual_s

    def changed(self, *workers: Worker) -> None:
        """What these workers hold has changed, or they are new."""
        for worker in workers:
            self._peers[worker.role].enter(worker)

    def measured(self, worker: Worker) -> None:
        """The worker has reported the time of an op."""
        peers = self._peers[worker.role]
        if peers.is_noticed(worker):
            peers.enter(worker)

    def lost(self, worker: Worker) -> None:
        """The worker has gone."""
        self._peers[worker.role].drop(worker)
