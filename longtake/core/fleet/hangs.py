"""Hangs: a worker that takes far too long for its oldest dispatch is not slow, it will never report.

Theory of operation. A worker's heartbeats come from its event loop, not from the thread that computes: a forward that
never ends is not silent. So at every tick it is asked how long the oldest dispatch of each worker has been the oldest,
in time for which the engine was awake (longtake.core.awake). What is usual is what the worker has reported: one that
has reported nothing, or little (it may still compile), is given far more time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from longtake.core.awake import Awake
from longtake.core.effects import GiveUp
from longtake.core.fleet.worker import InFlight, Worker
from longtake.core.work import ConditioningRef, WorkerId

TIMES = 20.0
"""A dispatch that takes so many times as long as usual never ends. A machine that is busy with other things may well
make it ten times as long."""
LEAST_S = 5.0
"""However short dispatches are, one that takes less than this may end yet."""
REPORTS = 20
"""So many dispatches a worker must have reported before it is judged by them: at first it compiles and allocates."""
FIRST_S = 300.0
"""Until then a dispatch that takes less than this may end yet; so may a prompt, always."""


_Work = InFlight | ConditioningRef


class Hangs:
    """Watches the oldest dispatch of each worker, of a text worker its oldest prompt."""

    def __init__(self) -> None:
        self._awake: Awake | None = None
        self._oldest: dict[WorkerId, tuple[_Work, float]] = {}
        """The oldest work of each worker that has any, and when it became that, in time awake."""

    def look(
        self, workers: Iterable[Worker], prompts: Mapping[WorkerId, ConditioningRef], *, now_s: float
    ) -> list[GiveUp]:
        """To be called at every tick, with all workers; returns which of them hang, each once.

        `prompts` are those that text workers encode. Notes with every worker how old its oldest work is.
        """
        if self._awake is None:
            self._awake = Awake(now_s)
        awake_s, before, self._oldest = self._awake.look(now_s), self._oldest, {}
        hung = []
        for worker in workers:
            if not worker.in_flight and worker.id not in prompts:
                worker.oldest_s = 0.0
                continue
            oldest = worker.in_flight[0] if worker.in_flight else prompts[worker.id]
            seen, since_s = before.get(worker.id, (None, awake_s))
            if seen is not oldest:
                since_s, worker.oldest_s = awake_s, 0.0
            before_s, worker.oldest_s = worker.oldest_s, awake_s - since_s
            limit_s = _limit_s(worker, oldest)
            if before_s <= limit_s < worker.oldest_s:
                what = f"dispatch {oldest.sequence}" if isinstance(oldest, InFlight) else "a prompt"
                reason = f"it hangs: {what} has taken more than {limit_s:.3g} s"
                hung.append(GiveUp(worker=worker.id, reason=reason))
            self._oldest[worker.id] = oldest, since_s
        return hung


def _limit_s(worker: Worker, oldest: _Work) -> float:
    """How long the worker may take for its oldest work; the time of texts is not known."""
    timing = worker.timing
    if not isinstance(oldest, InFlight):
        return FIRST_S
    is_known = worker.next_sequence - len(worker.in_flight) >= REPORTS and timing.op_s > 0
    passage_s = max(timing.pass_s, len(oldest.tickets) * timing.op_s) * worker.chain_length
    return max(TIMES * passage_s, LEAST_S if is_known else FIRST_S)
