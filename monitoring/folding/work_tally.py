"""What is counted of workers: ops, passes, copies, and how they came and went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from longtake.core.effects import Worked
from longtake.core.events import OpFailed, WorkerJoined, WorkerLost
from longtake.core.facts import RENEWALS
from longtake.core.recipe.ops import Kind
from longtake.core.work import Loss, Role, WorkerId
from monitoring.folding.histogram import Histogram

COPIES = ("stowed", "loaded", "given", "failed")


@dataclass(slots=True)
class WorkerTally:
    """One worker (a chain of them is one) since the server started, however often it joined."""

    role: Role
    busy_s: float = 0.0
    """Seconds that it was busy, by its own clock."""
    sizes: Counter[int] = field(default_factory=Counter)
    """Dispatches that are done, by how many ops they held."""
    ops: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    """Ops that are done, by kind."""
    failures: int = 0
    """Dispatches and preparations that failed."""
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COPIES, 0))
    before_s: float = 0.0
    """`busy_s` when it joined last."""
    before: int = 0
    """How many ops it had done when it joined last."""
    before_passes: int = 0
    """How many dispatches it had done when it joined last."""

    @property
    def passes(self) -> int:
        """Dispatches done."""
        return sum(self.sizes.values())

    @property
    def done(self) -> int:
        """Ops of all kinds."""
        return sum(self.ops.values())

    @property
    def busy_since_joined_s(self) -> float:
        """Time spent on ops since it joined last."""
        return self.busy_s - self.before_s

    @property
    def done_since_joined(self) -> int:
        """Ops done since it joined last."""
        return self.done - self.before

    @property
    def passes_since_joined(self) -> int:
        """Dispatches done since it joined last."""
        return self.passes - self.before_passes


class FleetTally:
    """Folds what concerns workers."""

    def __init__(self) -> None:
        self.workers: dict[WorkerId, WorkerTally] = {}
        """All workers that ever joined; the configuration bounds their number."""
        self.joined = dict.fromkeys(Role, 0)
        self.lost = {(role, cause): 0 for role in Role for cause in Loss if cause is not Loss.ENDED}
        self.lane_moves = 0
        self.renewals = dict.fromkeys(RENEWALS, 0)

    def join(self, event: WorkerJoined) -> None:
        """Count a worker that has joined."""
        worker = self.workers.setdefault(event.worker, WorkerTally(role=event.role))
        worker.before_s, worker.before, worker.before_passes = worker.busy_s, worker.done, worker.passes
        self.joined[event.role] += 1

    def lose(self, event: WorkerLost) -> None:
        """Count a worker that was lost; one that the server itself ends was not."""
        worker = self.workers.get(event.worker)
        if worker is not None and event.cause is not Loss.ENDED:
            self.lost[worker.role, event.cause] += 1

    def worked(self, fact: Worked) -> None:
        """Count a dispatch that was reported."""
        worker = self.workers.get(fact.worker)
        if worker is None or not fact.ops:
            return
        worker.busy_s += fact.seconds
        worker.sizes[len(fact.ops)] += 1
        for ticket in fact.ops:
            worker.ops[ticket.op.kind] += 1

    def failed(self, event: OpFailed) -> None:
        """Count a dispatch or a preparation that has failed."""
        if event.worker in self.workers:
            self.workers[event.worker].failures += 1

    def pass_ops(self, role: Role) -> Histogram:
        """The histogram of ops that shared a dispatch, over all workers of a role."""
        histogram = Histogram.of("longtake_pass_ops")
        for worker in self.workers.values():
            if worker.role is role:
                for size, count in worker.sizes.items():
                    histogram.observe(size, count)
        return histogram

    def copied(self, worker: WorkerId, order: str) -> None:
        """Count what became of an order about an image; `order` is one of COPIES."""
        if worker in self.workers:
            self.workers[worker].copies[order] += 1
