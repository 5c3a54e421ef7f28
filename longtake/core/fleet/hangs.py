"""Hangs: a worker that takes far too long for its oldest order is not slow, it will never answer.

Theory of operation. A worker's heartbeats come from its event loop, not from the threads that compute and copy: a
forward, a preparation or a copy that never ends is not silent. So at every tick it is asked how long the oldest order
that each thread of each worker has not answered has been the oldest, in time for which the engine was awake
(longtake.core.awake). What is usual is what the worker has reported: one that has reported nothing, or little (it may
still compile), is given far more time; and for ops of other shapes it goes by what those take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from longtake.core.awake import Awake
from longtake.core.effects import EncodeText, GiveUp
from longtake.core.fleet.errands import Errand, Thread
from longtake.core.fleet.worker import InFlight, Worker
from longtake.core.work import Role, WorkerId

TIMES = 20.0
"""What takes so many times as long as usual never ends. A machine that is busy with other things may well make it ten
times as long."""
LEAST_S = 5.0
"""However short dispatches and errands are, one that takes less than this may end yet."""
REPORTS = 20
"""So many dispatches a worker must have reported before it is judged by them: at first it compiles and allocates."""
FIRST_S = 300.0
"""Until then a dispatch that takes less than this may end yet; so may a text worker's prompt."""
ERRAND_S = 30.0
"""The same for other errands: nothing is compiled for them."""
COPY_S = 60.0
"""A copy of state may take so long if it may wait for another worker, which is given up after half of that."""


_Order = InFlight | Errand


@dataclass(slots=True)
class _Watch:
    """The oldest order of one thread."""

    order: _Order
    since_s: float
    """When it became that, in time awake."""
    is_told: bool = False


class Hangs:
    """Watches the oldest order of each thread of each worker."""

    def __init__(self) -> None:
        self._awake: Awake | None = None
        self._watched: dict[tuple[WorkerId, Thread], _Watch] = {}
        """Of each thread that has anything to do."""

    def look(self, workers: Iterable[Worker], *, now_s: float) -> list[GiveUp]:
        """To be called at every tick, with all workers; returns which of them hang, each once.

        Notes with every worker how old its oldest order is.
        """
        if self._awake is None:
            self._awake = Awake(now_s)
        awake_s, before, self._watched = self._awake.look(now_s), self._watched, {}
        hung: dict[WorkerId, GiveUp] = {}
        for worker in workers:
            worker.oldest_s = 0.0
            if not worker.in_flight and not worker.errands.count:
                continue
            for thread in Thread:
                oldest = _oldest(worker, thread)
                if oldest is None:
                    continue
                key = worker.id, thread
                watch = before.get(key)
                if watch is None or watch.order is not oldest:
                    watch = _Watch(oldest, awake_s)
                self._watched[key] = watch
                age_s, limit_s = awake_s - watch.since_s, _limit_s(worker, oldest)
                worker.oldest_s = max(worker.oldest_s, age_s)
                if age_s > limit_s and not watch.is_told:
                    watch.is_told = True
                    reason = f"it hangs: {oldest.name} has taken more than {limit_s:.3g} s"
                    hung.setdefault(worker.id, GiveUp(worker=worker.id, reason=reason))
        return list(hung.values())


def _oldest(worker: Worker, thread: Thread) -> _Order | None:
    """What a thread is at: it does what it is sent in order."""
    errand = worker.errands.oldest(thread)
    if thread is Thread.IMAGES or not worker.in_flight:
        return errand
    flying = worker.in_flight[0]
    return flying if errand is None or flying.dispatched_s <= errand.ordered_s else errand


def _limit_s(worker: Worker, oldest: _Order) -> float:
    """How long the worker may take for its oldest order."""
    if isinstance(oldest, Errand):
        return _errand_limit_s(worker, oldest)
    timing = worker.timing
    is_known = worker.next_sequence - len(worker.in_flight) >= REPORTS and timing.op_s > 0
    passage_s = max(timing.pass_s, len(oldest.tickets) * timing.op_s) * oldest.cost * worker.chain_length
    return max(TIMES * passage_s, LEAST_S if is_known else FIRST_S)


def _errand_limit_s(worker: Worker, errand: Errand) -> float:
    usual_s = worker.errands.usual_s(errand)
    if usual_s is None:
        loads = isinstance(errand.order, EncodeText) and worker.role is Role.TEXT
        least_s = FIRST_S if loads else ERRAND_S
    else:
        least_s = max(TIMES * usual_s, LEAST_S)
    return max(least_s, COPY_S) if errand.may_wait else least_s
