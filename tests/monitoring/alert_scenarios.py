"""For each alert, what makes it fire and what nearly does; A+BxN is how promtool writes A, A+B, … A+N*B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEALTHY: Mapping[str, str] = {
    'up{job="longtake",instance="a:9464",cell="a"}': "1x60",
    'longtake_uptime_seconds{cell="a"}': "30000+60x60",
    'longtake_started{cell="a"}': "1x60",
    'longtake_certificate_not_before_seconds{cell="a",certificate="tls.certificate"}': "-2592000x60",
    'longtake_certificate_not_after_seconds{cell="a",certificate="tls.certificate"}': "5184000x60",
    'longtake_draining{cell="a"}': "0x60",
    'longtake_sessions{cell="a",pace="realtime",state="running"}': "10x60",
    'longtake_sessions{cell="a",pace="realtime",state="parked"}': "0x60",
    'longtake_stalled_sessions{cell="a",pace="realtime"}': "1x60",
    'longtake_blocks_total{cell="a",pace="realtime"}': "0+800x60",
    'longtake_late_blocks_total{cell="a",pace="realtime"}': "0+0x60",
    'longtake_opens_granted_total{cell="a",pace="realtime"}': "0+20x60",
    'longtake_opens_refused_total{cell="a",pace="realtime",reason="pages"}': "0+0x60",
    'longtake_sessions_closed_total{cell="a",pace="realtime",ending="client"}': "0+20x60",
    'longtake_sessions_closed_total{cell="a",pace="realtime",ending="lost"}': "0+0x60",
    'longtake_oldest_prompt_seconds{cell="a"}': "2x60",
    'longtake_first_segment_seconds_bucket{cell="a",pace="realtime",le="2"}': "0+20x60",
    'longtake_first_segment_seconds_bucket{cell="a",pace="realtime",le="+Inf"}': "0+20x60",
    'longtake_engine_step_seconds_sum{cell="a"}': "0+6x60",
    'longtake_engine_inbox_events{cell="a"}': "3x60",
    'longtake_workers{cell="a",role="denoise"}': "4x60",
    'longtake_workers_expected{cell="a",role="denoise"}': "4x60",
    'longtake_workers_lost_total{cell="a",role="denoise",cause="silence"}': "0x60",
    'longtake_oldest_dispatch_seconds{cell="a",worker="d0"}': "0.1x60",
    'longtake_recovering_sessions{cell="a",way="rebuilt"}': "0x60",
    'longtake_recovering_sessions{cell="a",way="waited"}': "0x60",
    'longtake_worker_slowness_ratio{cell="a",worker="d0"}': "1.02x60",
    'longtake_numerics_classes{cell="a",role="denoise"}': "1x60",
    'longtake_worker_failures_total{cell="a",worker="d0"}': "0x60",
    'longtake_journal_bytes{cell="a",content="latents"}': "1000000x60",
    'longtake_calls_refused_total{cell="a",reason="no_credentials"}': "0+1x60",
}
"""An hour of a cell with nothing to complain about, a value a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What an alert must make of an input."""

    alert: str
    says: str
    fires: bool
    series: Mapping[str, str]
    """By name with labels; they replace those of HEALTHY where the names are the same."""
    at: str
    step: str = "1m"
    """Between the values; other than a minute, HEALTHY is left out."""
    labels: Mapping[str, str] = field(default_factory=lambda: {"cell": "a"})
    """What the alert says of whose it is."""


def blocks(total: str, late: str) -> dict[str, str]:
    return {
        'longtake_blocks_total{cell="a",pace="realtime"}': total,
        'longtake_late_blocks_total{cell="a",pace="realtime"}': late,
    }


def store(uptime: str, journal: str, sessions: str) -> dict[str, str]:
    return {
        'longtake_uptime_seconds{cell="a"}': uptime,
        'longtake_journal_bytes{cell="a",content="latents"}': journal,
        'longtake_sessions{cell="a",pace="realtime",state="running"}': sessions,
    }


def told_by(jobs: Sequence[str], series: Mapping[str, str], cell: str = 'cell="a"') -> dict[str, str]:
    """The series as several scrape jobs tell them, in place of those that one tells."""
    told = {name.replace(cell, f'{cell},job="{job}"'): values for name, values in series.items() for job in jobs}
    return dict.fromkeys(series, "_x60") | told


def in_namespace(name: str, series: Mapping[str, str]) -> dict[str, str]:
    """The series with the label that Prometheus gives to what it finds in a namespace of Kubernetes."""
    return {f'{key.removesuffix("}")},namespace="{name}"}}': values for key, values in series.items()}


def fires(
    alert: str,
    says: str,
    at: str,
    series: Mapping[str, str],
    step: str = "1m",
    labels: Mapping[str, str] | None = None,
) -> Scenario:
    whose = {"cell": "a"} if labels is None else labels
    return Scenario(alert=alert, says=says, fires=True, series=series, at=at, step=step, labels=whose)


def silent(alert: str, says: str, at: str, series: Mapping[str, str], step: str = "1m") -> Scenario:
    return Scenario(alert=alert, says=says, fires=False, series=series, at=at, step=step)


_FAST, _SLOW, _LASTING = "LongtakeLateBlocksFast", "LongtakeLateBlocksSlow", "LongtakeLateBlocksLasting"
_UP, _STARTED = 'up{job="longtake",instance="a:9464",cell="a"}', 'longtake_started{cell="a"}'
_BEGAN = 'longtake_certificate_not_before_seconds{cell="a",certificate="tls.certificate"}'
_ENDS = 'longtake_certificate_not_after_seconds{cell="a",certificate="tls.certificate"}'
_UPTIME, _DRAINING = 'longtake_uptime_seconds{cell="a"}', 'longtake_draining{cell="a"}'
_LOST = 'longtake_sessions_closed_total{cell="a",pace="realtime",ending="lost"}'
_FAILED = 'longtake_sessions_closed_total{cell="a",pace="fast",ending="failed"}'
_CLOSED = 'longtake_sessions_closed_total{cell="a",pace="realtime",ending="client"}'
_RUNNING = 'longtake_sessions{cell="a",pace="realtime",state="running"}'
_STALLED = 'longtake_stalled_sessions{cell="a",pace="realtime"}'
_BLOCKS = 'longtake_blocks_total{cell="a",pace="realtime"}'
_STEP, _INBOX = 'longtake_engine_step_seconds_sum{cell="a"}', 'longtake_engine_inbox_events{cell="a"}'
_FIRST = 'longtake_first_segment_seconds_bucket{{cell="a",pace="{0}",le="{1}"}}'
_OLDEST = 'longtake_oldest_prompt_seconds{cell="a"}'
_HERE, _EXPECTED = 'longtake_workers{cell="a",role="denoise"}', 'longtake_workers_expected{cell="a",role="denoise"}'
_DECODE = 'longtake_workers_expected{cell="a",role="decode"}'
_SILENT = 'longtake_workers_lost_total{cell="a",role="denoise",cause="silence"}'
_BROKE = 'longtake_workers_lost_total{cell="a",role="denoise",cause="link"}'
_HUNG = 'longtake_workers_lost_total{cell="a",role="decode",cause="hang"}'
_DISPATCH = 'longtake_oldest_dispatch_seconds{cell="a",worker="d0"}'
_WAITED = 'longtake_recovering_sessions{cell="a",way="waited"}'
_REBUILT = 'longtake_recovering_sessions{cell="a",way="rebuilt"}'
_SLOWNESS, _FAILURES = (
    'longtake_worker_slowness_ratio{cell="a",worker="d0"}',
    'longtake_worker_failures_total{cell="a",worker="d0"}',
)
_TROUBLE = 'longtake_disk_journal_trouble{cell="a"}'
_AUDIT, _UNWRITTEN = 'longtake_audit_trouble{cell="a"}', 'longtake_lines_dropped_total{{cell="a",log="{0}"}}'
_DIVERGENCES = 'longtake_divergences_total{cell="a"}'
_CLASSES = 'longtake_numerics_classes{cell="a",role="denoise"}'
_REFUSED = 'longtake_opens_refused_total{{cell="a",pace="{0}",reason="{1}"}}'
_GRANTED = 'longtake_opens_granted_total{cell="a",pace="realtime"}'
_CALLS = 'longtake_calls_refused_total{{cell="a",reason="{0}"}}'

SCENARIOS: tuple[Scenario, ...] = (
    # --- late blocks ---
    fires(_FAST, "2 % late for an hour", "65m", blocks("0+1000x70", "0+20x70")),
    silent(_FAST, "1 % late for an hour", "65m", blocks("0+1000x70", "0+10x70")),
    silent(_FAST, "5 % late until ten minutes ago", "65m", blocks("0+1000x70", "0+50x55 2750x15")),
    silent(_FAST, "5 % late for the last fifteen minutes", "65m", blocks("0+1000x70", "0x50 0+50x20")),
    silent(_FAST, "5 % late, over the hour's bound for a minute", "68m", blocks("0+1000x70", "0x49 0+50x20")),
    silent(_FAST, "one short stream with nine late blocks", "28m", blocks("0x20 0+20x9 180x9", "0x20 0+1x9 9x9")),
    silent(_FAST, "twelve late ones in a cell's first minute", "4m", blocks("_ 0+80x60", "_ 0 12x60")),
    silent(_FAST, "twelve late ones in its first minute, and nobody any more", "6m", blocks("_ 0 80x60", "_ 0 12x60")),
    silent(_FAST, "twelve late ones in a busy cell's first minute", "4m", blocks("_ 0+800x60", "_ 0 12x60")),
    fires(_FAST, "half of a new cell's, for ten minutes", "12m", blocks("_ 0+300x60", "_ 0+150x60")),
    fires(_FAST, "one stream, 3 % late for half an hour", "31m", blocks("0+80x60", "0+2.4x60")),
    silent(_SLOW, "twelve late ones in a cell's first minute", "40m", blocks("_ 0+400x60", "_ 0 12x60"), "5m"),
    silent(_LASTING, "twelve late ones in a cell's first minute", "5h", blocks("_ 0+2400x60", "_ 0 12x60"), "30m"),
    fires(_SLOW, "0.8 % late for six hours", "395m", blocks("0+1000x80", "0+8x80"), "5m"),
    silent(_SLOW, "0.5 % late for six hours", "395m", blocks("0+1000x80", "0+5x80"), "5m"),
    silent(_SLOW, "2 % late for the last forty minutes", "390m", blocks("0+1000x80", "0x69 0+20x10"), "5m"),
    silent(_SLOW, "1 % late until an hour ago", "390m", blocks("0+1000x80", "0+10x66 660x14"), "5m"),
    silent(_SLOW, "2 % late, over the long bound for ten minutes", "390m", blocks("0+1000x80", "0x54 0+20x25"), "5m"),
    silent(_SLOW, "one short stream with nine late blocks", "325m", blocks("0x60 0+160x5", "0x60 0+2x4 9x1"), "5m"),
    fires(_LASTING, "0.2 % late for three days", "75h", blocks("0+9000x160", "0+18x160"), "30m"),
    silent(_LASTING, "0.08 % late for three days", "75h", blocks("0+10000x160", "0+8x160"), "30m"),
    silent(_LASTING, "0.3 % late until a day ago", "75h", blocks("0+9000x160", "0+27x100 2700x60"), "30m"),
    silent(_LASTING, "0.3 % late for the last eight hours", "75h", blocks("0+9000x160", "0x134 0+27x20"), "30m"),
    silent(_LASTING, "0.3 % late, over the long bound just now", "75h", blocks("0+9000x160", "0x100 0+27x50"), "30m"),
    silent(_LASTING, "one short stream with nine late blocks", "75h", blocks("0x143 0+160x9", "0x143 0+1x9"), "30m"),
    # --- the service ---
    fires("LongtakeDown", "it ends", "25m", {_UP: "1x20 0x40", _UPTIME: "60+60x20 stale"}),
    fires("LongtakeDown", "it is still down after a day", "25h", {_UP: "1x20 0x400", _UPTIME: "60+300x20 stale"}, "5m"),
    fires("LongtakeDown", "a pod that drained is replaced by one that dies", "25m",
          {_UP: "1x20 stale", _UP.replace("a:9464", "c:9464"): "_x20 0x40",
           _UPTIME: "60+60x20 stale", _DRAINING: "0x15 1x4 stale"}),
    fires("LongtakeDown", "it drained, and comes back as one that dies at once", "25m",
          {_UP: "1x20 0x40", _UPTIME: "60+60x20 stale", _DRAINING: "0x18 1 1 stale"}),
    fires("LongtakeDown", "one of the same name in another namespace answers", "25m",
          {_UP: "_x60", _UP.replace("}", ',namespace="x"}'): "1x20 0x40", _UP.replace("}", ',namespace="y"}'): "1x60"}),
    fires("LongtakeDown", "a job whose targets do not name their cells", "25m",
          {_UP: "_x60", 'up{job="prod/longtake-metrics",instance="c:9464"}': "1x20 0x40",
           'up{job="prod/longtake-metrics",instance="d:9464"}': "1x60"}, labels={}),
    silent("LongtakeDown", "an idle cell ends as planned, whose drain no scrape saw", "25m",
           {_UP: "1x20 stale", _UPTIME: "60+60x20 stale", _DRAINING: "0x20 stale", _RUNNING: "0x20 stale"}),
    silent("LongtakeDown", "it does not answer for two minutes", "22m", {_UP: "1x20 0x40"}),
    silent("LongtakeDown", "one scrape is missing", "25m", {_UP: "1x19 _ 1x40"}),
    silent("LongtakeDown", "80 s without an answer", "170s",
           {_UP: "1x10 0x7 1x20", _UPTIME: "60+10x10 stale _x6 240+10x20"}, "10s"),
    silent("LongtakeDown", "80 s in which Prometheus itself asked nothing", "170s",
           {_UP: "1x10 _x8 1x20", _UPTIME: "60+10x10 _x8 240+10x20"}, "10s"),
    silent("LongtakeDown", "two jobs, of which one asks at a wrong port", "25m",
           {_UP: "1x60", _UP.replace("longtake", "longtake-again").replace("a:9464", "a:1"): "0x60"}),
    silent("LongtakeDown", "a job of others", "25m", {'up{job="node",instance="a:9100"}': "0x60"}),
    fires("LongtakeCrashed", "back within a minute", "22m", {_UPTIME: "6000+60x20 30+60x40"}),
    fires("LongtakeCrashed", "back after three minutes", "26m", {_UPTIME: "6000+60x20 stale _x2 30+60x40"}),
    fires("LongtakeCrashed", "back as a pod of another address", "23m",
          {_UPTIME: "6000+60x20 stale", _UPTIME.replace("}", ',instance="c"}'): "_x21 30+60x40"}),
    fires("LongtakeCrashed", "five minutes after a planned restart", "27m",
          {_UPTIME: "6000+60x20 30+60x4 30+60x40", _DRAINING: "0x18 1 1 0x40"}),
    fires("LongtakeCrashed", "one of the same name in another namespace goes on", "22m",
          {_UPTIME: "_x60", _DRAINING: "_x60", _RUNNING: "_x60",
           **in_namespace("x", {_UPTIME: "6000+60x20 30+60x40", _DRAINING: "0x60", _RUNNING: "10x60"}),
           **in_namespace("y", {_UPTIME: "6000+60x60", _DRAINING: "0x60", _RUNNING: "10x60"})}),
    fires("LongtakeCrashed", "two jobs saw it", "23m",
          told_by(("one", "two"), {_UPTIME: "6000+60x20 30+60x40", _DRAINING: "0x60"})),
    silent("LongtakeCrashed", "a planned restart", "22m",
           {_UPTIME: "6000+60x20 30+60x40", _DRAINING: "0x18 1 1 0x40"}),
    silent("LongtakeCrashed", "a planned restart, and a minute in between", "23m",
           {_UPTIME: "6000+60x20 stale 30+60x40", _DRAINING: "0x18 1 1 stale 0x40"}),
    silent("LongtakeCrashed", "a planned restart as a pod of another address", "23m",
           {_UPTIME: "6000+60x20 stale", _UPTIME.replace("}", ',instance="c"}'): "_x21 30+60x40",
            _DRAINING: "0x18 1 1 stale", _DRAINING.replace("}", ',instance="c"}'): "_x21 0x40"}),
    silent("LongtakeCrashed", "a planned restart, of which one of two jobs saw the drain", "22m",
           {**told_by(("one", "two"), {_UPTIME: "6000+60x20 30+60x40", _DRAINING: "0x60"}),
            _DRAINING.replace("}", ',job="two"}'): "0x19 1 0x40"}),
    silent("LongtakeCrashed", "nobody was there", "22m", {_UPTIME: "6000+60x20 30+60x40", _RUNNING: "0x60"}),
    silent("LongtakeCrashed", "half an hour ago", "55m", {_UPTIME: "6000+60x20 30+60x40"}),
    silent("LongtakeCrashed", "scrapes are missing", "25m", {_UPTIME: "6000+60x19 _x3 7380+60x40"}),
    fires("LongtakeNotStarted", "35 minutes after the start", "35m", {_STARTED: "0x60", _UPTIME: "0+60x60"}),
    fires("LongtakeNotStarted", "it is ended and tried again every quarter of an hour", "55m",
          {_STARTED: "0x14 stale _ 0x14 stale _ 0x14 stale _ 0x14", _UPTIME: "0+60x60"}),
    silent("LongtakeNotStarted", "a start of 25 minutes", "29m", {_STARTED: "0x25 1x60", _UPTIME: "0+60x60"}),
    fires("LongtakeCertificateEndsSoon", "in ten days", "40m", {_ENDS: "864000x60"}),
    fires("LongtakeCertificateEndsSoon", "a link's, in ten days", "40m", {_ENDS.replace("tls", "link"): "864000x60"}),
    silent("LongtakeCertificateEndsSoon", "in sixty days", "40m", {}),
    silent("LongtakeCertificateEndsSoon", "one made for a day, of which half is left", "40m",
           {_BEGAN: "-43200x60", _ENDS: "43200x60"}),
    fires("LongtakeCertificateEndsNow", "in ten hours", "40m", {_ENDS: "36000x60"}),
    fires("LongtakeCertificateEndsNow", "an hour ago", "100m", {_ENDS: "3600x200"}),
    fires("LongtakeCertificateEndsNow", "one made for a day that is not renewed", "40m",
          {_BEGAN: "-79200x60", _ENDS: "7200x60"}),
    silent("LongtakeCertificateEndsNow", "in ten days", "40m", {_ENDS: "864000x60"}),
    silent("LongtakeCertificateEndsNow", "renewed ten minutes after", "40m", {_ENDS: "36000x10 7776000x60"}),
    fires("LongtakeSessionsLost", "five lost at once", "22m", {_LOST: "0x20 5x20"}),
    fires("LongtakeSessionsLost", "lost and failed ones together", "22m", {_LOST: "0x20 2x20", _FAILED: "0x20 2x20"}),
    silent("LongtakeSessionsLost", "two, seen by two jobs", "22m", told_by(("one", "two"), {_LOST: "0x20 2x20"})),
    fires("LongtakeSessionsLost", "three, seen by two jobs", "22m", told_by(("one", "two"), {_LOST: "0x20 4x20"})),
    silent("LongtakeSessionsLost", "two lost of twelve", "22m", {_LOST: "0x20 2x20", _CLOSED: "0+1x60"}),
    silent("LongtakeSessionsLost", "four lost of a thousand", "22m", {_LOST: "0x20 4x20", _CLOSED: "0+100x60"}),
    silent("LongtakeSessionsLost", "five lost half an hour ago", "55m", {_LOST: "0x20 5x40"}),
    fires("LongtakeNothingComesOut", "running, and no block", "20m", {_BLOCKS: "0+800x10 8000x40"}),
    silent("LongtakeNothingComesOut", "all wait for credit", "20m", {_BLOCKS: "0+800x10 8000x40", _STALLED: "10x60"}),
    silent("LongtakeNothingComesOut", "nobody is there", "20m",
           {_BLOCKS: "8000x40", _RUNNING: "0x60", _STALLED: "0x60"}),
    silent("LongtakeNothingComesOut", "no block for four minutes", "20m", {_BLOCKS: "0+800x16 12800x40"}),
    fires("LongtakeEngineOverloaded", "90 % of the time busy", "30m", {_STEP: "0+54x60"}),
    fires("LongtakeEngineOverloaded", "2000 events wait", "30m", {_INBOX: "2000x60"}),
    silent("LongtakeEngineOverloaded", "70 % of the time busy", "30m", {_STEP: "0+42x60"}),
    silent("LongtakeEngineOverloaded", "5000 events for four minutes", "28m", {_INBOX: "5x23 5000x4 5x30"}),
    silent("LongtakeEngineOverloaded", "bursts of 5000 events", "30m", {_INBOX: "5x20 5000 5 5000 5 5000 5 5000 5x30"}),
    fires("LongtakeFirstSegmentSlow", "one in five takes 10 to 30 s", "40m",
          {_FIRST.format("realtime", "10"): "0+8x60", _FIRST.format("realtime", "30"): "0+10x60",
           _FIRST.format("realtime", "2"): "0+6x60", _FIRST.format("realtime", "+Inf"): "0+10x60"}),
    silent("LongtakeFirstSegmentSlow", "bulk streams take long", "40m",
           {_FIRST.format("fast", "10"): "0+1x60", _FIRST.format("fast", "30"): "0+10x60",
            _FIRST.format("fast", "+Inf"): "0+10x60"}),
    silent("LongtakeFirstSegmentSlow", "slow for ten minutes", "40m",
           {_FIRST.format("realtime", "2"): "0+10x30 300+5x30", _FIRST.format("realtime", "30"): "0+10x60",
            _FIRST.format("realtime", "+Inf"): "0+10x60"}),
    fires("LongtakePromptsWait", "one that is never encoded", "40m", {_OLDEST: "0x20 0+60x20"}),
    fires("LongtakePromptsWait", "each waits over a minute", "40m", {_OLDEST: "2x20 70x20"}),
    silent("LongtakePromptsWait", "half a minute on a busy core", "40m", {_OLDEST: "35x60"}),
    silent("LongtakePromptsWait", "two minutes, once", "40m", {_OLDEST: "2x33 60 120 2x25"}),
    # --- workers ---
    fires("LongtakeNoWorkers", "none of four", "30m", {_HERE: "4x20 0x20"}),
    fires("LongtakeNoWorkers", "a role that was never there", "30m", {_DECODE: "1x60"}),
    silent("LongtakeNoWorkers", "one of four is left", "30m", {_HERE: "4x20 1x20"}),
    silent("LongtakeNoWorkers", "none for a minute", "30m", {_HERE: "4x28 0x1 4x20"}),
    silent("LongtakeNoWorkers", "a start of ten minutes, which expects none yet", "9m",
           {_HERE: "0x10 4x60", _EXPECTED: "_x10 4x60", _STARTED: "0x10 1x60"}),
    fires("LongtakeNoWorkers", "one of the same name in another namespace has all", "30m",
          {_HERE: "_x60", _EXPECTED: "_x60", **in_namespace("x", {_HERE: "4x20 0x20", _EXPECTED: "4x60"}),
           **in_namespace("y", {_HERE: "4x60", _EXPECTED: "4x60"})}),
    silent("LongtakeNoWorkers", "a role that nobody asks for", "30m", {_DECODE: "0x60"}),
    fires("LongtakeWorkersMissing", "three of four for 15 minutes", "36m", {_HERE: "4x20 3x20"}),
    silent("LongtakeWorkersMissing", "three of four for five minutes", "30m", {_HERE: "4x24 3x20"}),
    silent("LongtakeWorkersMissing", "more than are expected", "36m", {_HERE: "5x60"}),
    fires("LongtakeWorkersLostAgain", "three losses in ten minutes", "45m", {_SILENT: "0x30 1x4 2x4 3x30"}),
    fires("LongtakeWorkersLostAgain", "losses of several causes", "45m",
          {_SILENT: "0x30 1x4 2x30", _BROKE: "0x32 1x30"}),
    silent("LongtakeWorkersLostAgain", "a server started anew twice, and one loss", "45m",
           {_SILENT: "2x20 0x4 1x4 0x30"}),
    silent("LongtakeWorkersLostAgain", "two losses, seen by two jobs", "45m",
           told_by(("one", "two"), {_SILENT: "0x30 1x4 2x30"})),
    fires("LongtakeWorkersLostAgain", "three losses, seen by two jobs", "45m",
          told_by(("one", "two"), {_SILENT: "0x30 1x4 2x4 3x30"})),
    silent("LongtakeWorkersLostAgain", "two losses", "45m", {_SILENT: "0x30 1x4 2x30"}),
    silent("LongtakeWorkersLostAgain", "a machine with eight workers", "45m", {_BROKE: "0x30 8x30"}),
    silent("LongtakeWorkersLostAgain", "three losses, an hour apart", "59m", {_SILENT: "1x5 2x45 3x30"}),
    fires("LongtakeWorkersHung", "one of several, replaced since", "45m", {_HUNG: "0x30 1x30"}),
    fires("LongtakeWorkersHung", "one that stood still", "45m", {_SILENT: "0x30 1x30"}),
    silent("LongtakeWorkersHung", "one that died", "45m", {_BROKE: "0x30 1x30"}),
    silent("LongtakeWorkersHung", "one that hung an hour ago", "50m", {_HUNG: "0x2 1x60"}),
    fires("LongtakeWorkerHangs", "at one dispatch for minutes", "40m", {_DISPATCH: "0.1x34 30+60x10"}),
    silent("LongtakeWorkerHangs", "slow dispatches", "40m", {_DISPATCH: "40x60"}),
    silent("LongtakeWorkerHangs", "a hang of a minute, which was ended", "40m", {_DISPATCH: "0.1x37 62 0.1x20"}),
    fires("LongtakeStreamsWaitForRoom", "one for three minutes", "33m", {_WAITED: "0x30 1x10"}),
    silent("LongtakeStreamsWaitForRoom", "twenty until a worker is back after a minute", "33m",
           {_WAITED: "0x30 20 20 0x10"}),
    silent("LongtakeStreamsWaitForRoom", "twenty that are rebuilt", "45m", {_REBUILT: "0x30 20x20"}),
    fires("LongtakeJournalInTrouble", "a disk that was full for five minutes", "40m", {_TROUBLE: "0x34 1x30"}),
    silent("LongtakeJournalInTrouble", "a disk that was full for a moment", "40m", {_TROUBLE: "0x34 1 0x30"}),
    silent("LongtakeJournalInTrouble", "a disk that works", "40m", {_TROUBLE: "0x60"}),
    fires("LongtakeAuditInTrouble", "a disk that was full for five minutes", "40m", {_AUDIT: "0x34 1x30"}),
    fires("LongtakeAuditInTrouble", "a disk that takes less than is written", "40m",
          {_AUDIT: "0x60", _UNWRITTEN.format("audit"): "0x30 0+50x30"}),
    silent("LongtakeAuditInTrouble", "a disk that was full for a moment", "40m", {_AUDIT: "0x34 1 0x30"}),
    silent("LongtakeAuditInTrouble", "a log that nobody reads", "40m",
           {_AUDIT: "0x60", _UNWRITTEN.format("log"): "0+50x60"}),
    fires("LongtakeStreamsDiverge", "one block made otherwise", "40m", {_DIVERGENCES: "0x30 1x30"}),
    silent("LongtakeStreamsDiverge", "one, two hours ago", "180m", {_DIVERGENCES: "0x30 1x200"}),
    fires("LongtakeStraggler", "1.5 times the time for 15 minutes", "35m", {_SLOWNESS: "1x20 1.5x30"}),
    silent("LongtakeStraggler", "1.2 times the time", "35m", {_SLOWNESS: "1.2x60"}),
    silent("LongtakeStraggler", "1.5 times the time for five minutes", "35m", {_SLOWNESS: "1x29 1.5x5 1x30"}),
    fires("LongtakeNumericsMixed", "two classes for 35 minutes", "50m", {_CLASSES: "1x14 2x40"}),
    silent("LongtakeNumericsMixed", "an update of 20 minutes", "55m", {_CLASSES: "1x30 2x20 1x10"}),
    silent("LongtakeNumericsMixed", "a role without a worker", "50m", {_CLASSES: "0x60"}),
    fires("LongtakeOpsFail", "six at once", "30m", {_FAILURES: "0x20 6x30"}),
    silent("LongtakeOpsFail", "three, seen by two jobs", "30m", told_by(("one", "two"), {_FAILURES: "0x20 3x30"})),
    silent("LongtakeOpsFail", "three at once", "30m", {_FAILURES: "0x20 3x30"}),
    # --- room ---
    fires("LongtakeRefusingRealtime", "one in ten for lack of pages", "45m",
          {_REFUSED.format("realtime", "pages"): "0+1x60", _GRANTED: "0+9x60"}),
    fires("LongtakeRefusingRealtime", "one in ten for lack of time", "45m",
          {_REFUSED.format("realtime", "time"): "0+1x60", _GRANTED: "0+9x60"}),
    silent("LongtakeRefusingRealtime", "one in ten by a quota", "45m",
           {_REFUSED.format("realtime", "quota"): "0+1x60", _GRANTED: "0+9x60"}),
    silent("LongtakeRefusingRealtime", "bulk only", "45m",
           {_REFUSED.format("fast", "pages"): "0+5x60", _GRANTED: "0+9x60"}),
    silent("LongtakeRefusingRealtime", "one in ten for five minutes", "45m",
           {_REFUSED.format("realtime", "pages"): "0x40 0+5x20", _GRANTED: "0+9x60"}),
    silent("LongtakeRefusingRealtime", "now and then the only one who asks", "45m",
           {_REFUSED.format("realtime", "pages"): "0x20 1x9 2x9 3x9 4x20", _GRANTED: "0x60"}),
    silent("LongtakeRefusingRealtime", "one in fifty", "45m",
           {_REFUSED.format("realtime", "pages"): "0+1x60", _GRANTED: "0+49x60"}),
    fires("LongtakeMemoryGrows", "720 MiB in six hours", "14h", store("0+300x200", "0+10485760x200", "5x200"), "5m"),
    silent("LongtakeMemoryGrows", "200 MiB in six hours", "14h", store("0+300x200", "0+2900000x200", "5x200"), "5m"),
    silent("LongtakeMemoryGrows", "300 MiB, since half an hour", "655m",
           store("0+300x200", "0x100 0+10485760x99", "5x200"), "5m"),
    silent("LongtakeMemoryGrows", "sessions came too", "14h", store("0+300x200", "0+10485760x200", "5+1x200"), "5m"),
    silent("LongtakeMemoryGrows", "within hours of the start", "6h", store("0+300x90", "0+10485760x90", "5x90"), "5m"),
    # --- clients ---
    fires("LongtakeClientsStall", "half of the live streams", "40m", {_STALLED: "5x60"}),
    silent("LongtakeClientsStall", "five of thirty", "40m", {_STALLED: "5x60", _RUNNING: "30x60"}),
    silent("LongtakeClientsStall", "two of four, seen by two jobs", "40m",
           told_by(("one", "two"), {_STALLED: "2x60", _RUNNING: "4x60"})),
    silent("LongtakeClientsStall", "two of four", "40m", {_STALLED: "2x60", _RUNNING: "4x60"}),
    silent("LongtakeClientsStall", "half, for ten minutes", "40m", {_STALLED: "1x29 5x10 1x30"}),
    fires("LongtakeCredentialsRefused", "two a second", "30m", {_CALLS.format("wrong_credentials"): "0+120x60"}),
    silent("LongtakeCredentialsRefused", "one in two seconds, seen by three jobs", "30m",
           told_by(("one", "two", "three"), {_CALLS.format("wrong_credentials"): "0+28x60"})),
    silent("LongtakeCredentialsRefused", "one in two seconds", "30m", {_CALLS.format("wrong_credentials"): "0+28x60"}),
    silent("LongtakeCredentialsRefused", "twenty a second for two minutes", "28m",
           {_CALLS.format("wrong_credentials"): "0x25 1200 2400 2400x30"}),
    silent("LongtakeCredentialsRefused", "a tenant over its quota", "30m", {_CALLS.format("quota"): "0+600x60"}),
)  # fmt: skip
