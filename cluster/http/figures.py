"""What a scrape is told that no event says: how full workers are, what waits, how calls ended, what is served.

Memory and utilisation of the devices themselves are not here: NVIDIA's DCGM exporter tells them, on the same machines.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from cluster.access.audit import Audit
from cluster.access.call_counts import CallCounts
from cluster.cell.engine import Engine
from cluster.config import ServerConfig
from cluster.frontend.offer import Offer
from cluster.journal.writer import WriterFigures
from cluster.net.certificate_dates import CertificateDates, Validity
from longtake.core.fleet.worker import WorkerView
from longtake.core.flow import Pace
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import Role
from monitoring.exposition import Scrape
from monitoring.folding.session_tally import REBUILT, WAITED
from workers.start.log import log_lines_dropped

NO_DISK = WriterFigures(
    trouble="", lag_s=0.0, waiting_bytes=0, written_bytes=0, size_bytes=0, dropped_latents=0, failures=0
)
"""Of a server without a journal on disk."""
STATES = tuple(state for state in State if state is not State.CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts:
    """What does not change while a server runs."""

    offer: Offer
    device: str
    expected: Mapping[Role, int]
    """Workers that the configuration asks for; a chain is one."""
    started_at_s: float
    """When the server started, on the engine's clock."""

    @classmethod
    def of(cls, config: ServerConfig, offer: Offer, *, now_s: float) -> CellFacts:
        """The facts of a server that starts now."""
        cluster = config.cluster
        expected = {Role.DENOISE: cluster.denoise_workers, Role.DECODE: cluster.decode_workers}
        if offer.text_workers:
            expected[Role.TEXT] = offer.text_workers
        return cls(offer=offer, device=config.model.device, expected=expected, started_at_s=now_s)


class CellFigures:
    """Writes the gauges of one cell, and the counters that its parts keep themselves."""

    def __init__(self, engine: Engine, calls: CallCounts, facts: CellFacts, audit: Audit) -> None:
        self._audit = audit
        self._engine = engine
        self._calls = calls
        self._facts = facts

    def __call__(self, scrape: Scrape) -> None:
        """See monitoring.exposition.Writer."""
        self._write_facts(scrape)
        self._write_sessions(scrape)
        self._write_workers(scrape)
        self._write_processes(scrape)
        self._write_engine(scrape)
        self._write_lines(scrape)
        for (method, code), count in self._calls.ended.items():
            scrape.put("longtake_calls_total", count, method, code)

    def _write_lines(self, scrape: Scrape) -> None:
        scrape.put("longtake_lines_dropped_total", log_lines_dropped(), "log")
        scrape.put("longtake_lines_dropped_total", self._audit.dropped, "audit")
        scrape.put("longtake_audit_trouble", float(bool(self._audit.trouble)))

    def _write_facts(self, scrape: Scrape) -> None:
        facts, offer = self._facts, self._facts.offer
        scrape.put("longtake_info", 1, longtake_version(), offer.name, offer.recipe.digest[:12], facts.device)
        scrape.put("longtake_uptime_seconds", self._engine.now_s() - facts.started_at_s)
        scrape.put("longtake_sessions_limit", offer.limits.max_sessions)
        scrape.put("longtake_playback_pictures_per_second", float(offer.geometry.pictures_per_s))
        scrape.put("longtake_forwards_per_block", Graph(offer.recipe).forwards_per_block)
        # Nothing is missing of what was never there: an alert would wake somebody at each long start.
        joined = self._engine.tally.fleet.joined
        started = all(joined[role] >= count for role, count in facts.expected.items())
        scrape.put("longtake_started", started)
        for role, count in facts.expected.items() if started else ():
            scrape.put("longtake_workers_expected", count, role.value)

    def _write_sessions(self, scrape: Scrape) -> None:
        census = self._engine.scheduler.census()
        for pace in Pace:
            for state in STATES:
                scrape.put("longtake_sessions", census.sessions.get((state, pace), 0), state.value, pace.value)
            scrape.put("longtake_stalled_sessions", census.stalled.get(pace, 0), pace.value)
        ways = Counter(map(_way, self._engine.scheduler.cell.sessions.values()))
        for way in (REBUILT, WAITED):
            scrape.put("longtake_recovering_sessions", ways[way], way)
        scrape.put("longtake_detached_sessions", census.detached)
        scrape.put("longtake_late_sessions", self._engine.scheduler.cell.load_limit.late)
        prompts = self._engine.scheduler.cell.texts.view(now_s=self._engine.now_s())
        scrape.put("longtake_prompts_waiting", prompts.count)
        scrape.put("longtake_oldest_prompt_seconds", prompts.oldest_s)

    def _write_workers(self, scrape: Scrape) -> None:
        workers = self._engine.scheduler.workers()
        for role in self._facts.expected:
            here = [worker.ability.numerics for worker in workers if worker.role is role]
            scrape.put("longtake_workers", len(here), role.value)
            scrape.put("longtake_numerics_classes", len(set(here)), role.value)
        for one in self._engine.introductions():
            for site in dict.fromkeys(one.sites):  # workers of a chain may share one
                scrape.put("longtake_worker_info", 1, one.worker, one.role.value, site.node, site.pod, site.device)
        for worker in workers:
            _write_worker(scrape, worker)
        scrape.put("longtake_reservable_time_ratio", self._engine.scheduler.cell.load_limit.share)
        for stage in self._engine.scheduler.cell.limit.stages:
            if stage.blocks_per_s is not None:
                scrape.put("longtake_limit_blocks_per_second", stage.blocks_per_s, stage.role.value)

    def _write_processes(self, scrape: Scrape) -> None:
        for worker, vitals in self._engine.vitals().items():
            scrape.put("longtake_state_copies_memory_bytes", vitals.host_bytes, worker)
            scrape.put("longtake_state_copied_bytes_total", vitals.copied_out_bytes, worker, "out")
            scrape.put("longtake_state_copied_bytes_total", vitals.copied_in_bytes, worker, "in")
            if vitals.resident_bytes:
                scrape.put("longtake_resident_memory_bytes", vitals.resident_bytes, worker)

    def _write_engine(self, scrape: Scrape) -> None:
        engine = self._engine
        scrape.put_histogram("longtake_engine_step_seconds", engine.step_s)
        scrape.put("longtake_engine_inbox_events", engine.inbox_events)
        scrape.put("longtake_watchers", engine.clients.watchers)
        for content, size_bytes in engine.journal.sizes_bytes().items():
            scrape.put("longtake_journal_bytes", size_bytes, content)
        scrape.put("longtake_journal_bytes", engine.segment_bytes, "segments")
        scrape.put("longtake_backlog_bytes", engine.clients.backlog_bytes)
        self._write_disk(scrape)

    def _write_disk(self, scrape: Scrape) -> None:
        keeping = self._engine.keeping
        figures = NO_DISK if keeping.durability is None else keeping.durability.figures
        scrape.put("longtake_disk_journal_bytes", figures.size_bytes)
        scrape.put("longtake_disk_journal_waiting_bytes", figures.waiting_bytes)
        scrape.put("longtake_disk_journal_lag_seconds", figures.lag_s)
        scrape.put("longtake_disk_journal_dropped_latents_total", figures.dropped_latents)
        scrape.put("longtake_disk_journal_trouble", float(bool(figures.trouble)))
        scrape.put("longtake_adopted_sessions_total", keeping.adopted)
        scrape.put("longtake_divergences_total", keeping.divergences)


class CertificateFigures:
    """Writes when certificates end, as they were when somebody looked last."""

    def __init__(self, dates: CertificateDates) -> None:
        self._dates = dates
        self._seen: Mapping[str, Validity] = {}

    async def look(self) -> None:
        """Look at the files, on another thread."""
        self._seen = await asyncio.to_thread(self._dates.look)

    def __call__(self, scrape: Scrape) -> None:
        """See monitoring.exposition.Writer."""
        for name, validity in self._seen.items():
            scrape.put("longtake_certificate_not_before_seconds", validity.not_before_s, name)
            scrape.put("longtake_certificate_not_after_seconds", validity.not_after_s, name)


def _way(session: Session) -> str | None:
    """How a session comes to be whole again; None if nothing is missing, or nobody waits for it."""
    if session.struck_s is None or session.state is State.CLOSING:
        return None
    if session.state not in (State.PARKING, State.PARKED):
        return REBUILT
    return WAITED if session.wants_place else None


def _write_worker(scrape: Scrape, worker: WorkerView) -> None:
    name = worker.worker
    if worker.role is not Role.TEXT:
        memory = "longtake_pages" if worker.role is Role.DENOISE else "longtake_decoder_slots"
        scrape.put(memory, worker.free, name, "free")
        scrape.put(memory, worker.ability.capacity - worker.free, name, "held")
        scrape.put("longtake_reserved_time_ratio", worker.reserved, name)
        scrape.put("longtake_worker_slowness_ratio", worker.slowness, name)
    scrape.put("longtake_ready_ops", worker.ready, name)
    scrape.put("longtake_in_flight_passes", worker.in_flight, name)
    scrape.put("longtake_oldest_dispatch_seconds", worker.oldest_s, name)
    if worker.op_s:
        scrape.put("longtake_op_seconds", worker.op_s, worker.role.value, name)


def longtake_version() -> str:
    """The version of the installed distribution; "unknown" in a bare source tree."""
    try:
        return version("longtake")
    except PackageNotFoundError:
        return "unknown"
