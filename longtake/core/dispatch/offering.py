"""Offering: which ops of a session can run now; they join the ready list of the one worker that can run them.

Theory of operation. In every chain of a session the next op is a candidate. After an event only the candidates that it
can have set free are looked at: those whose needs the reported op was among, or all of a session that something else
happened to. Links are first in, first out, so an op may follow right behind one it needs on the same worker; only an op
whose input latents have to travel waits until they have arrived. In a chain of layer-split workers every op's do.

An op that begins a block in its lane runs only if nothing holds the lane (sessions/holds.py). Of those reasons only the
playback clock is lifted by time alone: such a session is woken then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from longtake.core.cell import Cell
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.graph import Chain, Need
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, Ticket, WorkerId


class Offers:
    """Puts ops on ready lists, and takes them off."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.virtual_clock = 0.0
        """The least service that any session now served has received."""
        self._wakes: list[tuple[float, SessionId]] = []
        """Heap of when the playback clock lets a session's next block start; stale entries do no harm."""
        self._wake_s: dict[SessionId, float] = {}

    def look(self, session: Session, chains: Iterable[int], *, now_s: float) -> list[Worker]:
        """Offer the next ops of these chains; the workers that got one, as often as they did."""
        found = []
        for number in chains:
            worker = self.offer(session, number, now_s=now_s)
            if worker is not None:
                found.append(worker)
        return found

    def offer(self, session: Session, number: int, *, now_s: float) -> Worker | None:
        """Put the next op of a chain on its worker's ready list if it may run; the worker, if it is new there."""
        progress, chain = session.progress, session.graph.chains[number]
        block = progress.next(number)
        for need in chain.needs:  # most ops wait for one that is not even sent, and this is quick to see
            if not progress.has_sent(need.chain, block - need.back):
                return None
        worker = self._cell.workers[worker_of(session, chain)]
        ticket = Ticket(session.request.session, session.graph.op(number, block), progress.attempt(number, block))
        if ticket in worker.ready:
            worker.ready.put(ticket, self._cell.urgency(self._cell, ticket))
            return None
        if not progress.wants(number, block) or not self.may_run(session, chain, block, now_s=now_s):
            return None
        if not progress.in_flight:
            session.virtual_time = max(session.virtual_time, self.virtual_clock)
        worker.ready.put(ticket, self._cell.urgency(self._cell, ticket))
        return worker

    def may_run(self, session: Session, chain: Chain, block: int, *, now_s: float, beside: int | None = None) -> bool:
        """Whether all that an op needs is done, or done before it on its way, or is of the chain `beside` it."""
        if chain.begins_block and self._is_held(session, chain, now_s=now_s):
            return False
        worker = self._cell.workers[worker_of(session, chain)]
        return all(
            need.chain == beside or self._is_met(session, chain, need, block - need.back, worker)
            for need in chain.needs
        )

    def _is_met(self, session: Session, chain: Chain, need: Need, block: int, worker: Worker) -> bool:
        progress = session.progress
        if progress.has_done(need.chain, block):
            return True
        input_travels = need.is_input and not worker.keeps_input(chain)
        return (
            not input_travels
            and worker_of(session, session.graph.chains[need.chain]) == worker.id
            and progress.has_sent(need.chain, block)
        )

    def _is_held(self, session: Session, chain: Chain, *, now_s: float) -> bool:
        holds = list(session.holds(chain.lane or 0, now_s=now_s))
        if holds == [Hold.PLAYBACK]:
            self._wake_at(session)
        return bool(holds)

    def _wake_at(self, session: Session) -> None:
        at_s = session.flow.earliest_start_s(session.next_block, geometry=session.geometry)
        if self._wake_s.get(session.id) != at_s:
            self._wake_s[session.id] = at_s
            heapq.heappush(self._wakes, (at_s, session.id))

    def wake(self, *, now_s: float) -> list[SessionId]:
        """The sessions whose next block has waited for the playback clock until now."""
        woken = []
        while self._wakes and self._wakes[0][0] <= now_s:
            at_s, session_id = heapq.heappop(self._wakes)
            if self._wake_s.get(session_id) == at_s:
                del self._wake_s[session_id]
                woken.append(session_id)
        return woken

    def withdraw(self, session: Session) -> None:
        """Take the session's next block off the ready list, if its first op is there: it may not begin now."""
        ticket = session.ticket(session.graph.first)
        for worker in session.place.workers:
            if ticket in self._cell.workers[worker].ready:
                self._cell.workers[worker].ready.drop(ticket)


def worker_of(session: Session, chain: Chain) -> WorkerId:
    """The worker that runs the ops of a chain."""
    return session.place.decoder if chain.lane is None else session.place.lanes[chain.lane]
