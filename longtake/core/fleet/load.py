"""Load: what lanes and decoder slots take of a worker, in units that sessions of different recipes share.

Theory of operation. A worker gives two things: memory (pages, or decoder slots) and time. A lane of the recipe that the
cell serves by default takes 1 of time; a lane of another recipe takes as many times more or less as its ops take
seconds of the device for each second of the stream, and so does a slot of another decoder. Such weights are added up
from the number of lanes of each kind, never by adding and taking away floats, so a worker that nothing is left on has a
load of exactly 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one lane, or one decoder slot, takes of its worker."""

    units: int = 1
    """How many pages or slots it takes."""
    time: float = 1.0
    """Seconds of the device for a second of the stream, over those of the cell's default recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What the parts of one session take of the workers that hold them."""

    lane: Demand
    slot: Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often the parts of a session are worked on, while it keeps its pace."""

    lane_ops_per_s: float
    """Forwards of one lane, for each second of the stream."""
    blocks_per_s: float

    @classmethod
    def of(cls, graph: Graph, geometry: Geometry, load: int = 0) -> Rates:
        """The rates of a session with this recipe, whose blocks are begun under such a load."""
        return cls(
            lane_ops_per_s=graph.under(load).forwards / graph.lane_count / geometry.block_s,
            blocks_per_s=1 / geometry.block_s,
        )


class Load:
    """The lanes (or slots) on one worker."""

    __slots__ = ("_kinds", "_time", "realtime", "total")

    def __init__(self) -> None:
        self._kinds: Counter[tuple[float, bool]] = Counter()
        """How many there are of each demand of time, apart by whether it is reserved."""
        self._time = {False: 0.0, True: 0.0}
        self.total = 0
        """How many there are."""
        self.realtime = 0
        """How many reserve their time."""

    def count(self, number: int, demand: Demand, *, realtime: bool) -> None:
        """Count this many more lanes; fewer if the number is negative."""
        kind = (demand.time, realtime)
        self._kinds[kind] += number
        if not self._kinds[kind]:
            del self._kinds[kind]
        self.total += number
        self.realtime += number * realtime
        kinds = sorted(self._kinds.items())
        self._time[realtime] = sum(time * held for (time, reserves), held in kinds if reserves == realtime)

    def time(self, *, realtime: bool) -> float:
        """The time of all that reserve theirs, or of all that do not."""
        return self._time[realtime]
