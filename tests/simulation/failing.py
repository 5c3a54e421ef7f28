"""Ops that fail, for want of memory, say, with all that was ordered behind them in their lanes.

A worker says which sessions of a dispatch have failed, not which ops. So an op that shares its forward with others of
its session does not fail here: it could be taken for one of those, and no op may fail twice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from longtake.core.work import SessionId
from tests.simulation.faults import Job, jobs_of
from workers.denoise.apart import apart
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
        parts = [[0]] if isinstance(task.order, Decode) else apart(task.order)
        outputs: dict[int, list[bytes]] = {}
        failed: dict[SessionId, str] = {}
        jobs = jobs_of(task)
        for part in parts:
            mine = [items[number] for number in part]
            fails = len(part) == 1 and self._failures.fails(jobs[part[0]], jobs)
            found, reason = ([], "no memory") if fails else self._tried(task, mine)
            if reason:
                session = jobs[part[0]].session
                failed[session] = reason
                self._struck.add(session)
                found = [b"" for item in mine if isinstance(item, Forward) and item.work.returns.are_sent]
            outputs |= self._by_item(part, mine, found)
        sent = tuple(output for number in sorted(outputs) for output in outputs[number])
        if failed:
            sessions, reason = tuple(failed), next(iter(failed.values()))
            return Failed(sessions=sessions, sequence=task.sequence, reason=reason, outputs=sent)
        if isinstance(task.order, Decode):
            return Done(sequence=task.sequence, segment=sent[0])
        return Done(sequence=task.sequence, outputs=sent)

    def _by_item(
        self, part: Sequence[int], items: Sequence[Forward | Decode], found: Sequence[bytes]
    ) -> dict[int, list[bytes]]:
        """What the ops of a part have put out, by their numbers."""
        left = iter(found)
        return {
            number: [next(left)] if isinstance(item, Decode) or item.work.returns.are_sent else []
            for number, item in zip(part, items, strict=True)
            if found
        }

    def _tried(self, task: Task, items: Sequence[Forward | Decode]) -> tuple[list[bytes], str]:
        """Do ops that are one thing: what they put out, or why they cannot be done."""
        try:
            forwards = [item for item in items if isinstance(item, Forward)]
            if forwards:
                return self._fake.lanes.batch(forwards), ""
            report = self._fake.perform(task)
            assert isinstance(report, Done)
        except OP_ERRORS as error:
            if items[0].work.session not in self._struck:
                raise
            return [], reason_of(error)
        return [report.segment], ""
