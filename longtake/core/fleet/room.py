"""What one worker has left, and what the lanes (or slots) of a session ask for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from longtake.core.fleet.load import Demand
from longtake.core.work import WorkerId

_LEAST_LEFT = 0.01

Key = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Lanes (or slots) of one session that want places, all alike."""

    count: int
    demand: Demand = field(default_factory=Demand)
    realtime: bool = False
    """Whether these lanes reserve their time."""
    limit: float = 1.0
    """Share of a worker's time that may be reserved."""
    numerics: str | None = None
    """The class that the workers must be of; None: any, but all of one."""
    avoids: WorkerId | None = None
    """A worker that is taken only if there is no room elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one worker has left."""

    free: int
    """Free pages (for a decode worker: free slots)."""
    lanes: int = 0
    """Lanes (for a decode worker: slots) that are here, or are on their way here."""
    realtime: float = 0
    """Time that lanes or slots here reserve, in lanes of the default recipe (`Demand.time`)."""
    fast: float = 0
    """Time of the lanes or slots that share what is left, in the same unit."""
    lane_share: float = 0.0
    """Share of its time that a lane or slot of the default recipe takes; 0 if nothing was measured yet."""
    even_share: float = 0.0
    """The same by its evened time: the median of the fleet unless it clearly differs, so that noise moves nothing."""
    weight: float = 1.0
    """The worker's evened time over the median of the fleet."""
    numerics: str = ""
    """The worker's class (`Ability.numerics`)."""

    @property
    def taken(self) -> float:
        """Share of its time that is reserved, by its own time."""
        return self.realtime * self.lane_share

    @property
    def reserved(self) -> float:
        """Share of its time that is reserved, by its evened time."""
        return self.realtime * self.even_share

    @property
    def pressure(self) -> float:
        """How long its unreserved lanes wait for one another."""
        return self.pressure_of(self.fast)

    def pressure_of(self, fast: float) -> float:
        """The pressure if lanes of this much time shared what is left."""
        return fast * self.weight / max(1 - self.reserved, _LEAST_LEFT)

    @property
    def realtime_order(self) -> Key:
        """A key for sorting: the smaller it is, the better is the place for a lane that reserves time."""
        return (self.realtime + 1) * self.lane_share, self.lanes

    @property
    def fast_order(self) -> Key:
        """A key for sorting: the smaller it is, the better is the place for a lane that reserves no time."""
        return self.pressure_of(self.fast + 1), self.lanes

    def with_one(self, ask: Ask) -> Room:
        """The room after one more lane."""
        time = ask.demand.time
        return replace(
            self,
            free=self.free - ask.demand.units,
            lanes=self.lanes + 1,
            realtime=self.realtime + ask.realtime * time,
            fast=self.fast + (not ask.realtime) * time,
        )

    def fits(self, ask: Ask) -> bool:
        """Whether one lane more may come here, as far as class and memory go."""
        return ask.numerics in (None, self.numerics) and self.free >= ask.demand.units

    def share_after(self, ask: Ask, count: int = 1) -> float:
        """The share of its time that is reserved once this many lanes have come."""
        return (self.realtime + count * ask.demand.time) * self.lane_share
