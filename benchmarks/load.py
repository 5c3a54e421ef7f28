"""What a load generator saw of each stream, and the figures that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class StreamLog:
    """One stream as its client saw it; times in monotonic seconds."""

    asked_s: float
    came_s: list[float] = field(default_factory=list)
    """When each segment was there, whole."""
    start_s: list[float] = field(default_factory=list)
    """Presentation time of each segment's first picture."""
    pictures: int = 0
    size_bytes: int = 0
    mixed_up: int = 0
    """Pictures that are not the ones this stream must show at this place."""
    refusals: int = 0
    """How often the server said no before it said yes."""

    @property
    def first_segment_s(self) -> float:
        """From the request to the first segment."""
        return self.came_s[0] - self.asked_s

    def block_latencies_s(self) -> list[float]:
        """From each segment to the next."""
        return [later - earlier for earlier, later in zip(self.came_s, self.came_s[1:], strict=False)]

    def late_blocks(self) -> int:
        """Segments that came after a screen, which began to play with the first one, had to show them."""
        playing_since_s = self.came_s[0] - self.start_s[0]
        return sum(
            came_s > playing_since_s + start_s for came_s, start_s in zip(self.came_s, self.start_s, strict=True)
        )

    def segments_between(self, from_s: float, until_s: float) -> int:
        """Segments that came in (from_s, until_s]."""
        return sum(from_s < came_s <= until_s for came_s in self.came_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of all streams together."""

    streams: int
    segments: int
    most_open: int
    """Streams open at once."""
    blocks_per_s: float
    late_ratio: float
    """Late blocks / blocks; a FAST stream has no deadline, and is measured as if it were played at once."""
    p50_block_latency_s: float
    p95_block_latency_s: float
    p99_block_latency_s: float
    p50_first_segment_s: float
    p95_first_segment_s: float
    jain: float
    jain_interval_s: float
    """In which all streams were open and `jain` compares their segments; 0: there was none, it compares rates."""
    refusals: int
    mixed_up: int | None
    """Pictures of another stream or place; None: the pictures cannot be known beforehand."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` per cent of the values do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def jain(shares: Iterable[float]) -> float:
    """Jain's index (sum x)^2 / (n sum x^2): 1 where all are equal, 1/n where one has everything."""
    values = list(shares)
    square_sum = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * square_sum) if square_sum else 1.0


def fairness(logs: Sequence[StreamLog]) -> tuple[float, float]:
    """Jain's index, and the length of the interval in which it compares segments (0: it compares rates)."""
    from_s, until_s = max(log.came_s[0] for log in logs), min(log.came_s[-1] for log in logs)
    shares = [log.segments_between(from_s, until_s) for log in logs]
    if until_s > from_s and min(shares) >= 2:
        return jain(shares), until_s - from_s
    return jain(len(log.came_s) / (log.came_s[-1] - log.asked_s) for log in logs), 0.0


def most_open(logs: Sequence[StreamLog]) -> int:
    """The most streams that were between request and last segment at one time."""
    changes = sorted([(log.asked_s, 1) for log in logs] + [(log.came_s[-1], -1) for log in logs])
    count = highest = 0
    for _, change in changes:
        count += change
        highest = max(highest, count)
    return highest


def figures(logs: Sequence[StreamLog], *, known_pictures: bool) -> Figures:
    """Everything about streams that have all ended."""
    latencies = [latency for log in logs for latency in log.block_latencies_s()]
    firsts = [log.first_segment_s for log in logs]
    segments = sum(len(log.came_s) for log in logs)
    wall_s = max(log.came_s[-1] for log in logs) - min(log.asked_s for log in logs)
    index, interval_s = fairness(logs)
    return Figures(
        streams=len(logs),
        segments=segments,
        most_open=most_open(logs),
        blocks_per_s=round(segments / wall_s, 2),
        late_ratio=round(sum(log.late_blocks() for log in logs) / segments, 5),
        p50_block_latency_s=round(percentile(latencies, 50), 4),
        p95_block_latency_s=round(percentile(latencies, 95), 4),
        p99_block_latency_s=round(percentile(latencies, 99), 4),
        p50_first_segment_s=round(percentile(firsts, 50), 4),
        p95_first_segment_s=round(percentile(firsts, 95), 4),
        jain=round(index, 5),
        jain_interval_s=round(interval_s, 3),
        refusals=sum(log.refusals for log in logs),
        mixed_up=sum(log.mixed_up for log in logs) if known_pictures else None,
    )
