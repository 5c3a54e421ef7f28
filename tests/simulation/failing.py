"""Ops that fail, for want of memory, say: each at most once, with all that was ordered behind it in its lane."""

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
    failed: set[Job] = field(default_factory=set)

    def fails(self, job: Job) -> bool:
        """Whether this op fails now; never one that did before."""
        fails = job not in self.failed and self.draw.random() < self.share
        if fails:
            self.failed.add(job)
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
        for item, job in zip(items, jobs_of(task), strict=True):
            reason = "no memory" if self._failures.fails(job) else self._tried(task, item, outputs)
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
