"""Flow control: how far a session may run ahead of what its client has acknowledged and of the playback clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from longtake.core.errors import InvalidField
from longtake.core.recipe.geometry import Geometry


class Pace(Enum):
    """What a session's blocks are measured against."""

    REALTIME = "realtime"
    """Blocks follow the playback rate: they have due times, and none starts over a window ahead of the playback
    clock."""
    FAST = "fast"
    """Blocks use whatever time is left over: only acknowledgements limit them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Credits of one session: block n may start iff n <= acknowledged + window (and, in REALTIME, its time is near)."""

    window: int
    pace: Pace
    acknowledged: int = -1
    playing_since_s: float | None = None
    """When picture 0 was due, on the engine's clock; None before the first segment left and while paused."""
    expected_since_s: float = float("-inf")
    """The time that stands in for `playing_since_s` until then; see `started`."""

    def acknowledge(self, segment: int, *, emitted: int) -> Flow:
        """A cumulative acknowledgement; `emitted` is how many segments have left. An older one changes nothing."""
        if not 0 <= segment < max(emitted, self.acknowledged + 1):
            raise InvalidField(
                "ack.segment",
                segment,
                f"0 to {emitted - 1}, the segments sent so far" if emitted else "nothing yet: no segment was sent",
            )
        return self if segment <= self.acknowledged else replace(self, acknowledged=segment)

    def has_credit(self, block: int) -> bool:
        """Whether the client has acknowledged enough for `block` to start (in REALTIME, once its time has come)."""
        return block <= self.acknowledged + self.window

    def earliest_start_s(self, block: int, *, geometry: Geometry) -> float:
        """When the playback clock lets `block` start: one window before it is due (FAST: at once)."""
        if self.pace is Pace.FAST or self.playing_since_s is None:
            return float("-inf")
        ahead = geometry.first_picture(max(block - self.window, 0))
        return self.playing_since_s + ahead / geometry.pictures_per_s

    def due_s(self, block: int, *, geometry: Geometry) -> float:
        """When the first picture of `block` is due on the client's screen; infinity without a playback clock."""
        if self.pace is Pace.FAST:
            return float("inf")
        since_s = self.expected_since_s if self.playing_since_s is None else self.playing_since_s
        return since_s + geometry.first_picture(block) / geometry.pictures_per_s

    def slack_s(self, block: int, *, now_s: float, geometry: Geometry) -> float | None:
        """How long before it is due `block` is ready; None while no playback clock runs."""
        if self.pace is Pace.FAST or self.playing_since_s is None:
            return None
        return self.due_s(block, geometry=geometry) - now_s

    def started(self, block: int, *, now_s: float, geometry: Geometry) -> Flow:
        """Note that the session begins or resumes at `now_s`, with `block` the next to leave.

        Until that segment starts the playback clock it is expected one block's time from now: urgent enough to be
        begun before anything that has no deadline, not so urgent that it makes an admitted stream late.
        """
        if self.pace is Pace.FAST:
            return self
        ahead_s = (2 * geometry.first_picture(block) - geometry.first_picture(block + 1)) / geometry.pictures_per_s
        return replace(self, expected_since_s=now_s - ahead_s)

    def played(self, block: int, *, now_s: float, geometry: Geometry) -> Flow:
        """The segment of `block` leaves at `now_s`: start the playback clock, or shift it if the segment is late.

        After a stall the clock is moved rather than raced: catching up would take from everybody else.
        """
        if self.pace is Pace.FAST:
            return self
        offset_s = float(geometry.time_s(geometry.first_picture(block)))
        since = now_s - offset_s
        if self.playing_since_s is not None:
            since = max(since, self.playing_since_s)
        return replace(self, playing_since_s=since)

    def stopped(self) -> Flow:
        """Stop the playback clock; the next segment that leaves starts it again."""
        return replace(self, playing_since_s=None)
