"""What clients of live streams see is counted as the benchmarks say, and what a server tells is read rightly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from benchmarks.live_streams import Audience, LiveStream, Seen, longest_wait_s
from benchmarks.scraped import Scraped
from longtake.client.events import NoticeEvent, ReconnectingEvent, RecoveredEvent, SegmentEvent
from monitoring import declarations as metrics

SEGMENT = SegmentEvent(
    index=0, first_picture=0, picture_count=12, start_s=Fraction(0), duration_s=Fraction(0), prompt_version=0, data=b"",
    keyframe=True,
)  # fmt: skip


def test_the_longest_wait_is_of_the_moments_asked_for_and_the_last_one_goes_on() -> None:
    came_s = [1.0, 2.0, 7.0, 8.0]
    assert longest_wait_s(came_s, 0.0, 8.5) == 5.0
    assert longest_wait_s(came_s, 3.0, 4.0) == 5.0, "a wait that began before counts as a whole"
    assert longest_wait_s(came_s, 7.0, 8.5) == 1.0, "one that ended before does not"
    assert longest_wait_s(came_s, 7.5, 20.0) == 12.0, "what is still awaited"
    assert longest_wait_s([], 0.0, 9.0) == 0.0


def test_an_audience_waits_for_each_of_its_streams() -> None:
    audience = Audience("nowhere:1", 2)
    audience.streams = [LiveStream(0, came_s=[1.0, 2.0]), LiveStream(1, came_s=[1.0])]
    assert audience.waits_s(0.0, 9.0) == [7.0, 8.0]


def test_what_is_seen_is_counted_and_taken() -> None:
    seen = Seen()
    for late_s in (0.0, 0.25, 0.0, 1.5):
        seen.hear(SEGMENT, late_s)
    seen.hear(RecoveredEvent(continuity="exact", segment=3, seconds=1.0))
    seen.hear(ReconnectingEvent(attempt=1, reason=""))
    seen.hear(NoticeEvent(text="hello"))
    assert (seen.blocks, seen.late_blocks, seen.worst_late_s) == (4, 2, 1.5)
    assert seen.told == {"RecoveredEvent": 1, "ReconnectingEvent": 1}
    audience = Audience("nowhere:1", 1)
    audience.seen = seen
    assert audience.take() is seen and audience.seen == Seen()


@pytest.fixture
def scraped() -> Scraped:
    registry = CollectorRegistry()
    late = Counter(metrics.LATE_BLOCKS.name, "", ("cell", "pace"), registry=registry)
    late.labels("a", "realtime").inc(3)
    late.labels("a", "fast").inc(4)
    Gauge(metrics.RECOVERING.name, "", ("cell", "way"), registry=registry).labels("a", "waited").set(2)
    recovery = Histogram(metrics.RECOVERY.name, "", ("cell", "continuity", "way"), registry=registry)
    for seconds in (1.5, 0.5):
        recovery.labels("a", "exact", "rebuilt").observe(seconds)
    return Scraped.of(generate_latest(registry).decode())


def test_counters_gauges_and_histograms_are_summed_by_their_labels(scraped: Scraped) -> None:
    assert scraped.sum(metrics.LATE_BLOCKS) == 7
    assert scraped.sum(metrics.LATE_BLOCKS, pace="realtime") == 3
    assert scraped.sum(metrics.LATE_BLOCKS, pace="other") == 0 == scraped.sum(metrics.BLOCKS)
    assert scraped.sum(metrics.RECOVERING) == 2
    assert scraped.sum(metrics.RECOVERY) == 2 and scraped.total(metrics.RECOVERY) == 2.0
