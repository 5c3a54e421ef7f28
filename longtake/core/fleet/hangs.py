"""Hangs: a worker that takes far too long for its oldest dispatch is not slow, it will never report.

Theory of operation. A worker's heartbeats come from its event loop, not from the thread that computes: a forward that
never ends is not silent. So at every tick it is asked how long the oldest dispatch of each worker has been the oldest,
in time for which the engine was awake (longtake.core.awake). What is usual is what the worker has reported: one that
has reported nothing, or little (it may still compile), is never judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from longtake.core.awake import Awake
from longtake.core.effects import GiveUp
from longtake.core.fleet.worker import InFlight, Worker
from longtake.core.work import WorkerId

TIMES = 20.0
"""A dispatch that takes so many times as long as usual never ends. A machine that is busy with other things may well
make it ten times as long."""
LEAST_S = 5.0
"""However short dispatches are, one that takes less than this may end yet."""
REPORTS = 20
"""So many dispatches a worker must have reported before it is judged: at first it compiles and allocates."""


class Hangs:
    """Watches the oldest dispatch of each worker."""

    def __init__(self) -> None:
        self._awake: Awake | None = None
        self._oldest: dict[WorkerId, tuple[InFlight, float]] = {}
        """The oldest dispatch of each worker that has one, and when it became that, in time awake."""

    def look(self, workers: Iterable[Worker], *, now_s: float) -> list[GiveUp]:
        """To be called at every tick, with all workers; returns which of them hang, each once."""
        if self._awake is None:
            self._awake = Awake(now_s)
        awake_s, before, self._oldest = self._awake.look(now_s), self._oldest, {}
        hung = []
        for worker in workers:
            if not worker.in_flight:
                continue
            oldest = worker.in_flight[0]
            seen, since_s = before.get(worker.id, (None, awake_s))
            if seen is not oldest:
                since_s = awake_s
            limit_s = _limit_s(worker, oldest)
            if awake_s - since_s > limit_s:
                reason = f"it hangs: dispatch {oldest.sequence} has taken more than {limit_s:.3g} s"
                hung.append(GiveUp(worker=worker.id, reason=reason))
                since_s = math.inf
            self._oldest[worker.id] = oldest, since_s
        return hung


def _limit_s(worker: Worker, oldest: InFlight) -> float:
    """How long the worker may take for its oldest dispatch; infinity if too little is known of it."""
    timing = worker.timing
    if worker.next_sequence - len(worker.in_flight) < REPORTS or not timing.op_s:
        return math.inf
    passage_s = max(timing.pass_s, len(oldest.tickets) * timing.op_s) * worker.chain_length
    return max(TIMES * passage_s, LEAST_S)
