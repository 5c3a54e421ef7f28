"""The cells of the core's tests, with a tally that takes note of every event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from longtake.core.effects import Dispatch, Effect
from longtake.core.events import Event, OpDone
from longtake.core.work import DecodeWork, DispatchNumber, Work, WorkerId
from monitoring.folding.tally import Tally
from tests.core.support.image_cell import ImageCell
from tests.core.support.world import Cell

ELSEWHERE = frozenset({
    "longtake_sessions", "longtake_sessions_limit", "longtake_stalled_sessions",
    "longtake_playback_pictures_per_second",
    "longtake_op_seconds", "longtake_ready_ops", "longtake_in_flight_passes", "longtake_forwards_per_block",
    "longtake_reserved_time_ratio", "longtake_reservable_time_ratio", "longtake_oldest_dispatch_seconds",
    "longtake_late_sessions",
    "longtake_limit_blocks_per_second", "longtake_pages", "longtake_decoder_slots", "longtake_state_copied_bytes_total",
    "longtake_state_copies_memory_bytes", "longtake_resident_memory_bytes", "longtake_journal_bytes",
    "longtake_workers",
    "longtake_workers_expected", "longtake_prompts_waiting", "longtake_oldest_prompt_seconds",
    "longtake_worker_slowness_ratio", "longtake_numerics_classes", "longtake_calls_total",
    "longtake_watchers", "longtake_engine_step_seconds", "longtake_engine_inbox_events", "longtake_uptime_seconds",
    "longtake_info", "longtake_recovering_sessions", "longtake_detached_sessions", "longtake_backlog_bytes",
    "longtake_disk_journal_bytes", "longtake_disk_journal_waiting_bytes", "longtake_disk_journal_lag_seconds",
    "longtake_disk_journal_dropped_latents_total", "longtake_disk_journal_trouble",
    "longtake_adopted_sessions_total", "longtake_divergences_total", "longtake_lines_dropped_total",
    "longtake_audit_trouble", "longtake_worker_info", "longtake_started", "longtake_certificate_not_before_seconds",
    "longtake_certificate_not_after_seconds",
})  # fmt: skip
"""Those that a server writes, see tests/cluster/http/test_metrics.py."""


def segment_bytes(block: int) -> int:
    """Size of a segment in these cells."""
    return 1000 + block


@dataclass
class Counted(Cell):
    """As in the engine, a report of a decode op bears the size of its segment, and every event is folded."""

    tally: Tally = field(default_factory=Tally)
    works: dict[tuple[WorkerId, DispatchNumber], Work] = field(default_factory=dict)

    def send(self, event: Event) -> list[Effect]:
        if isinstance(event, OpDone):
            work = self.works.pop((event.worker, event.sequence))
            if isinstance(work, DecodeWork):
                event = replace(event, segment_bytes=segment_bytes(work.block))
        effects = super().send(event)
        for effect in effects:
            if isinstance(effect, Dispatch):
                self.works[effect.worker, effect.sequence] = effect.work
        self.tally.fold(event, effects)
        assert self.tally.seconds >= 0  # who reads has everything counted: what a test holds of it is of now
        return effects


@dataclass
class CountedImageCell(Counted, ImageCell):
    """The same with workers that stow and load."""
