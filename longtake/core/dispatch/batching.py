"""Batching: which ready ops a worker is handed together.

Theory of operation. One forward may serve several ops, up to the batch limit of the worker: the most urgent one takes
along, in the order of their urgency, others that are ready now and have the same shape: as many own frames, as many
pages to read. None of those depends on another or shares its lane, because an op becomes ready only when all it needs
is done or dispatched. Mates of one kind are preferred where they fill the batch: a forward of nothing but commits
ends early; else denoise ops and commits go together, if the worker has proved that this changes no bit.

Fused passes. In a lane that has a spare block of pages a commit may even take along the denoise op that waits for it,
D(s,n) beside C(s,n-1): in every layer of a forward all keys and values are written before any are read, so D(s,n) reads
what C(s,n-1) has just written, and C(s,n-1) still reads what D(s,n) would otherwise overwrite.
Not so where the lane is renewed between the two.

Joint ops. Where blocks step together (recipe/joint.py) only the first of the ops that go together is on the ready list,
and takes all the others along, the oldest block first, whatever the batch limit: that is what the recipe says, and not
a way to save time. Mates join if there is room beside them, and if they all read as many pages. Blocks that are
committed anew jointly (recipe/renewals.py) are one dispatch, too, as large as it is, in which there is nobody else.

As a batch takes longer than a single op, it takes along no op that is due later than one it leaves behind, and to an op
that has a deadline no more ops without one than it still has time for.

Ageing. Streams that the machine cannot keep up with always have something ready that is overdue, so ops without a
deadline would wait for ever. But no more than `Limits.load_limit` of a worker is ever reserved: what is left, one
dispatch in twenty, is theirs whatever else is ready. No stream waits longer for that than for one dispatch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import islice

from longtake.core.cell import Cell
from longtake.core.dispatch.offering import Offers
from longtake.core.fleet.ready import Urgency
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions import scenes
from longtake.core.sessions.session import Session
from longtake.core.work import Ticket

_FORWARDS = frozenset({Kind.DENOISE, Kind.COMMIT})
_ALONE = {kind: frozenset({kind}) for kind in Kind}

Tickets = tuple[Ticket, ...]
Likeness = tuple[object, ...]
"""What ops of one forward have in common."""


class Batching:
    """Makes up batches from ready lists."""

    def __init__(self, cell: Cell, offers: Offers) -> None:
        self._cell = cell
        self._offers = offers

    def batch(self, worker: Worker, *, now_s: float) -> Tickets:
        """The most urgent ready op and the mates it takes along; at least one op must be ready."""
        first = self._first(worker, now_s=now_s)
        if (renewal := self._renewal(first)) is not None:
            return renewal
        riders = self._riders(first)
        if worker.batch_limit <= len(riders) or first.op.kind is Kind.DECODE or not self._is_proven(first):
            return riders
        if len(riders) > 1:
            kinds = self._kinds(first)
            is_proven = worker.mixes_kinds or kinds != _FORWARDS
            return self._together(worker, first, kinds, now_s=now_s) if is_proven else riders
        batch = self._together(worker, first, _ALONE[first.op.kind], now_s=now_s)
        if not worker.mixes_kinds:
            return batch
        if len(batch) < worker.batch_limit:
            mixed = self._together(worker, first, _FORWARDS, now_s=now_s)
            batch = max(batch, mixed, key=len)
        room = worker.batch_limit - len(batch)
        return (*batch, *islice(self._fused_with(worker, batch, now_s=now_s), room)) if room else batch

    def _renewal(self, ticket: Ticket) -> Tickets | None:
        """The ops of a joint renewal that must go together with this one, and with no others; else None."""
        session = self._cell.sessions[ticket.session]
        if not session.progress.again:
            return None
        chain = session.graph.number_of(ticket.op)
        blocks = session.progress.again.joint(chain)
        return None if blocks is None else tuple(session.ticket(chain, block) for block in blocks)

    def has_no_deadline(self, worker: Worker) -> bool:
        """Whether no op that is ready for the worker has a deadline."""
        return worker.ready[worker.ready.most_urgent(self._urgency)].deadline_s == math.inf

    def _first(self, worker: Worker, *, now_s: float) -> Ticket:
        """The most urgent op; where those without a deadline have waited for their share, the first of these."""
        ready, first = worker.ready, worker.ready.most_urgent(self._urgency)
        limit = self._cell.limits.load_limit
        if ready[first].deadline_s < math.inf and worker.owes_share(limit=limit, now_s=now_s):
            patient = (ticket for ticket, urgency in ready.items() if urgency.deadline_s == math.inf)
            next_one = min(patient, key=self._urgency, default=first)
            cost = max(1.0, self._cost(worker, next_one))  # one that takes longer waits longer
            return next_one if worker.owes_share(limit=limit, now_s=now_s, cost=cost) else first
        return first

    def _together(self, worker: Worker, first: Ticket, kinds: frozenset[Kind], *, now_s: float) -> Tickets:
        """`first` and the most urgent of those that may go with it, of `kinds` only."""
        ready, shape = worker.ready, self._shape(first)
        mates, left_s = [], math.inf
        for ticket in ready:
            is_mate = kinds >= self._kinds(ticket) and self._renewal(ticket) is None
            if not is_mate or self._shape(ticket) != shape:
                left_s = min(left_s, ready[ticket].deadline_s)
            elif ticket != first:
                mates.append(ticket)
        allowed = [ticket for ticket in mates if ready[ticket].deadline_s <= left_s]
        # Which of them go has to be fair by what their sessions have received by now, not when they became ready.
        urgency = ready.__getitem__ if len(allowed) < worker.batch_limit else self._urgency
        chosen = heapq.nsmallest(worker.batch_limit - 1, allowed, key=urgency)
        spare_s, op_s = ready[first].deadline_s - now_s, worker.timing.op_s * self._cost(worker, first)
        while chosen and (1 + len(chosen)) * op_s > spare_s and ready[chosen[-1]].deadline_s == math.inf:
            chosen.pop()
        return self._with_riders((first, *chosen), worker.batch_limit)

    def _with_riders(self, chosen: Tickets, limit: int) -> Tickets:
        """All ops that these take along, as many of them as have room."""
        batch: Tickets = ()
        for ticket in chosen:
            riders = self._riders(ticket)
            if batch and len(batch) + len(riders) > limit:
                break
            batch = (*batch, *riders)
        return batch

    def _riders(self, ticket: Ticket) -> Tickets:
        """The ops of its session that go together with one that is ready, itself among them."""
        session = self._cell.sessions[ticket.session]
        riding, number = session.progress.riding, session.graph.number_of(ticket.op)
        if riding is None or not riding.is_one_of_them(number, ticket.op.block):
            return (ticket,)
        return tuple([session.ticket(*op) for op in riding.ops])

    def _kinds(self, ticket: Ticket) -> frozenset[Kind]:
        """The kinds of the ops that it takes along, which may change from one time to the next."""
        riding = self._cell.sessions[ticket.session].progress.riding
        is_alone = riding is None or riding.commits_apart or ticket.op.kind is Kind.DECODE
        return _ALONE[ticket.op.kind] if is_alone else _FORWARDS

    def _fused_with(self, worker: Worker, batch: Tickets, *, now_s: float) -> Iterator[Ticket]:
        """The denoise ops that wait for nothing but commits of this batch and can share their forward."""
        shape, deadline_s = self._shape(batch[0]), worker.ready[batch[0]].deadline_s
        op_s = worker.timing.op_s * self._cost(worker, batch[0])
        for size, ticket in enumerate(batch, start=len(batch) + 1):
            if ticket.op.kind is Kind.COMMIT and now_s + size * op_s <= deadline_s:
                follower = self._follower(ticket, shape, now_s=now_s)
                if follower is not None:
                    yield follower

    def _follower(self, commit: Ticket, shape: Likeness, *, now_s: float) -> Ticket | None:
        """The denoise op of the next block in the lane of a commit, if it can run beside it."""
        session, op = self._cell.sessions[commit.session], commit.op
        if session.renewal(op) is not None:
            return None
        graph, progress = session.graph, session.progress
        chain = graph.chain_of(op)
        number, block = graph.number_of(Op(Kind.DENOISE, op.step, 0)), op.block + 1
        if (
            graph.joint is not None
            or session.kin.forks  # a fork shares the lane between these two ops
            or not session.place.tables[chain.lane or 0].spare
            or _shape(session, graph.op(number, block)) != shape
            or progress.next(number) != block
            or not progress.wants(number, block)
            or not self._offers.may_run(session, graph.row(number, block), block, now_s=now_s, beside=chain.number)
        ):
            return None
        return session.ticket(number, block)

    def _cost(self, worker: Worker, ticket: Ticket) -> float:
        return self._cell.fleet.cost(self._cell.sessions[ticket.session], worker.role)

    def _urgency(self, ticket: Ticket) -> Urgency:
        return self._cell.urgency(self._cell, ticket)

    def _is_proven(self, ticket: Ticket) -> bool:
        session = self._cell.sessions[ticket.session]
        return session.graph.is_proven(_shape(session, ticket.op))

    def _shape(self, ticket: Ticket) -> Likeness:
        """What all ops of a forward have in common; ops that go together and differ in it have no mates."""
        session = self._cell.sessions[ticket.session]
        riders = self._riders(ticket)
        if len(riders) == 1:
            return _shape(session, ticket.op)
        newest = riders[-1].op.block
        reads_later = [session.graph.chain_of(rider.op).reads_later for rider in riders]
        shapes = {
            _shape(session, rider.op._replace(block=newest) if later else rider.op)
            for rider, later in zip(riders, reads_later, strict=True)
        }
        return shapes.pop() if len(shapes) == 1 else (ticket.session,)


def _shape(session: Session, op: Op) -> tuple[int, int]:
    """How many frames the block of an op makes, and how many pages the op reads."""
    frames = session.graph.blocks.made(op.block)
    if (renewal := session.renewal(op)) is not None:
        return frames, len(renewal.reads(op.block))
    return frames, scenes.pages_read(session, op)
