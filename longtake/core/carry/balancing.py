"""Balancing: which lane moves to which worker, so that no device waits while another has too much.

Theory of operation. Loads drift apart as streams come and go, as workers join with nothing to do, and as one becomes
slow: a worker's load is in units of time (`placement.Room`), so a straggler's grows with its time and it sheds lanes by
the very rule that fills an empty one. At each tick the most loaded worker that may take part is compared with the best
place for a further lane:

    unreserved lanes   move if the pressure of the target after the move is clearly below the origin's now
    reserved lanes     move if the origin holds more than may be reserved; else a realtime stream is left in peace

Workers of one class (`Ability.numerics`) are evened out among themselves: a lane never leaves its class, because its
stream would not be the same bit for bit.

A move back would have to win as much again, so a cell that nobody enters or leaves comes to rest. Moves cost pages
times bandwidth and hold up their stream for as long: a worker takes part in one at a time, rests after it, and rests
long after one that failed; a stream has one lane on its way at most; a lane with few blocks to go stays. Only a bounded
number of workers is looked at per tick, and none while nothing has changed since no worker was too loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

from longtake.core.carry.moving import Mover
from longtake.core.cell import Cell
from longtake.core.effects import Effect
from longtake.core.fleet.room import Ask
from longtake.core.fleet.worker import Worker
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import Role, SessionId, WorkerId

_OVER = 1.02
"""A load above this many times the load limit is more than may be reserved."""
_EQUAL = 0.02
"""Places whose loads differ by no more than this are equally good."""
_LOOKED_AT = 32
"""The greatest number of workers that are looked at from either end of the order."""
_REST_AFTER_FAILURE_S = 30.0


Begun = tuple[Session, list[Effect]]
"""A session of which a lane has begun to move, and the effects of that."""


class Balance:
    """Begins moves that even out the load of the denoise workers."""

    def __init__(self, cell: Cell, mover: Mover) -> None:
        self._cell = cell
        self._ranking = cell.fleet.ranking(Role.DENOISE)
        self._mover = mover
        self._rests_until_s: dict[WorkerId, float] = {}
        self._even_at = -1
        """The ranking's count of changes when no worker had a lane too many."""
        self._even_until_s = 0.0
        """When a rest ends, so that others may take part."""

    def failed(self, worker: WorkerId, *, now_s: float) -> None:
        """An image failed at this worker."""
        self._rests_until_s[worker] = now_s + _REST_AFTER_FAILURE_S

    def moves(self, *, now_s: float) -> Iterator[Begun]:
        """Begin the moves that are worth while now, one after the other."""
        if self._ranking.changes == self._even_at and now_s < self._even_until_s:
            return
        self._even_at = self._ranking.changes if self._mover.is_idle else -1  # its end frees workers, not always pages
        self._even_until_s = min((end_s for end_s in self._rests_until_s.values() if end_s > now_s), default=math.inf)
        for numerics in self._ranking.classes:
            yield from self._even_reserved(numerics, now_s)
            yield from self._even_pressure(numerics, now_s)

    def _even_reserved(self, numerics: str, now_s: float) -> Iterator[Begun]:
        ids = tuple(islice(self._ranking.most_reserved(numerics), _LOOKED_AT))  # a move changes the order
        for origin in self._free_to_move(ids, now_s):
            if self._ranking.room(origin.id).reserved <= _OVER * self._cell.limits.load_limit:
                break
            target = self._target(origin, self._cell.limits.load_limit, realtime=True, now_s=now_s)
            if target is None:
                break
            yield from self._move(origin, target, realtime=True, now_s=now_s)

    def _even_pressure(self, numerics: str, now_s: float) -> Iterator[Begun]:
        ids = tuple(islice(self._ranking.most_pressed(numerics), _LOOKED_AT))  # a move changes the order
        for origin in self._free_to_move(ids, now_s):
            room, rules = self._ranking.room(origin.id), self._cell.limits.moves
            most = room.pressure * (1 - (rules.worth_of_slow if room.weight > 1 else rules.worth))
            target = self._target(origin, most, realtime=False, now_s=now_s)
            if target is None:
                break
            yield from self._move(origin, target, realtime=False, now_s=now_s)

    def _target(self, origin: Worker, most: float, *, realtime: bool, now_s: float) -> Worker | None:
        """The best place for a lane that leaves `origin`, if its load stays within `most`.

        Of equally good ones it is the one with the most streams in common: what its streams lose by the lane is then
        lost by those that the origin holds up anyway.
        """
        ask = Ask(count=1, realtime=realtime, numerics=origin.numerics)
        able = (worker for worker in self._free_to_move(self._ranking.best(ask), now_s) if worker is not origin)
        best = next(able, None)
        if best is None or self._load_after(best, realtime=realtime) > most:
            return None
        most = min(most, self._load_after(best, realtime=realtime) * (1 + _EQUAL))
        equal = (worker for worker in able if self._load_after(worker, realtime=realtime) <= most)
        return max((best, *equal), key=lambda worker: len(origin.sessions & worker.sessions))

    def _load_after(self, worker: Worker, *, realtime: bool) -> float:
        """The load that the worker would have with one lane more."""
        room = self._ranking.room(worker.id)
        if realtime:
            return (room.realtime + 1) * max(room.even_share, room.lane_share)
        return room.pressure_of(room.fast + 1)

    def _free_to_move(self, workers: Iterable[WorkerId], now_s: float) -> Iterator[Worker]:
        """Those of the first workers that may take part in a move now."""
        for worker in islice(workers, _LOOKED_AT):
            if not self._cell.workers[worker].moves and self._rests_until_s.get(worker, now_s) <= now_s:
                yield self._cell.workers[worker]

    def _move(self, origin: Worker, target: Worker, *, realtime: bool, now_s: float) -> Iterator[Begun]:
        self._even_at = -1
        session = self._pick(origin, target, realtime=realtime)
        if session is None:
            return
        for worker in (origin.id, target.id):
            self._rests_until_s[worker] = now_s + self._cell.limits.moves.rest_s
        yield session, self._mover.begin(session, session.place.lanes.index(origin.id), target)

    def _pick(self, origin: Worker, target: Worker, *, realtime: bool) -> Session | None:
        """The stream whose lane moves: its lanes spread most by it, and it is held up least."""
        least = self._cell.limits.moves.blocks_left
        able = [
            session
            for session in (self._cell.sessions[session_id] for session_id in origin.sessions)
            if session.is_realtime == realtime
            and session.state in (State.OPENING, State.RUNNING)
            and origin.id in session.place.lanes
            and not self._mover.is_moving(session.id)
            and not (session.kin.forks or session.kin.depends)
            and (session.last_block is None or session.last_block - session.next_block >= least)
            and self._cell.fleet.demands(session).lane.units <= target.free
        ]

        def cost(session: Session) -> tuple[int, int, SessionId]:
            lanes = session.place.lanes
            return lanes.count(target.id) - lanes.count(origin.id), -session.flow.window, session.id

        return min(able, key=cost, default=None)
