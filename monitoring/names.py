"""A name in Python for each declared metric, for queries: so none can ask for what is not exported."""

from __future__ import annotations

from longtake.core.errors import InvalidField
from monitoring.declarations import METRICS, Metric

PREFIX = "longtake_"
_DECLARED = {metric.name: metric for metric in METRICS}


def declared(name: str) -> Metric:
    """The metric with this name, without the prefix; InvalidField if there is none."""
    metric = _DECLARED.get(PREFIX + name)
    if metric is None:
        raise InvalidField("metric", PREFIX + name, "one of monitoring.declarations.METRICS")
    return metric


SESSIONS = declared("sessions")
SESSIONS_LIMIT = declared("sessions_limit")
OPENS = declared("opens_total")
OPENS_REFUSED = declared("opens_refused_total")
SESSIONS_CLOSED = declared("sessions_closed_total")
QUEUE_WAIT = declared("queue_wait_seconds")
PARKED = declared("parked_total")
RESTORED = declared("restored_total")
CUES = declared("cues_total")
BLOCKS = declared("blocks_total")
LATE_BLOCKS = declared("late_blocks_total")
PICTURES = declared("pictures_total")
SEGMENT_BYTES = declared("segment_bytes_total")
BLOCK_SLACK = declared("block_slack_seconds")
FIRST_SEGMENT = declared("first_segment_seconds")
BLOCK_LATENCY = declared("block_latency_seconds")
PROMPT_TO_SCREEN = declared("prompt_to_screen_seconds")
CLIENT_LAG = declared("client_lag_segments")
WINDOW_STALLS = declared("window_stalls_total")
STALLED_SESSIONS = declared("stalled_sessions")
PICTURE_RATE = declared("picture_rate")
OPS = declared("ops_total")
PASSES = declared("passes_total")
PASS_OPS = declared("pass_ops")
OP_SECONDS = declared("op_seconds")
BUSY = declared("busy_seconds_total")
READY_OPS = declared("ready_ops")
IN_FLIGHT = declared("in_flight_passes")
FORWARDS_PER_BLOCK = declared("forwards_per_block")
LIMIT = declared("limit_blocks_per_second")
PAGES = declared("pages")
DECODER_SLOTS = declared("decoder_slots")
IMAGES = declared("images_total")
IMAGE_BYTES = declared("image_bytes_total")
HOST_MEMORY = declared("host_memory_bytes")
RESIDENT_MEMORY = declared("resident_memory_bytes")
JOURNAL = declared("journal_bytes")
WORKERS = declared("workers")
WORKERS_EXPECTED = declared("workers_expected")
WORKERS_JOINED = declared("workers_joined_total")
WORKERS_LOST = declared("workers_lost_total")
SLOWNESS = declared("worker_slowness")
LANE_MOVES = declared("lane_moves_total")
OPS_FAILED = declared("ops_failed_total")
CALLS = declared("calls_total")
CALLS_REFUSED = declared("calls_refused_total")
WATCHERS = declared("watchers")
ENGINE_EVENTS = declared("engine_events_total")
ENGINE_STEP = declared("engine_step_seconds")
ENGINE_INBOX = declared("engine_inbox_events")
METRICS_SECONDS = declared("metrics_seconds_total")
DRAINING = declared("draining")
UPTIME = declared("uptime_seconds")
INFO = declared("info")
