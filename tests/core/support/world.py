"""A whole cell without devices, driven by hand: what workers do and clients acknowledge, and in which order."""

from __future__ import annotations

from typing import TypeVar

from longtake.core.effects import Dispatch
from longtake.core.errors import UnknownPeer
from longtake.core.events import Ack, OpDone, OpFailed
from longtake.core.work import DecodeWork, DispatchNumber, ForwardWork, Role, SessionId, WorkerId
from tests.core.support.batches import is_joint
from tests.core.support.checked import CheckedCell
from tests.core.support.parts import op_of, works_of
from tests.core.support.unbegun import is_unbegun
from workers.messages import Decode, Done, Forward, Task

T = TypeVar("T")


class Cell(CheckedCell):
    """A cell whose workers report whatever, whenever the test says."""

    def answer(self) -> None:
        """Deliver what decode workers owe to openings and cues."""
        while self.answers:
            self.send(self.answers.popleft())

    def run_with_a_loss(self, victim: str, after: int) -> None:
        """After so many dispatches a worker is lost and another joins under its name; then all runs to its end."""
        for _ in range(after):
            if self.busy:
                self.finish_and_acknowledge(self.busy[0])
        self.lose(WorkerId(victim))
        role, room = (Role.DECODE, 16) if "decode" in victim else (Role.DENOISE, 400)
        self.join(WorkerId(victim), role, room)
        self.run()

    def finish(self, worker: WorkerId, *, seconds: float = 0.0) -> Dispatch:
        """The worker finishes its oldest dispatch, and says that it took `seconds`."""
        dispatch = self.queues[worker].popleft()
        works = works_of(dispatch)
        if not isinstance(dispatch.work, DecodeWork) and is_joint(dispatch.work):
            works = ()
            if (dispatch.work[0].session, op_of(dispatch.work[0])) not in self.void:
                self.run_together(worker, dispatch.work)
        for work in works:
            if (work.session, op_of(work)) in self.void:
                continue
            try:
                self.run_op(worker, work)
            except UnknownPeer:
                assert work.session in self.closed, "it starts from what no op has left"
            self.done.add((work.session, op_of(work)))
        self._copy(worker, 1)
        self.send(OpDone(now_s=self.now_s, worker=worker, sequence=dispatch.sequence, seconds=seconds))
        return dispatch

    def fail(self, worker: WorkerId, *failed: SessionId, reason: str = "no memory") -> Dispatch:
        """The oldest dispatch of the worker fails for these sessions, and is done for others."""
        dispatch = self.queues[worker].popleft()
        self.struck.update(failed)
        for other in self.queues[worker]:
            self.void |= {(work.session, op_of(work)) for work in works_of(other) if work.session in failed}
        for work in works_of(dispatch):
            if work.session not in failed:
                self.run_op(worker, work)
                self.done.add((work.session, op_of(work)))
        event = OpFailed(now_s=self.now_s, worker=worker, sessions=failed, sequence=dispatch.sequence, reason=reason)
        self.send(event)
        return dispatch

    def run_op(self, worker: WorkerId, work: ForwardWork | DecodeWork) -> None:
        """Have a worker do an op that it was sent, after a look at what it will read."""
        if isinstance(work, ForwardWork) and (work.session, op_of(work)) in self.renewals:
            self.run_together(worker, (work,))
            return
        order = self.in_flight.pop((work.session, op_of(work)))
        again = (work.session, op_of(work)) in self.replays
        if again:
            self.contents.check_replay(order)
        elif isinstance(order, Decode):
            self.contents.check_state(worker, order)
        else:
            self.contents.check_reads(worker, order.work)
        task = Task(sequence=DispatchNumber(0), order=order if isinstance(order, Decode) else (order,))
        done = self.fakes[worker].perform(task)
        assert isinstance(done, Done)
        if isinstance(work, ForwardWork) and not again:
            self.contents.done(worker, work)
            self.versions.setdefault((work.session, work.block), set()).add(work.conditioning.version)
            for latents in done.outputs:
                self.kept.put(work, latents)

    def run_together(self, worker: WorkerId, works: tuple[ForwardWork, ...]) -> None:
        """Have a worker commit blocks anew in one forward."""
        orders = [self.in_flight.pop((work.session, op_of(work))) for work in works]
        renewal = self.renewals[works[0].session, op_of(works[0])]
        for work, order in zip(works, orders, strict=True):
            self.contents.check_replay(order, renewal.block)
            assert self.renewals[work.session, op_of(work)] == renewal
        if renewal.is_new:
            self.contents.check_renewal(worker, works, renewal.block)
        forwards = tuple(order for order in orders if isinstance(order, Forward))
        self.fakes[worker].perform(Task(sequence=DispatchNumber(0), order=forwards))
        for work in works:
            if renewal.is_new or (work.block < 0 and self._is_first(work)):
                self.contents.renewed(worker, work, renewal.block)

    def _is_first(self, work: ForwardWork) -> bool:
        """Whether a reference is committed that no block has read: what was, was lost, or had another prompt."""
        return (
            is_unbegun(work, self.graph_of(work.session), self.sent)
            or (work.session, work.lane, work.block) not in self.contents.sealed
        )

    def finish_and_acknowledge(self, worker: WorkerId) -> None:
        work = self.finish(worker).work
        if isinstance(work, DecodeWork) and work.session not in self.closed:
            self.send(Ack(now_s=self.now_s, session=work.session, segment=work.block))

    def steps(self, count: int) -> None:
        """Finish `count` dispatches, workers in turn, acknowledging every segment."""
        for turn in range(count):
            self.finish_and_acknowledge(self.busy[turn % len(self.busy)])

    def copy(self, *, fail: bool = False) -> None:
        """Every worker that can do an order about an image does one."""
        for worker in self.images.ready:
            if worker in self.images.ready:
                self.carry_out(worker, fails=fail)

    def carry_out(self, worker: WorkerId, *, fails: bool = False) -> None:
        """The worker does its oldest order about an image, or cannot."""
        if fails:
            self.struck.update(record.id for record in self.records)
        answer = self.images.step(worker, now_s=self.now_s, fail=fails)
        if answer is not None:
            self.send(answer)

    @property
    def busy(self) -> list[WorkerId]:
        """Workers that can finish a dispatch."""
        return [worker for worker, queue in self.queues.items() if queue and worker not in self.stuck]

    def run(self, *, acknowledge: bool = True, limit: int = 100_000) -> None:
        """Let everything finish in round-robin order, acknowledging each segment, until nothing is left to do."""
        for _ in range(limit):
            self.answer()
            self.copy()
            workers = self.busy
            if not workers and not self.images.ready:
                return
            for worker in workers:
                if self.queues[worker]:
                    self.finish_and_acknowledge(worker) if acknowledge else self.finish(worker)
                self.answer()
        raise AssertionError("the cell does not come to rest")


def forwards_of(cell: Cell) -> list[ForwardWork]:
    """Every denoise and commit op that was dispatched, in order."""
    return [work for d in effects_of(cell, Dispatch) if not isinstance(d.work, DecodeWork) for work in d.work]


def effects_of(cell: Cell, kind: type[T]) -> list[T]:
    return [effect for effect in cell.effects if isinstance(effect, kind)]
