"""What is counted, as the families that Prometheus scrapes: made anew for each scrape, from the declarations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from longtake.core.errors import InternalFault
from longtake.core.recipe.ops import Kind
from longtake.core.work import Role
from monitoring.declarations import BY_NAME, METRICS, Instrument, Metric
from monitoring.folding.histogram import Histogram
from monitoring.folding.tally import Tally

CELL = "cell"
OPS = {Kind.DENOISE: "denoise", Kind.COMMIT: "commit", Kind.DECODE: "decode"}


class Scrape:
    """The declared families, filled in for one scrape."""

    def __init__(self, cell: str) -> None:
        self._cell = cell
        self._families = {metric.name: _family(metric) for metric in METRICS}

    def put(self, name: str, value: float, *labels: str) -> None:
        """The value of a counter or a gauge; `labels` are the values of those declared, without `cell`.

        InternalFault if the metric is not declared like that.
        """
        family = self._declared(name, labels)
        if not isinstance(family, CounterMetricFamily | GaugeMetricFamily):
            raise InternalFault(f"metric {name} is a histogram")
        family.add_metric((self._cell, *labels), value)

    def put_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """The values of a histogram; see `put`."""
        family = self._declared(name, labels)
        if not isinstance(family, HistogramMetricFamily):
            raise InternalFault(f"metric {name} is no histogram")
        family.add_metric((self._cell, *labels), histogram.cumulative(), histogram.total)

    def _declared(self, name: str, labels: tuple[str, ...]) -> Family:
        metric = BY_NAME.get(name)
        if metric is None or len(labels) != len(metric.labels):
            raise InternalFault(f"metric {name} with labels {labels} is not in monitoring.declarations")
        return self._families[name]

    @property
    def families(self) -> list[Family]:
        """All families, also those without samples."""
        return list(self._families.values())


def _family(metric: Metric) -> Family:
    labels = (CELL, *metric.labels)
    match metric.instrument:
        case Instrument.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=labels)
        case Instrument.GAUGE:
            return GaugeMetricFamily(metric.name, metric.help, labels=labels)
        case Instrument.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=labels)


Writer = Callable[[Scrape], object]
"""Writes what it knows into a scrape."""


class Exposition:
    """Makes the page of one cell: what the writers know, and figures of the process and of the interpreter."""

    def __init__(self, cell: str, tally: Tally, writers: Sequence[Writer]) -> None:
        self._cell = cell
        self._tally = tally
        self._writers = (tally_writer(tally), *writers)
        nowhere = CollectorRegistry(auto_describe=False)
        self._own: tuple[Collector, ...] = (
            ProcessCollector(registry=nowhere),
            PlatformCollector(registry=nowhere),
            GCCollector(registry=nowhere),
        )

    def families(self) -> list[Family]:
        """All families as they are now. This is quick; call it on the thread on which events are folded."""
        began_s = time.thread_time()
        scrape = Scrape(self._cell)
        for write in self._writers:
            write(scrape)
        families = scrape.families
        self._tally.spent(time.thread_time() - began_s)
        return families

    def page(self, families: Iterable[Family], accept: str) -> tuple[bytes, str]:
        """The text for a scrape, in the format that `accept` (the header) asks for, and its media type.

        Takes some milliseconds; touches nothing that events change, so it may run on another thread.
        """
        began_s = time.thread_time()
        encode, media_type = choose_encoder(accept)
        text = encode(_Fixed([*families, *self._own_families()]))
        self._tally.spent(time.thread_time() - began_s)
        return text, media_type

    def _own_families(self) -> Iterator[Family]:
        """The families of the process and of the interpreter, with the label that every sample has."""
        for collector in self._own:
            for family in collector.collect():
                family.samples = [
                    Sample(
                        sample.name,
                        {CELL: self._cell, **sample.labels},
                        sample.value,
                        sample.timestamp,
                        sample.exemplar,
                    )
                    for sample in family.samples
                ]
                yield family


class _Fixed(Collector):
    """A collector of families that are made already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def tally_writer(tally: Tally) -> Writer:
    """A writer of everything that a tally counts."""

    def write(scrape: Scrape) -> None:
        _write_streams(scrape, tally)
        _write_fleet(scrape, tally)
        for reason, count in tally.refused_calls.items():
            scrape.put("longtake_calls_refused_total", count, reason.value)
        for event, count in tally.events.items():
            scrape.put("longtake_engine_events_total", count, event.__name__)
        scrape.put("longtake_metrics_seconds_total", tally.seconds)
        scrape.put("longtake_draining", tally.draining)

    return write


def _write_streams(scrape: Scrape, tally: Tally) -> None:
    streams = tally.streams
    scrape.put_histogram("longtake_queue_wait_seconds", streams.queue_wait_s)
    scrape.put_histogram("longtake_text_seconds", streams.text_s)
    for (continuity, way), histogram in streams.recovery_s.items():
        scrape.put_histogram("longtake_recovery_seconds", histogram, continuity.value, way)
    for result, count in streams.cues.items():
        scrape.put("longtake_cues_total", count, result)
    for pace, counts in streams.paces.items():
        label = pace.value
        scrape.put("longtake_opens_granted_total", counts.opened, label)
        for reason, count in counts.refused.items():
            scrape.put("longtake_opens_refused_total", count, label, reason.value)
        for ending, count in counts.closed.items():
            scrape.put("longtake_sessions_closed_total", count, label, ending.value)
        scrape.put("longtake_sessions_parked_total", counts.parked, label)
        scrape.put("longtake_sessions_restored_total", counts.restored, label)
        scrape.put("longtake_window_stalls_total", counts.stalls, label)
        scrape.put("longtake_blocks_total", counts.blocks, label)
        scrape.put("longtake_late_blocks_total", counts.late_blocks, label)
        scrape.put("longtake_shed_blocks_total", counts.shed_blocks, label)
        scrape.put("longtake_pictures_total", counts.pictures, label)
        scrape.put("longtake_segment_bytes_total", counts.segment_bytes, label)
        scrape.put_histogram("longtake_block_slack_seconds", counts.slack_s, label)
        scrape.put_histogram("longtake_first_segment_seconds", counts.first_segment_s, label)
        scrape.put_histogram("longtake_block_latency_seconds", counts.block_latency_s, label)
        scrape.put_histogram("longtake_prompt_to_screen_seconds", counts.prompt_to_screen_s, label)
        scrape.put_histogram("longtake_client_lag_segments", counts.client_lag, label)


def _write_fleet(scrape: Scrape, tally: Tally) -> None:
    fleet = tally.fleet
    for name, worker in fleet.workers.items():
        for kind, count in worker.ops.items():
            if (kind is Kind.DECODE) == (worker.role is Role.DECODE):
                scrape.put("longtake_ops_total", count, OPS[kind], name)
        scrape.put("longtake_passes_total", worker.passes, name)
        if worker.role is not Role.TEXT:  # whose time nobody counts
            scrape.put("longtake_busy_seconds_total", worker.busy_s, name)
        scrape.put("longtake_worker_failures_total", worker.failures, name)
        for order, count in worker.copies.items():
            scrape.put("longtake_state_copies_total", count, name, order)
    for role in Role:
        scrape.put_histogram("longtake_pass_ops", fleet.pass_ops(role), role.value)
        scrape.put("longtake_workers_joined_total", fleet.joined[role], role.value)
    for (role, cause), count in fleet.lost.items():
        scrape.put("longtake_workers_lost_total", count, role.value, cause.value)
    scrape.put("longtake_lane_moves_total", fleet.lane_moves)
    for kind, count in fleet.renewals.items():
        scrape.put("longtake_renewals_total", count, kind)
