"""Placement: which worker holds which lane and which decoder slot of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from longtake.core.errors import NoCapacity
from longtake.core.work import WorkerId

_LEAST_LEFT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one worker has left."""

    lanes: int
    """Lanes (decode worker: slots) that it can still hold."""
    load: int
    """Lanes or slots it holds already."""
    share: float = 0.0
    """Share of its time that REALTIME sessions have reserved."""
    reserving: int = 0
    """Lanes or slots among `load` whose time is in `share`."""
    lane_share: float = 0.0
    """Share that the lane or slot to be placed would reserve; 0 if it reserves nothing or nothing was measured yet."""

    @property
    def order(self) -> tuple[float, float]:
        """The smaller, the better a place: by the time reserved, or by how many share what time is left over.

        A bulk stream is as fast as the slowest of its lanes, so unequal remainders would leave devices idle.
        """
        left = max(1 - self.share, _LEAST_LEFT)
        return (self.share, self.load) if self.lane_share else ((self.load - self.reserving + 1) / left, self.load)

    def with_lane(self) -> Room:
        """The room after one more lane."""
        return replace(
            self,
            lanes=self.lanes - 1,
            load=self.load + 1,
            share=self.share + self.lane_share,
            reserving=self.reserving + bool(self.lane_share),
        )


def place_lanes(
    lane_count: int, rooms: Mapping[WorkerId, Room], *, limit: float = 1.0, what: str = "lanes"
) -> tuple[WorkerId, ...]:
    """The worker of each lane (or slot: `what`) 0, 1, …: always the least loaded that has room, ties by id.

    The load is the time reserved for a lane that reserves some, else the number of lanes for the time left over.

    On an idle cluster this spreads the steps of one session over all workers (a step pipeline); with one worker it
    puts them all there; with more workers than steps the next session takes the others (data parallel): placements,
    not code paths. A lane that reserves time goes only where the sum stays within `limit`.
    """
    left = dict(rooms)
    chosen: list[WorkerId] = []
    for _ in range(lane_count):
        roomy = [worker for worker, room in left.items() if room.lanes > 0]
        if not roomy:
            raise NoCapacity(f"{lane_count} {what} are needed and there is room for {len(chosen)}", 1.0)
        candidates = [worker for worker in roomy if left[worker].share + left[worker].lane_share <= limit]
        if not any(left[worker].lane_share for worker in roomy):
            candidates = roomy
        if not candidates:
            raise NoCapacity(_too_little_time(lane_count, len(chosen), left, limit), 1.0)
        worker = min(candidates, key=lambda candidate: (*left[candidate].order, candidate))
        left[worker] = left[worker].with_lane()
        chosen.append(worker)
    return tuple(chosen)


def holds(rooms: Mapping[WorkerId, Room], chosen: tuple[WorkerId, ...], limit: float) -> bool:
    """Whether lanes (or slots) at just these workers have room, and time within `limit` if they reserve any."""
    left = dict(rooms)
    for worker in chosen:
        room = left.get(worker)
        if room is None or room.lanes < 1 or (room.lane_share and room.share + room.lane_share > limit):
            return False
        left[worker] = room.with_lane()
    return True


def _too_little_time(lane_count: int, placed: int, rooms: Mapping[WorkerId, Room], limit: float) -> str:
    needed = sum(room.lane_share for room in rooms.values()) / len(rooms)
    free = sum(max(0.0, limit - room.share) for room in rooms.values()) + placed * needed
    most = max(limit - room.share for room in rooms.values())
    return (
        f"a live stream takes {lane_count * needed:.2f} workers' time in {lane_count} parts of {needed:.2f}; of "
        f"{limit * len(rooms):.2f} ({limit:.0%} of {len(rooms)}) {free:.2f} are free, {placed} parts fit and then no "
        f"worker has more than {max(0.0, most):.2f}"
    )
