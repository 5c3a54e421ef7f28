"""Placement: which worker holds which lane and which decoder slot of a session.

Theory of operation. Streams of the class REALTIME reserve time, the others share what time is left. So a worker has two
loads: the share of its time that is reserved, and its pressure, the time its unreserved lanes wait for one another:
how many they are, times how slow the worker is, over the share of its time that is left. A stream without a reserved
rate runs as fast as its most pressed lane, so unequal pressures would leave devices idle.

A new lane goes where the load after it is the least. The workers are kept sorted by it, so that placing costs the same
whether a cell has four workers or a thousand; one that has no room is not in the order at all.

Workers whose kernels round differently are of different classes (`Ability.numerics`). A stream is the same bit for bit
whatever its placement only if all its lanes are with workers of one class, so they are placed together in one: the
class of the best place, and if it cannot take all of them, that of the best place in another.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from longtake.core.errors import Lack, NoCapacity
from longtake.core.fleet.room import Ask, Key, Room
from longtake.core.fleet.shortage import no_memory, no_time
from longtake.core.work import WorkerId

_LOOKED_AT = 32
"""The greatest number of workers that are tried for all lanes of a session."""


class _Order:
    """Workers sorted by a key, ties by id."""

    def __init__(self) -> None:
        self._sorted: list[tuple[Key, WorkerId]] = []
        self._keys: dict[WorkerId, Key] = {}

    def put(self, worker: WorkerId, key: Key) -> None:
        if self._keys.get(worker) == key:
            return
        self.drop(worker)
        self._keys[worker] = key
        insort(self._sorted, (key, worker))

    def drop(self, worker: WorkerId) -> None:
        key = self._keys.pop(worker, None)
        if key is not None:
            del self._sorted[bisect_left(self._sorted, (key, worker))]

    def ascending(self) -> Iterator[WorkerId]:
        return (worker for _, worker in self._sorted)

    def descending(self) -> Iterator[WorkerId]:
        return (worker for _, worker in reversed(self._sorted))


class Ranking:
    """The workers of one role, ordered by their load."""

    def __init__(self, rooms: Mapping[WorkerId, Room] | None = None, lack: Lack = Lack.PAGES, least: int = 1) -> None:
        """`lack` is what its workers run out of; a worker with less than `least` free has no room for anything."""
        self._lack = lack
        self._least = least
        self._rooms: dict[WorkerId, Room] = {}
        self._free_realtime, self._free_fast = _Order(), _Order()
        self._reserved, self._pressed = _Order(), _Order()
        self._classes: Counter[str] = Counter()
        """How many workers there are of each class."""
        self.changes = 0
        """How often something about it has changed."""
        for worker, room in (rooms or {}).items():
            self.put(worker, room)

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that its workers are of."""
        return tuple(self._classes)

    @property
    def workers(self) -> tuple[WorkerId, ...]:
        """All workers of the role."""
        return tuple(self._rooms)

    def room(self, worker: WorkerId) -> Room:
        """What this worker has left."""
        return self._rooms[worker]

    def put(self, worker: WorkerId, room: Room) -> None:
        """Enter a worker, or its new room."""
        before = self._rooms.get(worker)
        if before == room:
            return
        self.changes += 1
        self._rooms[worker] = room
        if before is None:
            self._classes[room.numerics] += 1
        self._reserved.put(worker, (room.reserved, room.realtime))
        self._pressed.put(worker, (room.pressure, room.fast))
        self._sort(worker, room)

    def may_need(self, units: int) -> None:
        """There may be lanes that take no more than this, for which a worker with so much free has room."""
        self._least = min(self._least, units)
        for worker, room in self._rooms.items():
            self._sort(worker, room)

    def _sort(self, worker: WorkerId, room: Room) -> None:
        if room.free >= self._least:
            self._free_realtime.put(worker, room.realtime_order)
            self._free_fast.put(worker, room.fast_order)
        else:
            self._free_realtime.drop(worker)
            self._free_fast.drop(worker)

    def drop(self, worker: WorkerId) -> None:
        """The worker has gone."""
        self.changes += 1
        numerics = self._rooms.pop(worker).numerics
        self._classes[numerics] -= 1
        if not self._classes[numerics]:
            del self._classes[numerics]
        for order in (self._free_realtime, self._free_fast, self._reserved, self._pressed):
            order.drop(worker)

    def most_reserved(self, numerics: str) -> Iterator[WorkerId]:
        """Workers of a class by the share of their time that is reserved, the largest first."""
        return (worker for worker in self._reserved.descending() if self._rooms[worker].numerics == numerics)

    def most_pressed(self, numerics: str) -> Iterator[WorkerId]:
        """Workers of a class by their pressure, the largest first."""
        return (worker for worker in self._pressed.descending() if self._rooms[worker].numerics == numerics)

    def best(self, ask: Ask) -> Iterator[WorkerId]:
        """Workers that have room for one lane more, the best place for it first."""
        order = self._free_realtime if ask.realtime else self._free_fast
        return (worker for worker in order.ascending() if worker != ask.avoids and self._rooms[worker].fits(ask))

    def place(self, ask: Ask) -> tuple[WorkerId, ...]:
        """The worker of each lane (or slot) 0, 1, …: always the one whose load is the least after it.

        On an idle cluster this spreads the steps of one session over all workers (a step pipeline); with one worker it
        puts them all there; with more workers than steps the next session takes the others (data parallel):
        placements, not code paths. A lane that reserves time goes only where the sum stays within the limit; NoCapacity
        says what is missing, where the best place is. The order itself is left as it was.
        """
        if ask.avoids is not None:
            try:
                return self._placed(ask)
            except NoCapacity:
                ask = replace(ask, avoids=None)
        refusals: list[NoCapacity] = []
        for one in self._by_class(ask):
            try:
                return self._placed(one)
            except NoCapacity as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _by_class(self, ask: Ask) -> list[Ask]:
        """The same for each class that has room for a lane, the one with the best place first."""
        if ask.numerics is not None or len(self._classes) < 2:
            return [ask]
        found = dict.fromkeys(self._rooms[worker].numerics for worker in self.best(ask))
        return [replace(ask, numerics=numerics) for numerics in found] or [ask]

    def _placed(self, ask: Ask) -> tuple[WorkerId, ...]:
        before: dict[WorkerId, Room] = {}
        chosen: list[WorkerId] = []
        try:
            for _ in range(ask.count):
                worker = next(self.best(ask), None)
                if worker is None:
                    raise no_memory(self._rooms, ask, self._lack, placed=len(chosen))
                room = self._rooms[worker]
                if ask.realtime and room.lane_share and room.share_after(ask) > ask.limit:
                    raise no_time(self._rooms, ask, placed=len(chosen))
                before.setdefault(worker, room)
                self.put(worker, room.with_one(ask))
                chosen.append(worker)
        finally:
            for worker, room in before.items():
                self.put(worker, room)
        return tuple(chosen)

    def place_together(self, ask: Ask) -> tuple[WorkerId, ...]:
        """One worker for all lanes, the least loaded of those that have room for them; spread if there is none.

        What happens to a worker then happens to few streams, and no latents travel; but a stream is only as fast as one
        worker.
        """
        for worker in islice(self.best(ask), _LOOKED_AT):
            if self.shortage((worker,) * ask.count, ask) is None:
                return (worker,) * ask.count
        return self.place(ask)

    def shortage(self, chosen: tuple[WorkerId, ...], ask: Ask) -> NoCapacity | None:
        """What these workers lack for the lanes (or slots): room, or time if they reserve it."""
        for worker, count in Counter(chosen).items():
            room = self._rooms.get(worker)
            here = {} if room is None else {worker: room}
            if room is None or room.free < count * ask.demand.units:
                return no_memory(here, ask, self._lack, at_once=count)
            if ask.realtime and room.lane_share and room.share_after(ask, count) > ask.limit:
                return no_time(here, ask, at_once=count)
        return None

    def could_hold(self, ask: Ask) -> bool:
        """Whether the time of the workers of one class would do for these lanes (or slots) if nothing were here."""
        counts: Counter[str] = Counter()
        for room in self._rooms.values():
            share = room.lane_share * ask.demand.time if ask.realtime else 0.0
            counts[room.numerics] += int(ask.limit / share) if share else ask.count
        return max(counts.values(), default=0) >= ask.count
