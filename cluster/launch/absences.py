"""Absences: workers that have no link, and may not come back by themselves.

Theory of operation. A process that is stopped, or whose device never ends a forward, does not notice that the engine
has given its worker up. Whoever was given up while the link stood lives, with its weights loaded, and dials in again
within a moment; if it does not, its process is of no use and is to be ended, so that a new one takes its place. Where
the link itself broke, a new process may be loading weights already: it has as long as at the start. Only time counts
for which the engine was awake (longtake.core.awake).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from longtake.core.awake import TURN_S, Awake
from longtake.core.work import WorkerId
from workers.denoise.layer_split import PEER_S

BACK_S = 10.0
"""A worker that was given up has so long to dial in again."""
CHAINED_S = PEER_S + BACK_S
"""The same for a worker of a chain: it may wait for the one that hangs."""

_log = logging.getLogger("longtake.launch")


class Absences:
    """Since when each absent worker has been away, in seconds awake, and how long it may be."""

    def __init__(self, start_within_s: float) -> None:
        """`start_within_s`: how long a new process may take to attach."""
        self._start_within_s = start_within_s
        self._awake: Awake | None = None
        self._away: dict[WorkerId, tuple[float, float]] = {}

    @property
    def _awake_s(self) -> float:
        return 0.0 if self._awake is None else self._awake.lasted_s

    def came(self, worker: WorkerId) -> None:
        """The worker has a link."""
        self._away.pop(worker, None)

    def given_up(self, worker: WorkerId, *, chained: bool) -> None:
        """The engine has ended the link of a worker that lives; it is one of a chain, or not."""
        self._away[worker] = self._awake_s, CHAINED_S if chained else BACK_S

    def starts(self, worker: WorkerId) -> None:
        """A new process is starting, or is expected to: its link broke, or it was ended."""
        self._away[worker] = self._awake_s, self._start_within_s

    def overdue(self, now_s: float) -> list[WorkerId]:
        """To be called every TURN_S: the workers that were away for too long, each to be ended and started anew."""
        if self._awake is None:
            self._awake = Awake(now_s)
        awake_s = self._awake.look(now_s)
        late = [worker for worker, (since_s, limit_s) in self._away.items() if awake_s - since_s > limit_s]
        for worker in late:
            self.starts(worker)
        return late

    async def watch(self, end: Callable[[WorkerId], Awaitable[None]]) -> None:
        """Have those ended that are overdue, with whatever then starts them anew; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for worker in self.overdue(loop.time()):
                _log.warning("%s was given up and does not come back: its process is ended and started anew", worker)
                await end(worker)
            await asyncio.sleep(TURN_S)
