"""Ops that fail, for want of memory, say, with all that was ordered behind them in their lanes.

A worker says which sessions of a dispatch have failed, not which ops. So an op that shares its forward with others of
its session does not fail here: it could be taken for one of those, and no op may fail twice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from longtake.core.work import SessionId
from tests.simulation.faults import Job, jobs_of
from workers.messages import OP_ERRORS, Decode, Done, Failed, Forward, Task, reason_of
from workers.simulated.fake import FakeWorker


@dataclass(slots=True)
class Failures:
    """Which ops fail in one run."""

    share: float
    draw: random.Random
    _failed: set[Job] = field(default_factory=set)

    def fails(self, job: Job, mates: tuple[Job, ...]) -> bool:
        """Whether this op of a dispatch fails now; no op does twice."""
        is_alone = sum(mate.session == job.session for mate in mates) == 1
        fails = is_alone and job not in self._failed and self.draw.random() < self.share
        if fails:
            self._failed.add(job)
        return fails


class FailingWorker:
    """A fake worker whose ops may fail."""

    def __init__(self, fake: FakeWorker, failures: Failures) -> None:
        self._fake = fake
        self._failures = failures
        self._struck: set[SessionId] = set()
        """Sessions of which an op has failed here: what was ordered behind it starts from what is not there."""

    def perform(self, task: Task) -> Done | Failed:
        """Do a dispatch as far as it can be done; raises what an op of a session raises that nothing has failed of."""
        items: tuple[Forward | Decode, ...] = (task.order,) if isinstance(task.order, Decode) else task.order
        outputs: list[bytes] = []
        failed: dict[SessionId, str] = {}
        jobs = jobs_of(task)
        for item, job in zip(items, jobs, strict=True):
            reason = "no memory" if self._failures.fails(job, jobs) else self._tried(task, item, outputs)
            if reason:
                failed[job.session] = reason
                self._struck.add(job.session)
                if isinstance(item, Forward) and item.work.returns.are_sent:
                    outputs.append(b"")
        if failed:
            sessions, reason = tuple(failed), next(iter(failed.values()))
            return Failed(sessions=sessions, sequence=task.sequence, reason=reason, outputs=tuple(outputs))
        if isinstance(task.order, Decode):
            return Done(sequence=task.sequence, segment=outputs[0])
        return Done(sequence=task.sequence, outputs=tuple(outputs))

    def _tried(self, task: Task, item: Forward | Decode, outputs: list[bytes]) -> str:
        """Do one op and add what it puts out; why it cannot be done, or nothing."""
        try:
            if isinstance(item, Forward):
                outputs += self._fake.lanes.forward(item)
            else:
                report = self._fake.perform(task)
                assert isinstance(report, Done)
                outputs.append(report.segment)
        except OP_ERRORS as error:
            if item.work.session not in self._struck:
                raise
            return reason_of(error)
        return ""
