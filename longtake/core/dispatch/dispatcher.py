"""Dispatching: which ops can run now, and which of them a worker is handed next.

Theory of operation. Each session has a handful of chains (one per step and kind); in every chain the next op is a
candidate. After an event only the candidates of the session it touched are looked at again: one whose needs are met
joins the ready list of the one worker that can run it. A worker has at most two dispatches (one running, one queued),
so that the link's round trip can hide behind a forward. Links are first in, first out, so an op may follow right behind
one it needs on the same worker; only an op whose input latents have to travel waits until they have arrived. In a chain
of layer-split workers every op's do; it may hold one dispatch for each of them and one more, so that all are busy.

One forward may serve several ops, up to the batch limit of the worker: the most urgent one takes along, in the order of
their urgency, others that are ready now and have as many pages to read. None of those depends on another or shares its
lane, because an op becomes ready only when all it needs is done or dispatched. Mates of one kind are preferred where
they fill the batch, because a forward of nothing but commits ends early; else denoise ops and commits go together, if
the worker has proved that this changes no bit.

Fused passes. In a lane that has a spare block of pages a commit may even take along the denoise op that waits for it,
D(s,n) beside C(s,n-1): in every layer of a forward all keys and values are written before any are read, so D(s,n) reads
what C(s,n-1) has just written, and C(s,n-1) still reads what D(s,n) would otherwise overwrite.

An idle worker waits for nobody, but for one case: as long as decoders have a backlog that will last longer than all ops
of a batch and their successors take, and no op of it has a deadline, it gathers mates until the batch is full. Behind a
running dispatch, though, a batch is queued only when nobody could join it any more: when it is full, or holds an op of
every lane here. Else it is made up when the running one reports, of all that is ready by then; that costs a round trip
and saves forwards. The most urgent op loses nothing else by it, since it could not have begun before. As a batch takes
longer than a single op, it takes along no op that is due later than one it leaves behind, and to an op that has a
deadline no more ops without one than it still has time for.

Urgency is the latest time at which the op may end without making its block late (slack; sessions without a playback
clock have none and come last), then the service received so far: equal sessions get equal shares, and one that was idle
gets no credit for it. Within a session older blocks go first, and a denoise op goes before a commit of the same block,
because the next step waits for it. Due times alone would not do: of two blocks due at the same time, the one that has
four forwards to go is in greater haste than the one that has only its last.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from longtake.core.carry.forking import share
from longtake.core.effects import Dispatch, PrepareStream
from longtake.core.fleet.worker import Urgency, Worker
from longtake.core.pages import window_size
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Kind, Op, begins_block, chains, entered_step, lane_of, needs, readers
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.session import Session, State
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    Input,
    LatentRef,
    SessionId,
    Work,
    WorkerId,
)

_FORWARDS = frozenset({Kind.DENOISE, Kind.COMMIT})


class Dispatcher:
    """Turns progress into dispatches, over the scheduler's sessions and workers."""

    def __init__(
        self,
        recipe: Recipe,
        geometry: Geometry,
        sessions: Mapping[SessionId, Session],
        workers: Mapping[WorkerId, Worker],
    ) -> None:
        self._recipe = recipe
        self._geometry = geometry
        self._sessions = sessions
        self._workers = workers
        self._chains = tuple(chains(recipe))
        self._lane_of_step = [lane_of(Op(Kind.DENOISE, step, 0), recipe) for step in range(recipe.step_count)]
        self._followers = {chain: tuple(self._chains_beside(chain)) for chain in self._chains}
        """The chains whose next op may follow right behind an op of a chain: those of its lane, or the decodes."""
        self._needs = {
            chain: tuple(((need.kind, need.step), need.block - 1) for need in needs(Op(*chain, 1), recipe))
            for chain in self._chains
        }
        """What a chain's next op waits for: chains, and whether of its own block (0) or the one before (-1)."""
        self.virtual_clock = 0.0
        """The least service that any session now served has received."""
        self._wakes: list[tuple[float, SessionId]] = []
        """Heap of when the playback clock lets a session's next block start; stale entries do no harm."""
        self._wake_s: dict[SessionId, float] = {}
        self._gathering: dict[WorkerId, None] = {}
        """Idle workers that wait for mates; every report of a decoder lets them be looked at again."""

    def advance(self, sessions: Sequence[Session], *, now_s: float) -> list[Dispatch | PrepareStream]:
        """Look at the sessions' candidates again, then feed the workers that got one."""
        touched = {worker_id: self._workers[worker_id] for worker_id in self._gathering if worker_id in self._workers}
        for session in sessions:
            for chain in self._chains:
                if self._is_near(session, chain):
                    op = Op(*chain, session.sent[chain])
                    worker = self._workers[self._worker_of(session, op)]
                    if self._offer(worker, session, op, now_s=now_s):
                        touched[worker.id] = worker
        return [dispatch for worker in touched.values() for dispatch in self.feed(worker, now_s=now_s)]

    def _is_near(self, session: Session, chain: tuple[Kind, int]) -> bool:
        """Whether all that the next op of a chain needs is at least sent: most are not, and this is quick to see."""
        block = session.sent[chain]
        return all(session.sent[need] > block + offset for need, offset in self._needs[chain])

    def _chains_beside(self, chain: tuple[Kind, int]) -> Iterator[tuple[Kind, int]]:
        decodes, lane = chain[0] is Kind.DECODE, lane_of(Op(*chain, 0), self._recipe)
        for kind, step in self._chains:
            if (kind is Kind.DECODE) == decodes and lane_of(Op(kind, step, 0), self._recipe) == lane:
                yield kind, step

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
        op = Op(Kind.DENOISE, 0, session.next_block)
        for worker in session.place.workers:
            if self._workers[worker].is_ready(session.id, op):
                self._workers[worker].drop_ready(session.id, op)

    def feed(self, worker: Worker, *, now_s: float) -> list[Dispatch | PrepareStream]:
        """Dispatch the most urgent ready ops while the worker has room for one."""
        dispatches: list[Dispatch | PrepareStream] = []
        while worker.has_room and worker.ready:
            ops = self.batch(worker, now_s=now_s)
            if len(ops) < min(worker.batch_limit, worker.lanes):
                if len(worker.in_flight) >= worker.chain_length:
                    break
                if all(self._can_wait(ready) for ready in ops):
                    self._gathering[worker.id] = None
                    break
            self._gathering.pop(worker.id, None)
            for session_id, op in ops:
                if worker.is_ready(session_id, op):  # a follower never was
                    worker.drop_ready(session_id, op)
            dispatches.append(self._dispatch(worker, ops))
            for session_id, op in ops:
                session = self._sessions[session_id]
                for chain in self._followers[op.kind, op.step]:  # the dispatch may let another op follow it here
                    if self._is_near(session, chain):
                        self._offer(worker, session, Op(*chain, session.sent[chain]), now_s=now_s)
                if session.forks:
                    dispatches += self.share(session, now_s=now_s)
        return dispatches

    def share(self, parent: Session, *, now_s: float) -> list[Dispatch | PrepareStream]:
        """Give the forks of a session what they can have by now, and see what they can run."""
        effects: list[Dispatch | PrepareStream] = []
        for fork in share(parent, self._sessions, self._workers):
            if fork.prepare is not None:
                effects.append(fork.prepare)
            for kind, step in self._chains:  # on the very worker that is being fed, so nobody else has to be
                op = Op(kind, step, fork.child.sent[kind, step])
                self._offer(self._workers[self._worker_of(fork.child, op)], fork.child, op, now_s=now_s)
        return effects

    def _can_wait(self, ready: tuple[SessionId, Op]) -> bool:
        """Whether the segment that waits for this op can come no sooner if it runs now."""
        session, op = self._sessions[ready[0]], ready[1]
        decoder = self._workers[session.place.decoder]
        if session.is_live:
            return False
        backlog_s = len(decoder.ready) * decoder.op_s
        return backlog_s > (1 + self._recipe.step_count - op.step) * self._workers[self._worker_of(session, op)].pass_s

    def batch(self, worker: Worker, *, now_s: float) -> tuple[tuple[SessionId, Op], ...]:
        """The most urgent ready op of a worker and the mates it would take along now; its ready list is not empty."""
        first = worker.most_urgent(self.urgency)
        if worker.batch_limit == 1 or first[1].kind is Kind.DECODE:
            return (first,)
        batch = self._together(worker, first, _kinds_of(first), now_s=now_s)
        if worker.mixes_kinds and len(batch) < worker.batch_limit:
            mixed = self._together(worker, first, _FORWARDS, now_s=now_s)
            batch = max(batch, mixed, key=len)
        if worker.mixes_kinds:
            room = worker.batch_limit - len(batch)
            batch = (*batch, *islice(self._fused_with(worker, batch, now_s=now_s), room))
        return batch

    def _fused_with(
        self, worker: Worker, batch: tuple[tuple[SessionId, Op], ...], *, now_s: float
    ) -> Iterator[tuple[SessionId, Op]]:
        """The denoise ops that wait for nothing but commits of this batch and can share their forward."""
        pages, deadline_s = self._page_count(batch[0][1]), worker.ready[batch[0]].deadline_s
        for size, (session_id, op) in enumerate(batch, start=len(batch) + 1):
            session = self._sessions[session_id]
            follower = Op(Kind.DENOISE, op.step, op.block + 1)
            if (
                op.kind is Kind.COMMIT
                and session.place.tables[lane_of(op, self._recipe)].spare
                and self._page_count(follower) == pages
                and now_s + size * worker.op_s <= deadline_s
                and not session.is_sent(follower)
                and not session.forks  # a fork shares the lane between these two ops
                and session.wants(follower)
                and self._may_run(session, follower, now_s=now_s, beside=op)
            ):
                yield session_id, follower

    def _together(
        self, worker: Worker, first: tuple[SessionId, Op], kinds: frozenset[Kind], *, now_s: float
    ) -> tuple[tuple[SessionId, Op], ...]:
        """`first` and the most urgent of those that may go with it, of `kinds` only."""
        pages = self._page_count(first[1])
        mates, left_s = [], math.inf
        for ready, urgency in worker.ready.items():
            if ready[1].kind not in kinds or self._page_count(ready[1]) != pages:
                left_s = min(left_s, urgency.deadline_s)
            elif ready != first:
                mates.append(ready)
        allowed = [ready for ready in mates if worker.ready[ready].deadline_s <= left_s]
        chosen = heapq.nsmallest(worker.batch_limit - 1, allowed, key=worker.ready.__getitem__)
        spare_s = worker.ready[first].deadline_s - now_s
        while chosen and (1 + len(chosen)) * worker.op_s > spare_s and worker.ready[chosen[-1]].deadline_s == math.inf:
            chosen.pop()
        return (first, *chosen)

    def _page_count(self, op: Op) -> int:
        """Pages that `op` reads, which ops of one forward must have in common."""
        return window_size(self._geometry.first_frame(op.block), self._recipe)

    def _dispatch(self, worker: Worker, ops: tuple[tuple[SessionId, Op], ...]) -> Dispatch:
        owned = [(self._sessions[session_id], op) for session_id, op in ops]
        attach = tuple(self._sent(worker, session, op) for session, op in owned)
        work: Work
        if owned[0][1].kind is Kind.DECODE:
            work = decode_work(owned[0][1], owned[0][0])
        else:
            for session, op in owned:
                table = session.place.tables[lane_of(op, self._recipe)]
                worker.pool.claim(table, self._geometry.first_frame(op.block), self._recipe)
            work = tuple(forward_work(op, session, worker) for session, op in owned)
        return Dispatch(
            worker=worker.id,
            sequence=worker.dispatched(ops),
            work=work,
            attach_conditioning=attach,
            spent=tuple(ref for session, op in owned for ref in self._spent(session, op)),
        )

    def _spent(self, session: Session, op: Op) -> tuple[LatentRef, ...]:
        """The latents that `op`, which is sent, starts from, if it was the last to do so."""
        step = entered_step(op, self._recipe)
        if step == 0:
            return ()
        further, commit = readers(step, op.block, self._recipe)
        if not session.is_sent(further) or (commit is not None and self._is_awaited(session, commit)):
            return ()
        return (LatentRef(session=session.id, block=op.block, step=step),)

    def _is_awaited(self, session: Session, commit: Op) -> bool:
        """Whether a commit is still to be sent, with the latents it starts from."""
        worker = self._workers[self._worker_of(session, commit)]
        travels = not worker.keeps_input(commit, self._recipe)
        return travels and session.wants(commit) and not session.is_sent(commit)

    def _sent(self, worker: Worker, session: Session, op: Op) -> bool:
        """Count `op` as sent; whether its conditioning must go along."""
        session.sent[op.kind, op.step] += 1
        session.in_flight += 1
        if op.kind is Kind.DECODE:
            return False
        self.virtual_clock = max(self.virtual_clock, session.virtual_time)
        session.virtual_time += 1.0
        version = session.timeline.turn_at(op.block).version
        lacks_text = (worker.id, version) not in session.conditioned
        session.conditioned.add((worker.id, version))
        return lacks_text

    def _offer(self, worker: Worker, session: Session, op: Op, *, now_s: float) -> bool:
        """Put `op` on its worker's ready list if it may run."""
        if worker.is_ready(session.id, op):
            worker.add_ready(session.id, op, self.urgency((session.id, op)))
            return False
        if not session.wants(op) or not self._may_run(session, op, now_s=now_s):
            return False
        if not session.in_flight:
            session.virtual_time = max(session.virtual_time, self.virtual_clock)
        worker.add_ready(session.id, op, self.urgency((session.id, op)))
        return True

    def _may_run(self, session: Session, op: Op, *, now_s: float, beside: Op | None = None) -> bool:
        """Whether all that `op` needs is done, or done before it on its way, or is the op `beside` it."""
        if session.unshared and op.kind is not Kind.DECODE and lane_of(op, self._recipe) in session.unshared:
            return False
        if session.holds and begins_block(op, self._recipe) and session.is_held(lane_of(op, self._recipe)):
            return False
        if op.kind is Kind.DENOISE and op.step == 0:
            if session.state is not State.RUNNING or not session.flow.has_credit(op.block):
                return False
            start_s = session.flow.earliest_start_s(op.block, geometry=self._geometry)
            if start_s > now_s:
                self._wake_at(session.id, start_s)
                return False
        return all(need == beside or self._is_met(session, op, need) for need in needs(op, self._recipe))

    def _is_met(self, session: Session, op: Op, need: Op) -> bool:
        if session.is_done(need):
            return True
        worker = self._workers[self._worker_of(session, op)]
        is_input = need.kind is Kind.DENOISE and need.block == op.block
        input_travels = is_input and not worker.keeps_input(op, self._recipe)
        same_link = worker.id == self._worker_of(session, need)
        return same_link and not input_travels and session.is_sent(need)

    def _worker_of(self, session: Session, op: Op) -> WorkerId:
        return session.place.decoder if op.kind is Kind.DECODE else session.place.lanes[self._lane_of_step[op.step]]

    def _wake_at(self, session: SessionId, at_s: float) -> None:
        if self._wake_s.get(session) != at_s:
            self._wake_s[session] = at_s
            heapq.heappush(self._wakes, (at_s, session))

    def urgency(self, ready: tuple[SessionId, Op]) -> Urgency:
        """How urgent a ready op is: slack first, then fairness, then the op order."""
        session, op = self._sessions[ready[0]], ready[1]
        commits = op.kind is Kind.COMMIT
        # A commit is in time if the next block's denoise op in its lane, which waits for it, is.
        due_s = session.flow.due_s(op.block + commits, geometry=self._geometry)
        return Urgency(due_s - self._rest_s(session, op), session.virtual_time, op.block, commits, op.step)

    def _rest_s(self, session: Session, op: Op) -> float:
        """Time from the end of `op` to the segment that waits for it, if nothing comes between: the critical path."""
        if op.kind is Kind.DECODE or not session.is_live:
            return 0.0
        workers, lanes = self._workers, session.place.lanes
        rest_s = workers[session.place.decoder].passage_s
        if len(lanes) == 1:  # level CLEAN: all steps run in the one lane
            steps_left = self._recipe.step_count - op.step - (op.kind is not Kind.COMMIT)
            return rest_s + steps_left * workers[lanes[0]].passage_s
        for lane in lanes[op.step + (op.kind is not Kind.COMMIT) :]:
            rest_s += workers[lane].passage_s
        return rest_s


def _kinds_of(ready: tuple[SessionId, Op]) -> frozenset[Kind]:
    return frozenset({ready[1].kind})


def decode_work(op: Op, session: Session) -> DecodeWork:
    """Everything a worker needs to execute a decode op."""
    return DecodeWork(
        session=session.id,
        block=op.block,
        slot=session.place.slot,
        latents=LatentRef(session=session.id, block=op.block, step=session.recipe.step_count),
        first_picture=session.geometry.first_picture(op.block),
        picture_count=session.picture_count(op.block),
        settings=session.request.settings,
    )


def forward_work(op: Op, session: Session, worker: Worker) -> ForwardWork:
    """Everything `worker` needs to execute a denoise op or a commit op."""
    recipe = session.recipe
    lane = lane_of(op, recipe)
    table = session.place.tables[lane]
    first = session.geometry.first_frame(op.block)
    denoises = op.kind is Kind.DENOISE
    last = op.step + 1 == recipe.step_count
    return ForwardWork(
        session=session.id,
        lane=lane,
        kind=op.kind,
        step=op.step,
        block=op.block,
        timestep=recipe.timesteps[op.step] if denoises else recipe.commit_timestep(op.step),
        sigma=recipe.sigmas[op.step],
        next_sigma=None if last else recipe.sigmas[op.step + 1],
        seed=session.request.seed,
        positions=tuple(range(first, first + recipe.frames_per_block)),
        reads=table.reads(first, recipe),
        writes=table.writes(first, recipe),
        conditioning=ConditioningRef(session=session.id, version=session.timeline.turn_at(op.block).version),
        input=_input(op, session, worker),
    )


def _input(op: Op, session: Session, worker: Worker) -> Input:
    if worker.keeps_input(op, session.recipe):
        return FromLane()
    step = entered_step(op, session.recipe)
    return FromLatent(LatentRef(session=session.id, block=op.block, step=step)) if step else FromNoise()
