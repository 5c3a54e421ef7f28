"""Recording rules: the figures that dashboards, alerts and people share, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from monitoring import declarations as metrics
from monitoring.boards.promql import Expression, Scope, duration
from monitoring.declarations import Metric

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
LATE_WINDOWS_S = (5 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 6 * HOUR_S, 3 * DAY_S)
REALTIME = {"pace": "realtime"}


@dataclass(frozen=True, slots=True)
class Record:
    """A series that Prometheus computes: LEVEL:METRIC:OPERATIONS, as its conventions say."""

    name: str
    query: Expression
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that the record adds to those of the query."""

    @property
    def series(self) -> Expression:
        """The record, as a query that others can use."""
        return replace(self.query, text=self.name, labels=(*self.query.labels, *self.labels))

    def series_of(self, matcher: str) -> Expression:
        """The part of the record that matches."""
        return replace(self.series, text=f"{self.name}{{{matcher}}}")


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Shortens all windows of the rules alike, for trials that cannot take hours; 1 leaves them as they are meant."""

    factor: float = 1.0

    def scope(self, window_s: float) -> Scope:
        """All cells, over a window."""
        return Scope(self.text(window_s))

    def text(self, length_s: float) -> str:
        """The length of time as Prometheus writes it."""
        return duration(length_s * self.factor)


@dataclass(frozen=True, slots=True)
class Records:
    """All recording rules."""

    times: TimeScale

    def late(self, window_s: float) -> Record:
        """The share of realtime blocks that left late, over one of LATE_WINDOWS_S."""
        scope = self.times.scope(window_s)
        share = scope.rate(metrics.LATE_BLOCKS, **REALTIME) / scope.rate(metrics.BLOCKS, **REALTIME)
        return Record(f"cell:longtake_late_block:ratio{duration(window_s)}", share)

    def restarts(self, window_s: float) -> Expression:
        """How often a cell's server was replaced without a drain, in the window: a crash, or it was killed.

        A server that drained takes its mark away where its uptime falls; two jobs may not both have seen the mark.
        """
        window = self.times.text(window_s)
        began = self._uptime.series.over("resets", window)
        drained = self._draining.series.over("resets", window)
        return (began - drained).least_of_jobs()

    @property
    def _uptime(self) -> Record:
        """The uptime as each scrape job knows it; it falls when there is a new server."""
        query = self.times.scope(10 * MINUTE_S).as_jobs_saw_it(metrics.UPTIME)
        return Record("cell_job:longtake_uptime_seconds:min10m", query)

    @property
    def _draining(self) -> Record:
        """Whether a cell's server drains, also for a while after it has ended."""
        query = self.times.scope(10 * MINUTE_S).as_jobs_saw_it(metrics.DRAINING)
        return Record("cell_job:longtake_draining:min10m", query)

    @property
    def late_blocks(self) -> Record:
        """Late realtime blocks a second."""
        return Record("cell:longtake_late_blocks:rate5m", self._five.rate(metrics.LATE_BLOCKS, **REALTIME))

    @property
    def blocks(self) -> Record:
        """Blocks a second."""
        return Record("cell_pace:longtake_blocks:rate5m", self._five.rate(metrics.BLOCKS, "pace"))

    @property
    def first_segment(self) -> Record:
        """The 95th percentile of the time from Open to the first segment."""
        query = self._five.quantile(0.95, metrics.FIRST_SEGMENT, "pace")
        return Record("cell_pace:longtake_first_segment_seconds:p95_5m", query)

    @property
    def engine_busy(self) -> Record:
        """The share of time that the engine's thread spends on events."""
        return Record("cell:longtake_engine_busy:ratio5m", self._five.spent(metrics.ENGINE_STEP))

    @property
    def sessions(self) -> Record:
        """Sessions that are not closed, in whatever state."""
        return Record("cell:longtake_sessions:sum", self._five.sum(metrics.SESSIONS))

    @property
    def memory(self) -> tuple[Record, ...]:
        """Bytes in each of the places that could grow for ever; all have one name and the label `store`."""
        stores = {"journal": metrics.JOURNAL, "copies": metrics.STATE_COPIES_MEMORY, "workers": metrics.RESIDENT_MEMORY}
        name = "cell_store:longtake_memory_bytes:sum"
        return tuple(Record(name, self._five.sum(metric), {"store": store}) for store, metric in stores.items())

    def __iter__(self) -> Iterator[Record]:
        """The records in the order of the file."""
        five = self._five
        yield from map(self.late, LATE_WINDOWS_S)
        yield self.blocks
        yield self.late_blocks
        yield Record("cell:longtake_of_limit:ratio5m", five.rate(metrics.BLOCKS) / five.least(metrics.LIMIT))
        of_each = five.rate(metrics.BLOCKS).over_each(five.sum(metrics.LIMIT, "role"))
        yield Record("cell_role:longtake_of_limit:ratio5m", of_each)
        yield Record("cell:longtake_real_time_factor:ratio5m", _real_time_factor(five))
        yield Record("cell_worker:longtake_busy:ratio5m", five.rate(metrics.BUSY, "worker"))
        yield Record("cell:longtake_pages_used:ratio", _used(five, metrics.PAGES))
        yield Record("cell:longtake_decoder_slots_used:ratio", _used(five, metrics.DECODER_SLOTS))
        yield self.first_segment
        for name in (metrics.PROMPT_TO_SCREEN, metrics.BLOCK_LATENCY):
            yield Record(f"cell_pace:{name.name}:p95_5m", five.quantile(0.95, name, "pace"))
        slack = five.quantile(0.01, metrics.BLOCK_SLACK, **REALTIME)
        yield Record(f"cell:{metrics.BLOCK_SLACK.name}:p01_5m", slack)
        yield self.engine_busy
        yield self.sessions
        yield self._uptime
        yield self._draining
        yield from self.memory

    @property
    def _five(self) -> Scope:
        return self.times.scope(5 * MINUTE_S)


def _used(scope: Scope, metric: Metric) -> Expression:
    return (scope.sum(metric, state="free") / scope.sum(metric)).rest()


def _real_time_factor(scope: Scope) -> Expression:
    """Pictures sent a second and realtime stream that may run, over the rate at which they play."""
    running = scope.lately("avg_over_time", metrics.SESSIONS, pace="realtime", state="running")
    stalled = scope.lately("avg_over_time", metrics.STALLED_SESSIONS, **REALTIME)
    return (scope.rate(metrics.PICTURES, **REALTIME) / (running - stalled).above(0)) / scope.most(metrics.PICTURE_RATE)
