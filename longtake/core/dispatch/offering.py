"""Offering: which ops of a session can run now; they join the ready list of the one worker that can run them.

Theory of operation. Each session has a handful of chains; in every chain the next op is a candidate. After an event
only candidates of the session that it touched are looked at again: after the report of an op those that may have waited
for it, else all. One whose needs are met joins the ready list, one that is there gets its present urgency. Links are
first in, first out, so an op may follow right behind one it needs on the same worker; only an op whose input latents
have to travel waits until they have arrived. In a chain of layer-split workers every op's do.

A lane that must be renewed before it begins a block (sessions/renewing.py) is, once it could begin it otherwise: what
is offered in place of the block's op are those of the renewal.

An op that begins a block in its lane runs only if nothing holds the lane (sessions/holds.py). Of those reasons only the
playback clock is lifted by time alone: such a session is woken then.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable

from longtake.core.cell import Cell
from longtake.core.errors import InternalFault
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Chain, Need
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import GENERATING
from longtake.core.sessions.renewing import begin, due
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, WorkerId


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
        """Offer the next ops of these chains; returns the worker of each op that was offered."""
        cell, progress, found = self._cell, session.progress, []
        for candidate in progress.candidates(chains):
            chain, block = self._renewed(session, *candidate, now_s=now_s) if session.graph.can_renew else candidate
            worker = cell.workers[worker_of(session, chain)]
            ticket = session.ticket(chain.number, block)
            if ticket not in worker.ready:
                if not progress.wants(chain.number, block) or not self.may_run(session, chain, block, now_s=now_s):
                    continue
                if not progress.in_flight:
                    session.virtual_time = max(session.virtual_time, self.virtual_clock)
                found.append(worker)
            worker.ready.put(ticket, cell.urgency(cell, ticket))
        return found

    def _renewed(self, session: Session, chain: Chain, block: int, *, now_s: float) -> tuple[Chain, int]:
        """Have the lane renewed if this op begins a block before which it must be, and it can be now.

        Returns the next op then, which is the first of the renewal.
        """
        lane, graph = chain.lane or 0, session.graph
        is_new = chain.begins_block and not session.progress.is_replay(chain.number, block)
        renewal = due(session, lane, block) if is_new else None
        if renewal is None:
            return chain, block
        ready, ticket = self._cell.workers[worker_of(session, chain)].ready, session.ticket(chain.number, block)
        if ticket in ready:  # the cue came after it was offered
            ready.drop(ticket)
        if not self._may_renew(session, chain, block, now_s=now_s):
            return chain, block
        table = session.place.tables[lane]
        table.renew(renewal.window, renewal.block, renewal.blocks)
        self._cell.workers[session.place.lanes[lane]].pool.renew(table, renewal.blocks)
        begin(session, lane, renewal)
        sealing = graph.chains[graph.sealing[lane]]
        return sealing, session.progress.next(sealing.number)

    def _may_renew(self, session: Session, chain: Chain, block: int, *, now_s: float) -> bool:
        """Whether a renewal is due before this op, and the lane is at the boundary before it and not held."""
        lane, progress = chain.lane, session.progress
        return (
            lane is not None
            and chain.begins_block
            and progress.boundary(lane) == block
            and due(session, lane, block) is not None
            and not session.kin.depends  # a fork's past is in its parent's journal until then
            and not self._is_held(session, chain, block, now_s=now_s)
        )

    def may_run(self, session: Session, chain: Chain, block: int, *, now_s: float, beside: int | None = None) -> bool:
        """Whether all that an op needs is done, runs before it on the same worker, or is of the chain `beside` it."""
        progress, riding = session.progress, session.progress.riding
        begins = chain.begins_block and not progress.is_replay(chain.number, block)
        if begins and session.graph.can_renew and not _is_ready(session, chain.lane or 0, block):
            return False
        may_be_held = begins and (riding or chain.number == session.graph.first or session.lane_holds)
        if may_be_held and self._is_held(session, chain, block, now_s=now_s):
            return False  # in the middle of a block nothing but a reason of its own holds a lane
        if riding is not None and may_be_held and riding.is_one_of_them(chain.number, block):
            return self._may_go_together(session, riding.ops)
        for need in chain.needs:
            needed, back, _ = need
            done = needed == beside or progress.has_done(needed, block - back)
            done = done or progress.again.is_in_order(chain.number, needed)
            if not done and not self._is_on_its_way(session, chain, need, block - back):
                return False
        return True

    def _may_go_together(self, session: Session, ops: Collection[tuple[int, int]]) -> bool:
        """The same of ops that go together: what they need is done, goes before, or is one of them."""
        progress, rows = session.progress, session.graph.chains
        return all(
            (need.chain, block - need.back) in ops
            or progress.has_done(need.chain, block - need.back)
            or self._is_on_its_way(session, rows[number], need, block - need.back)
            for number, block in ops
            for need in rows[number].needs
        )

    def _is_on_its_way(self, session: Session, chain: Chain, need: Need, block: int) -> bool:
        """Whether what an op of `chain` needs was sent to the same worker, and nothing has to travel from it."""
        worker = worker_of(session, chain)
        input_travels = need.is_input and not self._cell.workers[worker].keeps_input(chain)
        return (
            not input_travels
            and worker_of(session, session.graph.chains[need.chain]) == worker
            and session.progress.has_sent(need.chain, block)
        )

    def _is_held(self, session: Session, chain: Chain, block: int, *, now_s: float) -> bool:
        if block < session.graph.given_blocks:  # it counts as begun
            return any(lane == chain.lane for lane, _ in session.lane_holds)
        holds = list(session.holds(chain.lane or 0, now_s=now_s))
        if holds == [Hold.PLAYBACK]:
            self._wake_at(session)
        return bool(holds)

    def _wake_at(self, session: Session) -> None:
        at_s = session.flow.earliest_start_s(session.paced_block, geometry=session.geometry)
        if self._wake_s.get(session.id) != at_s:
            self._wake_s[session.id] = at_s
            heapq.heappush(self._wakes, (at_s, session.id))

    @property
    def wakes_at_s(self) -> float:
        """The earliest time at which `wake` may name a session; infinity if none waits for its playback clock."""
        return self._wakes[0][0] if self._wakes else math.inf

    def wake(self, *, now_s: float) -> list[Session]:
        """The sessions whose next block has waited for the playback clock until now."""
        woken = []
        while self._wakes and self._wakes[0][0] <= now_s:
            at_s, session_id = heapq.heappop(self._wakes)
            if self._wake_s.get(session_id) == at_s:
                del self._wake_s[session_id]
                if session_id in self._cell.sessions:
                    woken.append(self._cell.sessions[session_id])
        return woken

    def withdraw(self, session: Session) -> None:
        """Take the session's next block off the ready list, if its first op is there: it may not begin now."""
        graph, progress = session.graph, session.progress
        begins = (graph.first,) if graph.joint is None else graph.in_lane[0]
        nexts = [(chain, progress.next(chain)) for chain in begins]
        tickets = [session.ticket(*each) for each in nexts if not progress.is_replay(*each)]
        for worker in session.place.workers:
            for ticket in tickets:
                if ticket in self._cell.workers[worker].ready:
                    self._cell.workers[worker].ready.drop(ticket)

    def check(self) -> None:
        """State that no op which may run was overlooked; InternalFault names one that is on no ready list.

        What waits for the playback clock is left out: it is looked at by the next tick.
        """
        for session in self._cell.sessions.values():
            if session.state not in GENERATING:
                continue
            for chain, block in session.progress.candidates(session.graph.numbers):
                if session.ticket(chain.number, block) in self._cell.workers[worker_of(session, chain)].ready:
                    continue
                overlooked = self.may_run(session, chain, block, now_s=-math.inf)
                overlooked = overlooked or self._may_renew(session, chain, block, now_s=-math.inf)
                if session.progress.wants(chain.number, block) and overlooked:
                    raise InternalFault(f"{chain.kind.value} {chain.step} of block {block} of {session.id} may run")


def _is_ready(session: Session, lane: int, block: int) -> bool:
    """Whether a lane that may be renewed holds all that a block reads, or will when what was sent is done."""
    replay = session.progress.again.get(session.graph.sealing[lane])
    return (replay is None or replay.is_sent) and due(session, lane, block) is None


def worker_of(session: Session, chain: Chain) -> WorkerId:
    """The worker that runs the ops of a chain."""
    return session.place.decoder if chain.lane is None else session.place.lanes[chain.lane]
