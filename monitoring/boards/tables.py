"""The dashboards as a table: of each panel its title, its look, its queries, and what to do when it looks bad."""

from __future__ import annotations

from monitoring import declarations as metrics
from monitoring.boards.panels import PLAIN, SEEN, STACKED, Chart, Dashboard, Line, Row, Style, panel
from monitoring.boards.promql import Scope
from monitoring.declarations import ALLOWED_LATE, ENOUGH_LATE

REALTIME = {"pace": "realtime"}
# Pages and slots are in use in every state but this.
FREE = {"state": "free"}

_RATE = SEEN.rate(metrics.BLOCKS)
_LIMITS = SEEN.sum(metrics.LIMIT, "role")
_RUNNING = SEEN.sum(metrics.SESSIONS, pace="realtime", state="running") - SEEN.sum(metrics.STALLED_SESSIONS, **REALTIME)
# Those that count against the limit: all but the queued ones.
_OPEN = SEEN.sum(metrics.SESSIONS, state="opening|running|paused|parking|parked|restoring|finishing|closing")

_OPEN_REALTIME = SEEN.sum(
    metrics.SESSIONS, pace="realtime", state="opening|running|paused|parking|parked|restoring|finishing|closing"
)
_MONTH = Scope("30d", SEEN.cells)
_BLOCKS_OF_MONTH = _MONTH.increase(metrics.BLOCKS, **REALTIME)
_LATE_OF_MONTH = _MONTH.increase(metrics.LATE_BLOCKS, **REALTIME) / _BLOCKS_OF_MONTH

# fmt: off
OVERVIEW = Dashboard(
    uid="longtake-overview", title="Longtake: overview",
    description="Whether somebody should act, on one screen. Red: yes. A cell that is full and healthy is not red.",
    rows=(
        Row("", (
            panel("Cells that answer", Style(chart=Chart.NOW, bounds=(1.0, 0.5), width=4, height=4), SEEN.answering(),
                  advice="1 for a cell that answers Prometheus. 0: see LongtakeDown in the runbook."),
            panel("Pages that fire", Style(chart=Chart.NAMES, bounds=(0.5, 1.0), width=5, height=4, none="none"),
                  SEEN.firing("page"),
                  advice="Clients are failed now: docs/runbook.md has a section under each name."),
            panel("Tickets that fire", Style(chart=Chart.NAMES, bounds=(0.5,), width=5, height=4, none="none"),
                  SEEN.firing("ticket"),
                  advice="These wait for the morning: docs/runbook.md has a section under each name."),
            panel("Left of 30 days' allowance", Style(chart=Chart.NOW, bounds=(0.25, 0.0), width=5, height=4,
                                                      none="too few blocks yet"),
                  _LATE_OF_MONTH.times(1 / ALLOWED_LATE).rest()
                  & _BLOCKS_OF_MONTH.at_least(ENOUGH_LATE / ALLOWED_LATE),
                  advice="Of the 0.1 % of realtime blocks that may be late. Below 0 the objective is missed: change "
                         "nothing risky until it has recovered. Prometheus must keep its data for 30 days; if it keeps "
                         "less, this is what is left for as long as it does."),
            panel("Workers, of those expected", Style(chart=Chart.NOW, bounds=(1.0, 0.001), width=5, height=4),
                  SEEN.sum(metrics.WORKERS, "role") / SEEN.sum(metrics.WORKERS_EXPECTED, "role"),
                  advice="None of a role: no stream goes on (LongtakeNoWorkers). Some missing: the launcher brings "
                         "them back, or see LongtakeWorkersMissing."),
            panel("Share of late blocks", Style(bounds=(0.001, 0.0144)),
                  SEEN.rate(metrics.LATE_BLOCKS, **REALTIME) / SEEN.rate(metrics.BLOCKS, **REALTIME),
                  advice="Of realtime streams. Above the red line a month's allowance is gone in two days: see the "
                         "board 'sessions and SLO'."),
            panel("Realtime sessions", PLAIN, Line(_OPEN_REALTIME, "open"),
                  Line(SEEN.most(metrics.SESSIONS_LIMIT), "limit of all sessions"),
                  advice="At the limit, or long below it where devices are full, the next one is refused, as it should "
                         "be: no fault, until it lasts."),
            panel("Refusals", STACKED, SEEN.rate(metrics.OPENS_REFUSED, "reason"),
                  advice="pages, slots, time, sessions: the cell is full. Lasting: add workers or a cell "
                         "(LongtakeRefusingRealtime). unavailable: something is broken."),
            panel("Devices", Style(chart=Chart.BARS, width=16, top=1.0),
                  SEEN.rate(metrics.BUSY, "worker").of_each(SEEN.most(metrics.WORKER_INFO, "worker", "node", "device")),
                  advice="The share of time that each computes. All full is what they are for; one that is idle "
                         "among busy ones: see the board 'workers and server', and DCGM's of that device."),
            panel("Until the first segment", Style(bounds=(5.0, 10.0)),
                  Line(SEEN.quantile(0.95, metrics.FIRST_SEGMENT, **REALTIME), "95 %"),
                  advice="Of realtime streams, from Open. Above 10 s people leave before they see anything: see "
                         "LongtakeFirstSegmentSlow."),
        )),
    ),
)

THROUGHPUT = Dashboard(
    uid="longtake-throughput", title="Longtake: throughput",
    description="How much comes out, how near that is to what the devices can do, and where time is lost.",
    rows=(
        Row("What comes out", (
            panel("Blocks a second", PLAIN, SEEN.rate(metrics.BLOCKS, "pace"), Line(_LIMITS, "limit"),
                  advice="Each role's limit is the sum of 1/t over its workers, over its ops of a block; decoding "
                         "counts encoding. Far below the least with sessions waiting: see 'Work that waits' and the "
                         "workers' utilisation."),
            panel("Share of the limit", Style(chart=Chart.BARS, bounds=(0.95,), width=4, top=1.0),
                  _RATE.over_each(_LIMITS),
                  advice="The greatest is the bottleneck: add workers of that role, or another cell. Low is no fault "
                         "unless streams wait. See 'Time that is reserved' for room for one more."),
            panel("Real-time factor of realtime streams", Style(chart=Chart.NUMBER, bounds=(0.99, 0.95), width=4),
                  SEEN.rate(metrics.PICTURES, **REALTIME) / _RUNNING.above(0) / SEEN.most(metrics.PICTURE_RATE),
                  advice="Pictures sent a second and running realtime stream, over the rate at which they play: 1 "
                         "keeps up. Below 0.99 for minutes, screens run dry: see late blocks."),
            panel("Pictures sent", STACKED, SEEN.rate(metrics.PICTURES, "pace"),
                  advice="A fall while sessions run means that something holds up every stream: see the server's row "
                         "on the workers' page."),
        )),
        Row("Where the work is", (
            panel("Utilisation of workers", Style(bounds=(0.98,), top=1.0), SEEN.rate(metrics.BUSY, "worker"),
                  advice="All near 1: the cell is full. One near 1 and the others idle: a straggler or bad placement "
                         "(see slowness and lane moves). All low while ops wait: the engine or the link is the "
                         "bottleneck."),
            panel("Time that is reserved", Style(bounds=(0.95,), top=1.0), SEEN.most(metrics.RESERVED, "worker"),
                  Line(SEEN.least(metrics.RESERVABLE), "limit"),
                  advice="By realtime streams. Where one more would bring a worker above the limit it is refused for "
                         "time; the refusal names the worker with the most time left. The limit is 0.95, and 0 while "
                         "realtime streams are late: see 'Realtime streams that are late'."),
            panel("Ops done", STACKED, SEEN.rate(metrics.OPS, "op"),
                  advice="Denoise and commit ops go together, about as many forwards for each block as 'Forwards of "
                         "a block' says; a decode op for each block. A gap means that ops fail or sessions end "
                         "early."),
            panel("Work that waits", PLAIN, SEEN.sum(metrics.READY_OPS, "worker"),
                  advice="Ops that could run now. Steadily growing: more is asked than the worker can do; fast "
                         "streams wait first. Zero with low utilisation: clients give no credit, or few streams run."),
            panel("Ops in a dispatch", PLAIN, SEEN.average(metrics.PASS_OPS, "role"),
                  advice="1 where batching does not pay. Falling under load where it did: sessions no longer share "
                         "shapes, or workers of a smaller batch limit joined."),
            panel("Time of an op", PLAIN, SEEN.most(metrics.OP_SECONDS, "role", "worker"),
                  advice="Moving averages by the workers' clocks. One worker above its fellows: a straggler. All "
                         "rising together: another user of the devices, heat, or a change of model."),
            panel("Dispatches", PLAIN, Line(SEEN.rate(metrics.PASSES), "done a second"),
                  Line(SEEN.seen(metrics.PASS_OPS), "of known size a second"),
                  advice="What the engine and the link carry. Some 1000 a second are one engine's limit: then more "
                         "cells, not more workers."),
            panel("Dispatches in flight", PLAIN, SEEN.sum(metrics.IN_FLIGHT, "worker"),
                  advice="One runs and one waits. Steadily 2 with few ops done: see the age of the oldest."),
            panel("Age of the oldest dispatch", Style(bounds=(5.0, 60.0)), SEEN.most(metrics.OLDEST_DISPATCH, "worker"),
                  advice="Or of whatever else it was ordered. About the time of an op. Seconds: the worker hangs, or "
                         "shares its device; at twenty times its usual time (five seconds at least) it is given up, "
                         "ended and started anew."),
            panel("Forwards of a block", Style(chart=Chart.NUMBER, width=4), SEEN.most(metrics.FORWARDS_PER_BLOCK),
                  advice="By the recipe; it changes only with the model that is served."),
            panel("Lanes moved", Style(width=4), SEEN.rate(metrics.LANE_MOVES),
                  advice="Some after a worker came or slowed down. For ever: two workers take turns at being slow; "
                         "see slowness."),
            panel("Lanes renewed", Style(width=4), SEEN.rate(metrics.RENEWALS, "kind"),
                  advice="Cues that recache: each costs the forwards of a window in every lane, at once."),
        ), collapsed=True),
    ),
)

SESSIONS = Dashboard(
    uid="longtake-sessions", title="Longtake: sessions and SLO",
    description="What clients get: blocks in time, first pictures, prompts on the screen, refusals and endings.",
    rows=(
        Row("In time", (
            panel("Late blocks of realtime streams", Style(bounds=(0.001, 0.0144)),
                  SEEN.rate(metrics.LATE_BLOCKS, **REALTIME) / SEEN.rate(metrics.BLOCKS, **REALTIME),
                  advice="The objective is 0.1 % over 30 days. Above 1.44 % a month's allowance is gone in two days: "
                         "see utilisation, slowness and the engine."),
            panel("Slack of realtime blocks", Style(bounds=(0.1, 0.0)),
                  Line(SEEN.quantile(0.01, metrics.BLOCK_SLACK, **REALTIME), "worst 1 %"),
                  Line(SEEN.quantile(0.5, metrics.BLOCK_SLACK, **REALTIME), "median"),
                  advice="How long before it was due a block left; below 0 it was late. A worst percentile that "
                         "sinks to 0 announces late blocks: stop fast streams or add workers before they come."),
            panel("Realtime streams that are late", PLAIN, SEEN.sum(metrics.LATE_SESSIONS),
                  advice="They stood still for more than two seconds within about a minute, by our fault. While there "
                         "is one, no further realtime stream is let in: see slowness, utilisation and the engine."),
            panel("Slack, all of it", Style(chart=Chart.HEAT), SEEN.buckets(metrics.BLOCK_SLACK, **REALTIME),
                  advice="A second band below the first: some streams are worse off than the rest, by their worker."),
            panel("First segment, 95th percentile", Style(bounds=(5.0, 10.0)),
                  SEEN.quantile(0.95, metrics.FIRST_SEGMENT, "pace"),
                  advice="From Open, or its place if it queued. Slow for realtime streams: prompt encoding or the "
                         "decode workers are busy; see utilisation."),
            panel("A block, from its first dispatch to its segment", PLAIN,
                  Line(SEEN.quantile(0.5, metrics.BLOCK_LATENCY, "pace"), "median"),
                  Line(SEEN.quantile(0.95, metrics.BLOCK_LATENCY, "pace"), "95 %"),
                  advice="Grows with the load of each worker. Realtime and fast growing alike: fast streams take "
                         "time that realtime ones reserved, which is a defect."),
            panel("From a prompt to the screen", PLAIN,
                  Line(SEEN.quantile(0.5, metrics.PROMPT_TO_SCREEN, "pace"), "median"),
                  Line(SEEN.quantile(0.95, metrics.PROMPT_TO_SCREEN, "pace"), "95 %"),
                  advice="Mostly the window that clients chose: a smaller window steers faster and stalls sooner."),
            panel("Encoding a prompt", PLAIN, Line(SEEN.quantile(0.5, metrics.TEXT_SECONDS), "median"),
                  Line(SEEN.quantile(0.95, metrics.TEXT_SECONDS), "95 %"),
                  Line(SEEN.most(metrics.OLDEST_PROMPT), "oldest that waits"),
                  advice="A cue takes hold after it, and a stream begins after it; no stream waits. Seconds are usual "
                         "on a core. Growing: more text workers, or a GPU for them."),
            panel("Prompts that wait for text workers", Style(width=4), SEEN.sum(metrics.PROMPTS_WAITING),
                  advice="Steadily more than there are text workers: they do not keep up. Above zero with none joined: "
                         "see 'Joined' on the workers' page."),
        )),
        Row("Sessions", (
            panel("Sessions by state", STACKED, SEEN.sum(metrics.SESSIONS, "state"),
                  advice="Many opening: decode workers do not keep up. Many parked: clients went away without "
                         "closing. Many queued: fast streams wait for places."),
            panel("Places in use", Style(chart=Chart.BARS, bounds=(0.95,), width=4, top=1.0),
                  _OPEN / SEEN.most(metrics.SESSIONS_LIMIT),
                  advice="Near 1 Opens are refused whatever room the devices have: raise limits.max_sessions if "
                         "pages are free."),
            panel("Observers", Style(chart=Chart.NUMBER, width=4), SEEN.sum(metrics.WATCHERS),
                  advice="Each costs a copy of a stream on the network, nothing on devices."),
            panel("Opens granted", STACKED, SEEN.rate(metrics.OPENS, "pace"),
                  advice="A sudden rise: a client reconnects in a loop; see endings."),
            panel("Opens refused", STACKED, SEEN.rate(metrics.OPENS_REFUSED, "pace", "reason"),
                  advice="pages, slots, time, sessions: the cell is full, add workers or a cell. quota: a tenant "
                         "wants more than it may. invalid: a client has a defect."),
            panel("Endings", STACKED, SEEN.rate(metrics.SESSIONS_CLOSED, "ending"),
                  advice="lost and failed are ours: see failed ops and drains. The others are wished for."),
            panel("Realtime blocks with fewer steps", PLAIN,
                  SEEN.rate(metrics.SHED_BLOCKS, **REALTIME) / SEEN.rate(metrics.BLOCKS, **REALTIME),
                  advice="Of recipes that shed steps under load: such blocks are in time and look worse. Steadily "
                         "above 0 with limits.admit_at = usual: a worker has become slower."),
            panel("Wait in the queue, 95th percentile", PLAIN,
                  SEEN.quantile(0.95, metrics.QUEUE_WAIT),
                  advice="Of fast streams that had to queue. Long is no fault; the queue's end is a refusal."),
            panel("Parked and restored", PLAIN, Line(SEEN.rate(metrics.PARKED, "pace"), "parked"),
                  Line(SEEN.rate(metrics.RESTORED, "pace"), "restored"),
                  advice="Both high: sessions come and go all the time, each costs copies of its state; raise "
                         "limits.park_after_s. After lost workers too: see 'Whole again after a loss'."),
            panel("Cues", STACKED, SEEN.rate(metrics.CUES, "result"),
                  advice="Many refused: clients name blocks that have begun; they should leave the block out. "
                         "Accepted and never applied: the streams stand still."),
        ), collapsed=True),
        Row("Lost workers", (
            panel("Sessions that lack a part of their state", STACKED, SEEN.sum(metrics.RECOVERING, "way"),
                  advice="rebuilt: soon whole, from the journal. waited: there is no room for what was lost, and their "
                         "screens run dry until a worker is back or others end."),
            panel("Whole again after a loss", STACKED, SEEN.seen(metrics.RECOVERY, "continuity", "way"),
                  advice="approximate: no worker of the same class was left for limits.exact_wait_s, so pictures are "
                         "alike, not the same; see the classes on the workers' page."),
            panel("Time until whole again", Style(bounds=(5.0, 30.0)),
                  Line(SEEN.quantile(0.5, metrics.RECOVERY), "median"),
                  Line(SEEN.quantile(0.95, metrics.RECOVERY), "95 %"),
                  advice="A lane takes as many forwards as its pages remember blocks, a decoder slot some decodes. "
                         "Longer: they wait for room or behind realtime streams: add a worker of each role to spare."),
        ), collapsed=True),
        Row("Clients", (
            panel("Sessions that wait for credit", STACKED, SEEN.sum(metrics.STALLED_SESSIONS, "pace"),
                  advice="Clients that do not acknowledge: slow networks or screens that were left. They cost their "
                         "reservation until they are parked."),
            panel("Sessions whose clients are away", PLAIN, SEEN.sum(metrics.DETACHED_SESSIONS),
                  advice="Calls that broke: they count against limits.max_sessions until their clients come back, or "
                         "limits.detached_s is over. Many at once: look at the network, or at a proxy."),
            panel("Stalls", STACKED, SEEN.rate(metrics.WINDOW_STALLS, "pace"),
                  advice="Usual for pace fast, which is meant to run into its window. For realtime streams: the "
                         "client's window is too small for its network's delay."),
            panel("Segments under way, 95th percentile", PLAIN, SEEN.quantile(0.95, metrics.CLIENT_LAG, "pace"),
                  advice="Near the window: clients keep up just so."),
            panel("Bytes to clients", STACKED, SEEN.rate(metrics.SEGMENT_BYTES, "pace"),
                  advice="Near the network card's rate: blocks leave in time and arrive late, which shows only in "
                         "stalls."),
            panel("Calls by status", STACKED, SEEN.rate(metrics.CALLS, "method", "code"),
                  advice="INTERNAL and UNKNOWN are defects: look for the call in the log."),
            panel("Calls not let in", STACKED, SEEN.rate(metrics.CALLS_REFUSED, "reason"),
                  advice="Wrong credentials in number: an expired token, or somebody who guesses. The audit log says "
                         "from where."),
            panel("Lines that are missing", STACKED, SEEN.rate(metrics.LINES_DROPPED, "log"),
                  advice="log: standard error takes none, because nobody reads it or a disk hangs. audit: its disk is "
                         "full or slow; see LongtakeAuditInTrouble."),
            panel("Audit log in trouble", Style(chart=Chart.NUMBER, bounds=(0.5, 1.0), width=6),
                  SEEN.most(metrics.AUDIT_TROUBLE),
                  advice="1: its disk is full, read-only or broken. Make room; it heals by itself."),
        ), collapsed=True),
    ),
)

MEMORY = Dashboard(
    uid="longtake-memory", title="Longtake: memory and paging",
    description="Pages of K/V, decoder slots, copies of both in host memory, the journal, and resident memory.",
    rows=(
        Row("On the devices", (
            panel("Pages in use", Style(bounds=(0.98,), top=1.0),
                  (SEEN.sum(metrics.PAGES, "worker", **FREE) / SEEN.sum(metrics.PAGES, "worker")).rest(),
                  advice="Near 1 the next Open is refused for pages. Uneven: sessions of a packed pace, or lanes "
                         "not yet moved."),
            panel("Pages by state", STACKED, SEEN.sum(metrics.PAGES, "state"),
                  advice="The sum is constant while no worker comes or goes. In use with no session open: a leak, "
                         "which is a defect."),
            panel("Decoder slots by state", STACKED, SEEN.sum(metrics.DECODER_SLOTS, "state"),
                  advice="None free and pages free: add decode workers."),
        )),
        Row("Copies of K/V and of decoder state", (
            panel("Copies", STACKED, SEEN.rate(metrics.STATE_COPIES, "result"),
                  advice="failed: a host had no memory left or a peer broke off; what it held is rebuilt from the "
                         "journal. Stowed as often as loaded for ever: sessions are parked too early."),
            panel("Bytes copied", PLAIN, SEEN.rate(metrics.STATE_COPIED, "direction"),
                  advice="Near what the host's bus or network carries: forwards are slowed down by it."),
            panel("Host memory of copies", STACKED, SEEN.sum(metrics.STATE_COPIES_MEMORY, "worker"),
                  advice="Bounded by limits.max_parked times a session's state. Growing with no session parked: a "
                         "leak."),
        ), collapsed=True),
        Row("The processes", (
            panel("Journal", STACKED, SEEN.sum(metrics.JOURNAL, "content"),
                  advice="What streams are rebuilt from. Grows with sessions, and with each only until it holds what "
                         "that needs (`longtake plan` says how much). Growing after that: latents are not dropped, "
                         "which is a defect."),
            panel("Kept for broken calls", PLAIN, SEEN.sum(metrics.BACKLOG),
                  advice="Segments that clients have not acknowledged: a window of each session, and those of sessions "
                         "that ended in the last minutes."),
            panel("Resident memory of workers", PLAIN, SEEN.most(metrics.RESIDENT_MEMORY, "worker"),
                  advice="Constant after the first minutes, plus copies. A worker that grows for hours: plan its "
                         "replacement before its machine ends it."),
            panel("Journal for each session", PLAIN, SEEN.sum(metrics.JOURNAL) / SEEN.sum(metrics.SESSIONS),
                  advice="At most a constant of the recipe, the model's depth and the windows that clients chose; less "
                         "while streams are young."),
        ), collapsed=True),
        Row("The journal on disk", (
            panel("On disk", PLAIN, Line(SEEN.sum(metrics.DISK_BYTES), "kept"),
                  Line(SEEN.sum(metrics.DISK_WAITING), "waiting to be written"),
                  advice="Kept is a constant for each session. Waiting up to 256 MiB: the disk is slower than the "
                         "streams; beyond it latents are left out, and a restart computes more again."),
            panel("Oldest write that waits", Style(bounds=(1.0, 10.0)), SEEN.most(metrics.DISK_LAG),
                  advice="What clients are told of new streams and cues waits as long. Seconds: the disk hesitates or "
                         "is shared; give the journal one of its own."),
            panel("Latents left out", PLAIN, SEEN.rate(metrics.DISK_DROPPED),
                  advice="Nothing is lost while the server runs. See 'In trouble' and the log for what the disk says."),
            panel("In trouble", Style(chart=Chart.NUMBER, bounds=(0.5, 1.0), width=6), SEEN.most(metrics.DISK_TROUBLE),
                  advice="1: the disk is full, read-only or broken; new streams and cues are refused until it works. "
                         "Make room; it heals by itself."),
            panel("Taken over, and made otherwise", PLAIN, Line(SEEN.increase(metrics.ADOPTED), "taken over"),
                  Line(SEEN.increase(metrics.DIVERGENCES), "made otherwise"),
                  advice="Made otherwise than by the server before is never right: see LongtakeStreamsDiverge."),
        ), collapsed=True),
    ),
)

WORKERS = Dashboard(
    uid="longtake-workers", title="Longtake: workers and server",
    description="Who is there, who is slow, who was lost, and whether the one engine keeps up.",
    rows=(
        Row("Workers", (
            panel("Joined", PLAIN, SEEN.sum(metrics.WORKERS, "role"),
                  Line(SEEN.sum(metrics.WORKERS_EXPECTED, "role"), "expected"),
                  advice="Fewer than expected for minutes: the launcher cannot start them; see its log, and on "
                         "Kubernetes pods that are pending."),
            panel("Slowness", Style(bounds=(1.15, 1.3)), SEEN.most(metrics.SLOWNESS, "worker"),
                  advice="A worker's time over its fellows'. Above 130 % for long: look at its device's clock, "
                         "temperature and neighbours (DCGM's dashboards), replace it. Lanes move away meanwhile."),
            panel("Classes of numerics", Style(bounds=(1.5, 2.5)), SEEN.most(metrics.NUMERICS_CLASSES, "role"),
                  advice="Workers of one class give the same bits, and a stream stays with one. 2: half an update, or "
                         "unequal devices; room and balance are those of each class alone. `longtake status` says who "
                         "is of which."),
            panel("Lost and joined", PLAIN, Line(SEEN.rate(metrics.WORKERS_LOST, "role", "cause"), "lost"),
                  Line(SEEN.rate(metrics.WORKERS_JOINED, "role"), "joined"),
                  advice="What was there is rebuilt elsewhere, which takes time from other streams. The same one again "
                         "and again: take its machine out."),
            panel("Failed dispatches and preparations", STACKED, SEEN.rate(metrics.WORKER_FAILURES, "worker"),
                  advice="Should be none. On one worker: its device or its memory. On all: a defect, or an input "
                         "that a model cannot take; the log has the reason."),
            panel("What is served", Style(chart=Chart.NAMES, width=16), SEEN.latest(metrics.INFO),
                  advice="Two lines of one cell: two servers share its name."),
            panel("Where workers run", Style(chart=Chart.NAMES), SEEN.latest(metrics.WORKER_INFO),
                  advice="Each with its role, node, pod and device. A GPU has the name that DCGM's dashboards have for "
                         "it: look there when a worker is slow or fails."),
        )),
        Row("The engine", (
            panel("Share of time in the engine's steps", Style(bounds=(0.5, 0.8), top=1.0),
                  SEEN.spent(metrics.ENGINE_STEP),
                  advice="One thread decides for the whole cell. Above 0.8 every stream waits for it: more cells."),
            panel("Time of a step", Style(bounds=(0.01, 0.05)), Line(SEEN.quantile(0.5, metrics.ENGINE_STEP), "median"),
                  Line(SEEN.quantile(0.99, metrics.ENGINE_STEP), "99 %"),
                  advice="Well below a millisecond. Growing with time or with sessions is a defect of the scheduler."),
            panel("Events that wait", Style(bounds=(100.0, 1000.0)), SEEN.sum(metrics.ENGINE_INBOX),
                  advice="Should be a handful. Hundreds for longer than a burst: the engine does not keep up."),
            panel("Events", STACKED, SEEN.rate(metrics.ENGINE_EVENTS, "event"),
                  advice="Which kind grew when the engine got busy: OpDone is work, Ack and Cue are clients."),
            panel("Time for metrics", Style(bounds=(0.01, 0.05)), SEEN.rate(metrics.METRICS_SECONDS),
                  advice="A share of one processor. Above 1 %: scrape less often."),
            panel("Up for", Style(chart=Chart.NUMBER, width=4), SEEN.most(metrics.UPTIME),
                  advice="Starts anew with the server; every session ended then."),
            panel("Draining", Style(chart=Chart.NUMBER, bounds=(1.0,), width=4), SEEN.most(metrics.DRAINING),
                  advice="1 while it shuts down: it refuses new streams and ends those that run."),
            panel("Started", Style(chart=Chart.NUMBER, width=4), SEEN.least(metrics.STARTED),
                  advice="0 until all workers were there for the first time. For half an hour: see the log, and on "
                         "Kubernetes pods that are pending."),
            panel("Certificates end in", Style(chart=Chart.NUMBER, bounds=(1209600.0, 86400.0), width=8,
                                               none="no certificates"),
                  SEEN.least(metrics.CERTIFICATE_NOT_AFTER, "certificate").ahead(),
                  advice="Those for clients are read again when their files change, the link's at a start. Ones that "
                         "live for days only are renewed later: see LongtakeCertificateEndsSoon."),
            panel("Certificates are valid since", Style(chart=Chart.NUMBER, width=8, none="no certificates"),
                  SEEN.least(metrics.CERTIFICATE_NOT_BEFORE, "certificate").ahead().times(-1),
                  advice="Falls when one is renewed. That it did not: who renews it does not write this file."),
        ), collapsed=True),
    ),
)
