"""What is counted of workers: ops, passes, copies, and how they came and went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from longtake.core.events import Loss, OpDone, OpFailed, WorkerJoined, WorkerLost
from longtake.core.recipe.graph import Kind
from longtake.core.work import Role, WorkerId
from monitoring.folding.histogram import Histogram

COPIES = ("stowed", "loaded", "given", "failed")


@dataclass(slots=True)
class WorkerTally:
    """One worker (a chain of them is one) since the server started, however often it joined."""

    role: Role
    busy_s: float = 0.0
    """By its own clock."""
    sizes: Counter[int] = field(default_factory=Counter)
    """Dispatches done, by how many ops they held."""
    denoised: int = 0
    committed: int = 0
    decoded: int = 0
    """Ops done, by kind."""
    failures: int = 0
    """Dispatches and preparations that failed."""
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COPIES, 0))
    before_s: float = 0.0
    """`busy_s` when it joined last …"""
    before: int = 0
    """… and the ops it had done …"""
    before_passes: int = 0
    """… and the dispatches."""

    @property
    def passes(self) -> int:
        """Dispatches done."""
        return sum(self.sizes.values())

    @property
    def ops(self) -> dict[Kind, int]:
        """Ops done."""
        return {Kind.DENOISE: self.denoised, Kind.COMMIT: self.committed, Kind.DECODE: self.decoded}

    @property
    def done(self) -> int:
        """Ops of all kinds."""
        return self.denoised + self.committed + self.decoded

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


class Labour:
    """Folds what concerns workers."""

    def __init__(self) -> None:
        self.workers: dict[WorkerId, WorkerTally] = {}
        """All that ever joined; a configuration names so many and no more."""
        self.joined = dict.fromkeys(Role, 0)
        self.lost = {(role, cause): 0 for role in Role for cause in Loss}
        self.lane_moves = 0

    def join(self, event: WorkerJoined) -> None:
        """A worker is here."""
        worker = self.workers.setdefault(event.worker, WorkerTally(role=event.role))
        worker.before_s, worker.before, worker.before_passes = worker.busy_s, worker.done, worker.passes
        self.joined[event.role] += 1

    def lose(self, event: WorkerLost) -> None:
        """A worker has gone."""
        worker = self.workers.get(event.worker)
        if worker is not None:
            self.lost[worker.role, event.cause] += 1

    def op_done(self, event: OpDone) -> None:
        """A dispatch is done."""
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        size = event.ops
        worker.busy_s += event.seconds
        worker.sizes[size] += 1
        if worker.role is Role.DECODE:
            worker.decoded += size
        else:
            denoised = len(event.sha256)
            worker.denoised += denoised
            worker.committed += size - denoised

    def op_failed(self, event: OpFailed) -> None:
        """A dispatch or a preparation has failed; the ops of sessions that it does not name are done."""
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        worker.failures += 1
        if event.ops:
            denoised = sum(bool(name) for name in event.sha256)
            worker.denoised += denoised
            worker.committed += event.ops - denoised
            worker.sizes[event.ops] += 1

    def pass_ops(self, role: Role) -> Histogram:
        """Ops that shared a dispatch, of all workers of a role."""
        histogram = Histogram.of("longtake_pass_ops")
        for worker in self.workers.values():
            if worker.role is role:
                for size, count in worker.sizes.items():
                    histogram.observe(size, count)
        return histogram

    def copied(self, worker: WorkerId, order: str) -> None:
        """An order about an image, one of COPIES, was done, given or failed."""
        if worker in self.workers:
            self.workers[worker].copies[order] += 1
