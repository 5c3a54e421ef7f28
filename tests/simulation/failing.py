"""Ops that fail, for want of memory, say, with all that was ordered behind them in their lanes.

A worker says which sessions of a dispatch have failed, not which ops: so an op may be taken for one that it shared a
forward with. That nothing ends a stream at once is therefore promised for failures that lie apart.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from longtake.core.work import SessionId
from tests.simulation.faults import Job, jobs_of
from workers.messages import OP_ERRORS, Decode, Done, Failed, Forward, Task, reason_of
from workers.simulated.fake import FakeWorker

APART = 20
"""So many ops of a session do not fail after one has."""


@dataclass(slots=True)
class Failures:
    """Which ops fail in one run."""

    share: float
    draw: random.Random
    _since: dict[SessionId, int] = field(default_factory=dict)
    """How many ops of each session were tried since one has failed."""

    def fails(self, job: Job) -> bool:
        """Whether this op fails now."""
        since = self._since[job.session] = self._since.get(job.session, APART) + 1
        fails = since > APART and self.draw.random() < self.share
        if fails:
            self._since[job.session] = 0
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
