"""Two dashboards about what streams run on: memory and paging, and the workers with their server."""

from __future__ import annotations

from monitoring import names
from monitoring.boards.panels import SEEN, Dashboard, Kind, Line, Panel, Row

# Every other state of pages and slots is one of use.
FREE = {"state": "free"}

MEMORY = Dashboard(
    uid="longtake-memory",
    title="Longtake: memory and paging",
    description="Pages of K/V, decoder slots, images in host memory, the journal, and resident memory.",
    rows=(
        Row(
            "On the devices",
            (
                Panel(
                    title="Pages in use",
                    lines=(
                        Line(
                            (SEEN.sum(names.PAGES, "worker", **FREE) / SEEN.sum(names.PAGES, "worker")).rest(),
                        ),
                    ),
                    bounds=(0.9, 0.98),
                    top=1.0,
                    advice="Near 1 the next Open is refused for pages. Uneven: sessions of a packed class, or lanes "
                    "not yet moved.",
                ),
                Panel(
                    title="Pages by state",
                    lines=(Line(SEEN.sum(names.PAGES, "state")),),
                    stacked=True,
                    advice="The sum is constant while no worker comes or goes. In use with no session open: a leak, "
                    "which is a defect.",
                ),
                Panel(
                    title="Decoder slots by state",
                    lines=(Line(SEEN.sum(names.DECODER_SLOTS, "state")),),
                    stacked=True,
                    advice="None free and pages free: add decode workers.",
                ),
            ),
        ),
        Row(
            "Images: copies of lanes and slots",
            (
                Panel(
                    title="Copies",
                    lines=(Line(SEEN.rate(names.IMAGES, "order")),),
                    stacked=True,
                    advice="failed: a host had no memory left or a peer broke off; the session went on elsewhere or "
                    "was lost. Stowed as often as loaded for ever: sessions are parked too early.",
                ),
                Panel(
                    title="Bytes copied",
                    lines=(Line(SEEN.rate(names.IMAGE_BYTES, "direction")),),
                    advice="Near what the host's bus or network carries: forwards are slowed down by it.",
                ),
                Panel(
                    title="Host memory of images",
                    lines=(Line(SEEN.sum(names.HOST_MEMORY, "worker")),),
                    stacked=True,
                    advice="Bounded by limits.max_parked times a session's state. Growing with no session parked: a "
                    "leak.",
                ),
            ),
        ),
        Row(
            "The processes",
            (
                Panel(
                    title="Journal",
                    lines=(Line(SEEN.sum(names.JOURNAL, "content")),),
                    stacked=True,
                    advice="Grows with sessions, not with time. Growing at a constant number of sessions: latents are "
                    "not dropped, which is a defect.",
                ),
                Panel(
                    title="Resident memory of workers",
                    lines=(Line(SEEN.most(names.RESIDENT_MEMORY, "worker")),),
                    advice="Constant after the first minutes, plus images. A worker that grows for hours: plan its "
                    "replacement before its machine ends it.",
                ),
                Panel(
                    title="Journal for each session",
                    lines=(Line(SEEN.sum(names.JOURNAL) / SEEN.sum(names.SESSIONS)),),
                    advice="A constant of the model and the windows that clients chose.",
                ),
            ),
        ),
    ),
)

WORKERS = Dashboard(
    uid="longtake-workers",
    title="Longtake: workers and server",
    description="Who is there, who is slow, who was lost, and whether the one engine keeps up.",
    rows=(
        Row(
            "Workers",
            (
                Panel(
                    title="Joined",
                    lines=(
                        Line(SEEN.sum(names.WORKERS, "role")),
                        Line(SEEN.sum(names.WORKERS_EXPECTED, "role"), "expected"),
                    ),
                    advice="Fewer than expected for minutes: the launcher cannot start them; see its log, and on "
                    "Kubernetes pods that are pending.",
                ),
                Panel(
                    title="Slowness",
                    lines=(Line(SEEN.most(names.SLOWNESS, "worker")),),
                    bounds=(1.15, 1.3),
                    advice="A worker's time over its fellows'. Above 1.3 for long: look at its device's clock, "
                    "temperature and neighbours (DCGM's dashboards), replace it. Lanes move away meanwhile.",
                ),
                Panel(
                    title="Lost and joined",
                    lines=(
                        Line(SEEN.rate(names.WORKERS_LOST, "role", "cause"), "lost"),
                        Line(SEEN.rate(names.WORKERS_JOINED, "role"), "joined"),
                    ),
                    advice="Each loss ends the sessions that had state there. The same one again and again: take its "
                    "machine out.",
                ),
                Panel(
                    title="Failed dispatches and preparations",
                    lines=(Line(SEEN.rate(names.OPS_FAILED, "worker")),),
                    stacked=True,
                    advice="Should be none. On one worker: its device or its memory. On all: a defect, or an input "
                    "that a model cannot take; the log has the reason.",
                ),
                Panel(
                    title="What is served",
                    lines=(
                        Line(
                            SEEN.latest(names.INFO),
                        ),
                    ),
                    kind=Kind.NAMES,
                    width=16,
                    advice="Two lines of one cell: two servers share its name.",
                ),
            ),
        ),
        Row(
            "The engine",
            (
                Panel(
                    title="Share of time in the engine's steps",
                    lines=(Line(SEEN.spent(names.ENGINE_STEP)),),
                    bounds=(0.5, 0.8),
                    top=1.0,
                    advice="One thread decides for the whole cell. Above 0.8 every stream waits for it: more cells.",
                ),
                Panel(
                    title="Time of a step",
                    lines=(
                        Line(SEEN.quantile(0.5, names.ENGINE_STEP), "median"),
                        Line(SEEN.quantile(0.99, names.ENGINE_STEP), "99 %"),
                    ),
                    bounds=(0.01, 0.05),
                    advice="Well below a millisecond. Growing with time or with sessions is a defect of the scheduler.",
                ),
                Panel(
                    title="Events that wait",
                    lines=(Line(SEEN.sum(names.ENGINE_INBOX)),),
                    bounds=(100.0, 1000.0),
                    advice="Should be a handful. Hundreds for longer than a burst: the engine does not keep up.",
                ),
                Panel(
                    title="Events",
                    lines=(Line(SEEN.rate(names.ENGINE_EVENTS, "event")),),
                    stacked=True,
                    advice="Which kind grew when the engine got busy: OpDone is work, Ack and Cue are clients.",
                ),
                Panel(
                    title="Time for metrics",
                    lines=(Line(SEEN.rate(names.METRICS_SECONDS)),),
                    bounds=(0.01, 0.05),
                    advice="A share of one processor. Above 1 %: scrape less often.",
                ),
                Panel(
                    title="Up for",
                    lines=(Line(SEEN.most(names.UPTIME)),),
                    kind=Kind.NUMBER,
                    width=4,
                    advice="Starts anew with the server; every session ended then.",
                ),
                Panel(
                    title="Draining",
                    lines=(Line(SEEN.most(names.DRAINING)),),
                    kind=Kind.NUMBER,
                    bounds=(1.0,),
                    width=4,
                    advice="1 while it shuts down: it refuses new streams and ends those that run.",
                ),
            ),
        ),
    ),
)
