"""Dispatching: a worker that has room is handed the most urgent ops that are ready for it.

Theory of operation. A worker has at most two dispatches (one running, one queued), so that the link's round trip can
hide behind a forward; a chain of layer-split workers may hold one for each of them and one more, so that all are busy.

An idle worker waits for nobody, but for one case: as long as decoders have a backlog that will last longer than all ops
of a batch and their successors take, and no op of it has a deadline, it gathers mates until the batch is full. Behind a
running dispatch, though, a batch is queued only when nobody could join it any more: when it is full, or holds an op of
every lane here. Else it is made up when the running one reports, of all that is ready by then; that costs a round trip
and saves forwards. The most urgent op loses nothing else by it, since it could not have begun before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from longtake.core.adoption import StepsSettled
from longtake.core.carry.forking import share
from longtake.core.cell import Cell
from longtake.core.dispatch.batching import Batching, Tickets
from longtake.core.dispatch.encoding import next_part
from longtake.core.dispatch.offering import Offers, worker_of
from longtake.core.dispatch.orders import decode_work, forward_work
from longtake.core.dispatch.shedding import begin_block
from longtake.core.effects import Dispatch, PrepareStream
from longtake.core.fleet.worker import Worker
from longtake.core.parts import EncodePictures
from longtake.core.recipe.ops import Chain, Kind, Op
from longtake.core.sessions import scenes
from longtake.core.sessions.session import Session
from longtake.core.work import FoldWork, Role, Ticket, Work, WorkerId

Orders = list[Dispatch | EncodePictures | PrepareStream | StepsSettled]
"""What workers are handed, and what was settled with it; forks have their slots filled between dispatches."""

Revisit = tuple[Session, Collection[int]]
"""A session, and the numbers of those of its chains whose next op may be able to run now."""


def whole(session: Session) -> Revisit:
    """All chains of the session."""
    return session, session.graph.numbers


class Dispatcher:
    """Turns progress into dispatches."""

    def __init__(self, cell: Cell, offers: Offers) -> None:
        self._cell = cell
        self._offers = offers
        self._batching = Batching(cell, offers)
        self._gathering: dict[WorkerId, None] = {}
        """Idle workers that wait for mates; every report of a decoder lets them be looked at again."""

    def next_batch(self, worker: Worker, *, now_s: float) -> Tickets:
        """What a worker for which something is ready would be handed next."""
        return self._batching.batch(worker, now_s=now_s)

    def advance(self, looks: Iterable[Revisit], *, now_s: float) -> Orders:
        """Look again at what these sessions can run, then feed the workers that got an op."""
        workers = self._cell.workers
        touched = {worker_id: workers[worker_id] for worker_id in self._gathering if worker_id in workers}
        for session, chains in looks:
            for worker in self._offers.look(session, chains, now_s=now_s):
                touched[worker.id] = worker
        return [order for worker in touched.values() for order in self.feed(worker, now_s=now_s)]

    def feed(self, worker: Worker, *, now_s: float) -> Orders:
        """Dispatch the most urgent ready ops while the worker has room for one."""
        orders: Orders = []
        while worker.has_room:
            if worker.clips and (part := next_part(self._cell, worker, now_s=now_s)) is not None:
                orders.append(part)
                continue
            if not worker.ready:
                break
            batch = self._batching.batch(worker, now_s=now_s)
            if len(batch) < min(worker.batch_limit, worker.load.total):
                if len(worker.in_flight) >= worker.chain_length:
                    break
                if all(self._can_wait(ticket) for ticket in batch) and self._batching.has_no_deadline(worker):
                    self._gathering[worker.id] = None
                    break
            self._gathering.pop(worker.id, None)
            for ticket in batch:
                if ticket in worker.ready:  # a follower never was
                    worker.ready.drop(ticket)
            orders += self._begun(batch, now_s=now_s)
            orders.append(self._dispatch(worker, batch, now_s=now_s))
            orders += self._follow(batch, now_s=now_s)
        return orders

    def encode(self, *, now_s: float) -> Orders:
        """Feed the workers that have clips to encode."""
        orders: Orders = []
        for name in [*self._cell.encoding]:
            worker = self._cell.workers.get(name)
            if worker is None or not (worker.clips or worker.clips.out):
                del self._cell.encoding[name]
            else:
                orders += self.feed(worker, now_s=now_s)
        return orders

    def _begun(self, batch: Tickets, *, now_s: float) -> Orders:
        """Settle the steps of the blocks that begin with a batch."""
        found = []
        for ticket in batch:
            session, op = self._cell.sessions[ticket.session], ticket.op
            if session.graph.skips and session.graph.number_of(op) == session.graph.first:
                found.append(begin_block(self._cell, session, op.block, now_s=now_s))
        return [settled for settled in found if settled is not None]

    def _follow(self, batch: Tickets, *, now_s: float) -> Orders:
        """Offer what may follow these ops, which were sent, right behind; and share what forks wait for."""
        orders: Orders = []
        for ticket in batch:
            session = self._cell.sessions[ticket.session]
            graph = session.graph
            self._offers.look(session, graph.followers[graph.number_of(ticket.op)], now_s=now_s)
            if graph.can_renew:  # the lane to which the block comes next may be renewed before it is there
                for other in self._offers.look(session, graph.lane_behind(ticket.op), now_s=now_s):
                    orders += self.feed(other, now_s=now_s)
            if session.kin.forks:
                orders += self.share(session, now_s=now_s)
        return orders

    def share(self, parent: Session, *, now_s: float) -> Orders:
        """Give the forks of a session what they can have by now, and offer what they can run."""
        orders: Orders = []
        for fork in share(parent, self._cell.sessions, self._cell.workers):
            if fork.prepare is not None:
                orders.append(fork.prepare)
            # On the very worker that is being fed, so nobody else has to be.
            self._offers.look(fork.child, fork.child.graph.numbers, now_s=now_s)
        return orders

    def _can_wait(self, ticket: Ticket) -> bool:
        """Whether the segment that waits for this op can come no sooner if it runs now."""
        session, op = self._cell.sessions[ticket.session], ticket.op
        if session.is_realtime or not session.progress.is_whole:
            return False
        chain = session.graph.chain_of(op)
        worker = self._cell.workers[worker_of(session, chain)]
        ops = 1 + len(session.steps(op.block).lanes_left[chain.number]) + (op.kind is Kind.DENOISE)
        until_s = ops * worker.timing.pass_s * self._cost(worker, ticket)
        decoder = self._cell.workers[session.place.decoder]
        for before in decoder.ready:  # a few are enough, however many there are
            until_s -= decoder.timing.op_s * self._cost(decoder, before)
            if until_s < 0:
                return True
        return False

    def _cost(self, worker: Worker, ticket: Ticket) -> float:
        return self._cell.fleet.cost(self._cell.sessions[ticket.session], worker.role)

    def _dispatch(self, worker: Worker, batch: Tickets, *, now_s: float) -> Dispatch:
        owned = [(self._cell.sessions[ticket.session], ticket.op) for ticket in batch]
        rows = [(session, session.graph.chain_of(op), op.block) for session, op in owned]
        if worker.role is Role.DENOISE:
            least = min([session.virtual_time for session, _ in owned])
            self._offers.virtual_clock = max(self._offers.virtual_clock, least)
        shares = not all([session.is_realtime for session, _ in owned])
        owes = worker.owes_share(limit=self._cell.limits.load_limit, now_s=now_s)
        if shares or (owes and not worker.ready.has_patient):
            worker.shared_s = now_s
        attach = tuple([self._sent(worker, session, chain, block) for session, chain, block in rows])
        return Dispatch(
            worker=worker.id,
            sequence=worker.dispatched(batch, now_s=now_s, cost=self._cost(worker, batch[0])),
            work=_work(worker, owned),
            attach_conditioning=attach,
        )

    def _sent(self, worker: Worker, session: Session, chain: Chain, block: int) -> bool:
        """Count an op as sent; returns whether its conditioning must go along."""
        session.progress.mark_sent(chain.number)
        if chain.kind is Kind.DECODE:
            return False
        session.virtual_time += 1.0
        return session.prompts.send_to(worker.id, session.conditioning(session.graph.op(chain.number, block)).version)


def _work(worker: Worker, owned: list[tuple[Session, Op]]) -> Work:
    """The ops of a dispatch, written out; the pages of forwards are claimed."""
    session, op = owned[0]
    if op.kind is Kind.DECODE:
        return decode_work(op, session)
    folds = [_claimed(worker, session, op) for session, op in owned]
    return tuple(
        [forward_work(op, session, worker, folded) for (session, op), folded in zip(owned, folds, strict=True)]
    )


def _claimed(worker: Worker, session: Session, op: Op) -> tuple[FoldWork, ...]:
    """Claim the pages of a forward's block; returns what is to be folded before it."""
    table = session.place.tables[session.graph.chain_of(op).lane or 0]
    window = scenes.window(session, op.block) if session.graph.shots.can_cut else None
    if (renewal := session.renewal(op)) is None:
        return worker.pool.claim(table, op.block, window)
    table.renew(renewal.window, renewal.block, renewal.blocks)
    return ()
