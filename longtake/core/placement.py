"""Placement: which worker holds which lane and which decoder slot of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longtake.core.errors import NoCapacity
from longtake.core.work import WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one worker has left."""

    lanes: int
    """Lanes that its free pages can still hold."""
    load: int
    """Lanes it holds already."""


def place_lanes(lane_count: int, rooms: Mapping[WorkerId, Room]) -> tuple[WorkerId, ...]:
    """The worker of each lane 0, 1, …: always the least loaded that has room, ties by id.

    On an idle cluster this spreads the steps of one session over all workers (a step pipeline); with one worker it
    puts them all there; with more workers than steps the next session takes the others (data parallel): placements,
    not code paths.
    """
    lanes_left = {worker: room.lanes for worker, room in rooms.items()}
    load = {worker: room.load for worker, room in rooms.items()}
    chosen: list[WorkerId] = []
    for _ in range(lane_count):
        candidates = [worker for worker, left in lanes_left.items() if left > 0]
        if not candidates:
            raise NoCapacity(f"{lane_count} lanes are needed and there is room for {len(chosen)}", 1.0)
        worker = min(candidates, key=lambda candidate: (load[candidate], candidate))
        lanes_left[worker] -= 1
        load[worker] += 1
        chosen.append(worker)
    return tuple(chosen)


def place_slot(free_slots: Mapping[WorkerId, Sequence[int]]) -> WorkerId:
    """The decode worker with the most free slots, ties by id."""
    candidates = [worker for worker, slots in free_slots.items() if slots]
    if not candidates:
        raise NoCapacity("no decoder slot is free", 1.0)
    return min(candidates, key=lambda worker: (-len(free_slots[worker]), worker))
