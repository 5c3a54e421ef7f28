"""Every metric that Longtake exports, declared once: the endpoint and the dashboards are made from this.

Names follow Prometheus' conventions: base units, counters end in `_total`. Every metric also bears the label `cell`.
Labels are bounded by the configuration: none ever holds a session, a prompt, a tenant or an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Instrument(Enum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    instrument: Instrument
    labels: tuple[str, ...]
    """The labels that it has beside `cell`."""
    help: str
    buckets: tuple[float, ...] = ()
    """Upper bounds without infinity; histograms only."""


ALLOWED_LATE = 0.001
"""The objective: the share of realtime streams' blocks that may be late over 30 days; 99.9 % shall leave in time."""
ENOUGH_LATE = 15.0
"""So many blocks would be late if a share just reached its bound: of fewer blocks a share says nothing."""

_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_SLACKS = (-10.0, -3.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_COUNTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_STEPS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)

COUNTER, GAUGE, HISTOGRAM = Instrument.COUNTER, Instrument.GAUGE, Instrument.HISTOGRAM

# `pace` is realtime or fast, as everywhere.
# fmt: off

# --- sessions ---
SESSIONS = Metric("longtake_sessions", GAUGE, ("state", "pace"),
    "Sessions, by where they are in their life; those that are queued do not count against the limit.")
SESSIONS_LIMIT = Metric("longtake_sessions_limit", GAUGE, (), "Sessions that may be open at once.")
OPENS = Metric("longtake_opens_granted_total", COUNTER, ("pace",),
    "Opens that were granted, those that waited in the queue included.")
OPENS_REFUSED = Metric("longtake_opens_refused_total", COUNTER, ("pace", "reason"),
    "Opens that started nothing: no pages, slots, time or places (of sessions, of the queue), draining, "
    "unavailable, invalid, or a quota.")
SESSIONS_CLOSED = Metric("longtake_sessions_closed_total", COUNTER, ("pace", "ending"), "Sessions that ended, by why.")
QUEUE_WAIT = Metric("longtake_queue_wait_seconds", HISTOGRAM, (),
    "From Open to a place, of sessions that had to queue.", _WAITS)
PARKED = Metric("longtake_sessions_parked_total", COUNTER, ("pace",),
    "Sessions that gave up their place: they generated nothing, or a part of their state was lost.")
RESTORED = Metric("longtake_sessions_restored_total", COUNTER, ("pace",),
    "Parked sessions that got a place again.")
RECOVERY = Metric("longtake_recovery_seconds", HISTOGRAM, ("continuity", "way"),
    "From the loss of a part of a stream's state, with a worker or by an op that failed, to all of it being there "
    "again: rebuilt at once, or after the stream gave up its place; exact, approximate or restarted.", _WAITS)
RECOVERING = Metric("longtake_recovering_sessions", GAUGE, ("way",),
    "Sessions of whose state a part was lost and is not there again: rebuilt now, or waiting for room, as long as "
    "their clients want them to go on.")
CUES = Metric("longtake_cues_total", COUNTER, ("result",),
    "What became of cues: accepted, then applied or superseded; or refused. A cue counts once for each that it was.")

# --- what clients get ---
BLOCKS = Metric("longtake_blocks_total", COUNTER, ("pace",), "Blocks sent as segments.")
LATE_BLOCKS = Metric("longtake_late_blocks_total", COUNTER, ("pace",),
    "Blocks whose first picture was due before they left: counted as soon as they are overdue, once each.")
SHED_BLOCKS = Metric("longtake_shed_blocks_total", COUNTER, ("pace",),
    "Blocks that took fewer denoising steps than usual, because there was no time for more.")
PICTURES = Metric("longtake_pictures_total", COUNTER, ("pace",), "Pictures sent.")
SEGMENT_BYTES = Metric("longtake_segment_bytes_total", COUNTER, ("pace",), "Bytes of segments sent.")
BLOCK_SLACK = Metric("longtake_block_slack_seconds", HISTOGRAM, ("pace",),
    "How long before it was due a block of a realtime stream left; below 0: late.", _SLACKS)
FIRST_SEGMENT = Metric("longtake_first_segment_seconds", HISTOGRAM, ("pace",),
    "From Open (or, if it queued, its place) to segment 0.", _WAITS)
BLOCK_LATENCY = Metric("longtake_block_latency_seconds", HISTOGRAM, ("pace",),
    "From the first dispatch of a block to its segment.", _WAITS)
TEXT_SECONDS = Metric("longtake_text_seconds", HISTOGRAM, (),
    "From the order to encode to the text, with whatever the worker had to encode before.", _WAITS)
PROMPTS_WAITING = Metric("longtake_prompts_waiting", GAUGE, (),
    "Prompts that text workers have not encoded yet, or that none is there for.")
OLDEST_PROMPT = Metric("longtake_oldest_prompt_seconds", GAUGE, (), "How long the oldest of them has waited.")
PROMPT_TO_SCREEN = Metric("longtake_prompt_to_screen_seconds", HISTOGRAM, ("pace",),
    "From a cue without a place to the client's acknowledgement of the first segment that shows it.", _WAITS)
CLIENT_LAG = Metric("longtake_client_lag_segments", HISTOGRAM, ("pace",),
    "Segments sent and not acknowledged, seen when an acknowledgement comes.", _COUNTS)
WINDOW_STALLS = Metric("longtake_window_stalls_total", COUNTER, ("pace",),
    "Times that a session had to stop because its client gave no credit.")
STALLED_SESSIONS = Metric("longtake_stalled_sessions", GAUGE, ("pace",),
    "Running sessions that wait for their client's credit.")
DETACHED_SESSIONS = Metric("longtake_detached_sessions", GAUGE, (),
    "Sessions whose client's call broke, and that wait for it to come back.")
LATE_SESSIONS = Metric("longtake_late_sessions", GAUGE, (),
    "Realtime sessions that stood still for longer than a hiccup lasts; while there are any, no further one is let in.")
PICTURE_RATE = Metric("longtake_playback_pictures_per_second", GAUGE, (),
    "Pictures that one stream shows a second, at the speed at which it is to be played.")

# --- work ---
OPS = Metric("longtake_ops_total", COUNTER, ("op", "worker"), "Denoise, commit and decode ops done.")
PASSES = Metric("longtake_passes_total", COUNTER, ("worker",), "Dispatches done; each may hold several ops.")
PASS_OPS = Metric("longtake_pass_ops", HISTOGRAM, ("role",), "Ops that shared a dispatch.", _COUNTS)
OP_SECONDS = Metric("longtake_op_seconds", GAUGE, ("role", "worker"),
    "Moving average of what one op costs, by the worker's clock: its share of a forward (denoise or commit), or a "
    "block from latents to segment by the full decoder, encoding included.")
BUSY = Metric("longtake_busy_seconds_total", COUNTER, ("worker",),
    "Time that denoise and decode workers spent on ops, by their clocks, of decode workers with encoding; its rate is "
    "the utilisation.")
READY_OPS = Metric("longtake_ready_ops", GAUGE, ("worker",),
    "Ops that could run now and wait for their turn; of a text worker the prompts that it is to encode, of a decode "
    "worker also the latent frames of what clients gave.")
IN_FLIGHT = Metric("longtake_in_flight_passes", GAUGE, ("worker",), "Dispatches sent and not yet done.")
OLDEST_DISPATCH = Metric("longtake_oldest_dispatch_seconds", GAUGE, ("worker",),
    "How long the worker has been at the oldest order that it has not answered (a dispatch, a prompt, a part of what a "
    "client gave, the preparation of a stream, a copy of state), while the engine was awake; 0 if it has none.")
FORWARDS_PER_BLOCK = Metric("longtake_forwards_per_block", GAUGE, (), "Forwards that one block takes.")
LIMIT = Metric("longtake_limit_blocks_per_second", GAUGE, ("role",),
    "The most that the workers of a role could do at their present times: the sum of 1 / t, over the ops of a block. "
    "The least of the roles is the cell's limit; a role that nobody has measured yet is not here.")
RESERVED = Metric("longtake_reserved_time_ratio", GAUGE, ("worker",),
    "The share of a worker's time that realtime sessions reserve; a further one must fit below what is reservable.")
RESERVABLE = Metric("longtake_reservable_time_ratio", GAUGE, (),
    "The share of every worker's time that realtime sessions may reserve now: 0.95; 0 while some are late, and rising "
    "for a while after that.")

# --- memory ---
PAGES = Metric("longtake_pages", GAUGE, ("worker", "state"), "Pages of K/V: free, or held by lanes.")
DECODER_SLOTS = Metric("longtake_decoder_slots", GAUGE, ("worker", "state"),
    "Decoder slots: free, or held by sessions.")
STATE_COPIES = Metric("longtake_state_copies_total", COUNTER, ("worker", "result"),
    "Copies of what a lane (K/V) or a decoder slot holds, to park or to move it: stowed in host memory, loaded into "
    "pages, given to another worker, or failed.")
STATE_COPIED = Metric("longtake_state_copied_bytes_total", COUNTER, ("worker", "direction"),
    "Bytes of K/V and decoder state copied out of and into a device since its worker attached.")
STATE_COPIES_MEMORY = Metric("longtake_state_copies_memory_bytes", GAUGE, ("worker",),
    "Host memory that copies of K/V and of decoder state take.")
RESIDENT_MEMORY = Metric("longtake_resident_memory_bytes", GAUGE, ("worker",),
    "Resident memory of the worker's process; where simulated workers share one, an equal part.")
JOURNAL = Metric("longtake_journal_bytes", GAUGE, ("content",),
    "Bytes in the journal in the server's memory: latents, conditioning, segments.")
BACKLOG = Metric("longtake_backlog_bytes", GAUGE, (),
    "Bytes of segments that were sent and are kept until they are acknowledged, for clients whose calls break.")

# --- the journal on disk; all 0 where there is none ---
DISK_BYTES = Metric("longtake_disk_journal_bytes", GAUGE, (), "What all sessions take in the journal on disk.")
DISK_WAITING = Metric("longtake_disk_journal_waiting_bytes", GAUGE, (), "Bytes that wait to be written there.")
DISK_LAG = Metric("longtake_disk_journal_lag_seconds", GAUGE, (),
    "How long the oldest write that is not done has waited; what clients are told waits with it.")
DISK_DROPPED = Metric("longtake_disk_journal_dropped_latents_total", COUNTER, (),
    "Latents that are not on disk although they were wanted there: a restart computes them again.")
DISK_TROUBLE = Metric("longtake_disk_journal_trouble", GAUGE, (),
    "1 while the disk cannot be written and new streams and cues are refused, else 0.")
ADOPTED = Metric("longtake_adopted_sessions_total", COUNTER, (), 
    "Sessions taken over from the server before, or imported.")
DIVERGENCES = Metric("longtake_divergences_total", COUNTER, (),
    "Times that what was computed again was not what the server before had made of the same.")

# --- workers ---
WORKERS = Metric("longtake_workers", GAUGE, ("role",), "Workers that are joined.")
WORKERS_EXPECTED = Metric("longtake_workers_expected", GAUGE, ("role",),
    "Workers that the configuration asks for; not told before all were there for the first time.")
WORKERS_JOINED = Metric("longtake_workers_joined_total", COUNTER, ("role",), "Times that a worker joined.")
WORKERS_LOST = Metric("longtake_workers_lost_total", COUNTER, ("role", "cause"),
    "Times that a worker was lost: its link broke, it was silent, it hung, it broke the protocol, it was replaced.")
WORKER_INFO = Metric("longtake_worker_info", GAUGE, ("worker", "role", "node", "pod", "device"),
    "1; says where a joined worker runs: its machine, its pod on Kubernetes, and its device: cpu, simulated, or the "
    "UUID of a GPU, as in the label UUID of NVIDIA's DCGM exporter. A chain has one for each place of its members.")
SLOWNESS = Metric("longtake_worker_slowness_ratio", GAUGE, ("worker",),
    "Its time for a dispatch over what its fellows take for as many ops; 1 is usual.")
NUMERICS_CLASSES = Metric("longtake_numerics_classes", GAUGE, ("role",),
    "Classes of joined workers that give the same bits; more than 1: a stream cannot go to every worker.")
LANE_MOVES = Metric("longtake_lane_moves_total", COUNTER, (), "Lanes that went to another worker.")
RENEWALS = Metric("longtake_renewals_total", COUNTER, ("kind",),
    "Lanes that have committed blocks anew for a cue, by how the recipe does it.")
WORKER_FAILURES = Metric("longtake_worker_failures_total", COUNTER, ("worker",),
    "Dispatches and preparations of streams that a worker could not do.")

# --- the server itself ---
CALLS = Metric("longtake_calls_total", COUNTER, ("method", "code"), "gRPC calls that ended, by status.")
CALLS_REFUSED = Metric("longtake_calls_refused_total", COUNTER, ("reason",),
    "Calls that were not let in: no credentials, wrong ones, not allowed, a token that resumes nothing, a quota.")
WATCHERS = Metric("longtake_watchers", GAUGE, (), "Observers of sessions.")
ENGINE_EVENTS = Metric("longtake_engine_events_total", COUNTER, ("event",), "Events the engine handled.")
ENGINE_STEP = Metric("longtake_engine_step_seconds", HISTOGRAM, (),
    "Time the engine took for an event, its effects included.", _STEPS)
ENGINE_INBOX = Metric("longtake_engine_inbox_events", GAUGE, (), "Events that wait for the engine.")
METRICS_SECONDS = Metric("longtake_metrics_seconds_total", COUNTER, (),
    "CPU time spent on counting events and on writing the counts out.")
STARTED = Metric("longtake_started", GAUGE, (),
    "1 since all workers were first there, 0 while the server starts; until then it expects none.")
LINES_DROPPED = Metric("longtake_lines_dropped_total", COUNTER, ("log",),
    "Lines of the server's log, or of the audit log, that are missing because the output took none.")
AUDIT_TROUBLE = Metric("longtake_audit_trouble", GAUGE, (),
    "1 while the audit log cannot be written, else 0; with auth.audit_required streams are refused meanwhile.")
DRAINING = Metric("longtake_draining", GAUGE, (), "1 while the server shuts down, else 0.")
UPTIME = Metric("longtake_uptime_seconds", GAUGE, (), "Since the server started.")
CERTIFICATE_NOT_BEFORE = Metric("longtake_certificate_not_before_seconds", GAUGE, ("certificate",),
    "Unix time from which the certificate is valid that ends first of those in a file in use.")
CERTIFICATE_NOT_AFTER = Metric("longtake_certificate_not_after_seconds", GAUGE, ("certificate",),
    "Unix time at which the first certificate of a file in use ends; `certificate` is the configuration's key.")
INFO = Metric("longtake_info", GAUGE, ("version", "model", "recipe", "device"), "1; says what is served.")

# fmt: on

METRICS: tuple[Metric, ...] = tuple(each for each in tuple(globals().values()) if isinstance(each, Metric))
"""All metrics above, in their order."""
BY_NAME = {metric.name: metric for metric in METRICS}
