"""Two dashboards about streams: how much comes out of the cell, and what clients get of it."""

from __future__ import annotations

from monitoring import names
from monitoring.boards.panels import SEEN, Dashboard, Kind, Line, Panel, Row

LIVE = {"pace": "live"}

_RATE = SEEN.rate(names.BLOCKS)
_LIMIT = SEEN.sum(names.LIMIT)
_RUNNING = SEEN.sum(names.SESSIONS, pace="live", state="running") - SEEN.sum(names.STALLED_SESSIONS, **LIVE)

THROUGHPUT = Dashboard(
    uid="longtake-throughput",
    title="Longtake: throughput",
    description="How much comes out, how near that is to what the devices can do, and where time is lost.",
    rows=(
        Row(
            "What comes out",
            (
                Panel(
                    title="Blocks a second",
                    lines=(Line(SEEN.rate(names.BLOCKS, "pace")), Line(_LIMIT, "limit")),
                    advice="The limit is the sum of 1/t over the denoise workers, over the forwards of a block. Far "
                    "below it with sessions waiting: see 'Work that waits' and the workers' utilisation.",
                ),
                Panel(
                    title="Share of the limit",
                    lines=(Line(_RATE / _LIMIT),),
                    kind=Kind.BARS,
                    bounds=(0.85, 0.95),
                    top=1.0,
                    width=4,
                    advice="Above 95 % no further live stream is let in: add denoise workers or another cell. "
                    "Low is no fault unless streams wait.",
                ),
                Panel(
                    title="Real-time factor of live streams",
                    lines=(Line((SEEN.rate(names.PICTURES, **LIVE) / _RUNNING) / SEEN.most(names.PICTURE_RATE)),),
                    kind=Kind.NUMBER,
                    bounds=(0.99, 0.95),
                    width=4,
                    advice="Pictures sent a second and running live stream, over the rate at which they play: 1 keeps "
                    "up. Below 0.99 for minutes, screens run dry: see late blocks.",
                ),
                Panel(
                    title="Pictures sent",
                    lines=(Line(SEEN.rate(names.PICTURES, "pace")),),
                    advice="A fall while sessions run means that something holds up every stream: "
                    "see the server's row on the workers' page.",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Where the work is",
            (
                Panel(
                    title="Utilisation of workers",
                    lines=(Line(SEEN.rate(names.BUSY, "worker")),),
                    bounds=(0.9, 0.98),
                    top=1.0,
                    advice="All near 1: the cell is full. One near 1 and the others idle: a straggler or bad placement "
                    "(see slowness and lane moves). All low while ops wait: the engine or the link is the bottleneck.",
                ),
                Panel(
                    title="Ops done",
                    lines=(Line(SEEN.rate(names.OPS, "op")),),
                    stacked=True,
                    advice="Denoise and commit ops go together, about as many forwards for each block as 'Forwards of "
                    "a block' says; a decode op for each block. A gap means that ops fail or sessions end early.",
                ),
                Panel(
                    title="Work that waits",
                    lines=(Line(SEEN.sum(names.READY_OPS, "worker")),),
                    advice="Ops that could run now. Steadily growing: more is asked than the worker can do; bulk "
                    "streams wait first. Zero with low utilisation: clients give no credit, or few streams run.",
                ),
                Panel(
                    title="Ops in a dispatch",
                    lines=(Line(SEEN.average(names.PASS_OPS, "role")),),
                    advice="1 where batching does not pay. Falling under load where it did: sessions no longer share "
                    "shapes, or workers of a smaller batch limit joined.",
                ),
                Panel(
                    title="Time of an op",
                    lines=(Line(SEEN.most(names.OP_SECONDS, "op", "worker")),),
                    advice="Moving averages by the workers' clocks. One worker above its fellows: a straggler. All "
                    "rising together: another user of the devices, heat, or a change of model.",
                ),
                Panel(
                    title="Dispatches",
                    lines=(
                        Line(SEEN.rate(names.PASSES), "done a second"),
                        Line(SEEN.seen(names.PASS_OPS), "of known size a second"),
                    ),
                    advice="What the engine and the link carry. Some 1000 a second are one engine's limit: then more "
                    "cells, not more workers.",
                ),
                Panel(
                    title="Dispatches in flight",
                    lines=(Line(SEEN.sum(names.IN_FLIGHT, "worker")),),
                    advice="One runs and one waits. Steadily 2 with few ops done: the worker hangs; it is given up "
                    "when it falls silent, else end its process.",
                ),
                Panel(
                    title="Forwards of a block",
                    lines=(Line(SEEN.most(names.FORWARDS_PER_BLOCK)),),
                    kind=Kind.NUMBER,
                    width=4,
                    advice="By the recipe; it changes only with the model that is served.",
                ),
                Panel(
                    title="Lanes moved",
                    lines=(Line(SEEN.rate(names.LANE_MOVES)),),
                    width=4,
                    advice="Some after a worker came or slowed down. For ever: two workers take turns at being slow; "
                    "see slowness.",
                ),
            ),
        ),
    ),
)

SESSIONS = Dashboard(
    uid="longtake-sessions",
    title="Longtake: sessions and SLO",
    description="What clients get: blocks in time, first pictures, prompts on the screen, refusals and endings.",
    rows=(
        Row(
            "In time",
            (
                Panel(
                    title="Late blocks of live streams",
                    lines=(Line(SEEN.rate(names.LATE_BLOCKS, **LIVE) / SEEN.rate(names.BLOCKS, **LIVE)),),
                    bounds=(0.001, 0.0144),
                    advice="The objective is 0.1 % over 30 days. Above 1.44 % a month's allowance is gone in two days: "
                    "see utilisation, slowness and the engine.",
                ),
                Panel(
                    title="Slack of live blocks",
                    lines=(
                        Line(SEEN.quantile(0.01, names.BLOCK_SLACK, **LIVE), "worst 1 %"),
                        Line(SEEN.quantile(0.5, names.BLOCK_SLACK, **LIVE), "median"),
                    ),
                    bounds=(0.1, 0.0),
                    advice="How long before it was due a block left; below 0 it was late. A worst percentile that "
                    "sinks to 0 announces late blocks: stop bulk work or add workers before they come.",
                ),
                Panel(
                    title="Slack, all of it",
                    lines=(Line(SEEN.buckets(names.BLOCK_SLACK, **LIVE)),),
                    kind=Kind.HEAT,
                    advice="A second band below the first: some streams are worse off than the rest, by their worker.",
                ),
                Panel(
                    title="First segment, 95th percentile",
                    lines=(Line(SEEN.quantile(0.95, names.FIRST_SEGMENT, "pace")),),
                    bounds=(5.0, 10.0),
                    advice="From Open, or its place if it queued. Slow for live streams: prompt encoding or the decode "
                    "workers are busy; see utilisation.",
                ),
                Panel(
                    title="A block, from its first dispatch to its segment",
                    lines=(
                        Line(SEEN.quantile(0.5, names.BLOCK_LATENCY, "pace"), "median"),
                        Line(SEEN.quantile(0.95, names.BLOCK_LATENCY, "pace"), "95 %"),
                    ),
                    advice="Grows with the load of each worker. Live and bulk growing alike: bulk takes time that live "
                    "streams reserved, which is a defect.",
                ),
                Panel(
                    title="From a prompt to the screen",
                    lines=(
                        Line(SEEN.quantile(0.5, names.PROMPT_TO_SCREEN, "pace"), "median"),
                        Line(SEEN.quantile(0.95, names.PROMPT_TO_SCREEN, "pace"), "95 %"),
                    ),
                    advice="Mostly the window that clients chose: a smaller window steers faster and stalls sooner.",
                ),
            ),
        ),
        Row(
            "Sessions",
            (
                Panel(
                    title="Sessions by state",
                    lines=(Line(SEEN.sum(names.SESSIONS, "state")),),
                    stacked=True,
                    advice="Many opening: decode workers do not keep up. Many parked: clients went away without "
                    "closing. Many queued: bulk work waits for places.",
                ),
                Panel(
                    title="Places in use",
                    lines=(Line(SEEN.sum(names.SESSIONS) / SEEN.most(names.SESSIONS_LIMIT)),),
                    kind=Kind.BARS,
                    bounds=(0.8, 0.95),
                    top=1.0,
                    width=4,
                    advice="Near 1 Opens are refused whatever room the devices have: raise limits.max_sessions if "
                    "pages are free.",
                ),
                Panel(
                    title="Observers",
                    lines=(Line(SEEN.sum(names.WATCHERS)),),
                    kind=Kind.NUMBER,
                    width=4,
                    advice="Each costs a copy of a stream on the network, nothing on devices.",
                ),
                Panel(
                    title="Opens granted",
                    lines=(Line(SEEN.rate(names.OPENS, "pace")),),
                    stacked=True,
                    advice="A sudden rise: a client reconnects in a loop; see endings.",
                ),
                Panel(
                    title="Opens refused",
                    lines=(Line(SEEN.rate(names.OPENS_REFUSED, "pace", "reason")),),
                    stacked=True,
                    advice="pages, slots, time, sessions: the cell is full, add workers or a cell. quota: a tenant "
                    "wants more than it may. invalid: a client has a defect.",
                ),
                Panel(
                    title="Endings",
                    lines=(Line(SEEN.rate(names.SESSIONS_CLOSED, "ending")),),
                    stacked=True,
                    advice="lost and failed are ours: see lost workers and failed ops. The others are wished for.",
                ),
                Panel(
                    title="Wait in the queue, 95th percentile",
                    lines=(Line(SEEN.quantile(0.95, names.QUEUE_WAIT)),),
                    bounds=(60.0, 300.0),
                    advice="Of bulk streams that had to queue. Long is no fault; the queue's end is a refusal.",
                ),
                Panel(
                    title="Parked and restored",
                    lines=(
                        Line(SEEN.rate(names.PARKED, "pace"), "parked"),
                        Line(SEEN.rate(names.RESTORED, "pace"), "restored"),
                    ),
                    advice="Both high: sessions come and go all the time, each costs copies of its state; raise "
                    "limits.park_after_s.",
                ),
                Panel(
                    title="Cues",
                    lines=(Line(SEEN.rate(names.CUES, "result")),),
                    stacked=True,
                    advice="Many refused: clients name blocks that have begun; they should leave the block out. "
                    "Accepted and never applied: the streams stand still.",
                ),
            ),
        ),
        Row(
            "Clients",
            (
                Panel(
                    title="Sessions that wait for credit",
                    lines=(Line(SEEN.sum(names.STALLED_SESSIONS, "pace")),),
                    stacked=True,
                    advice="Clients that do not acknowledge: slow networks or screens that were left. They cost their "
                    "reservation until they are parked.",
                ),
                Panel(
                    title="Stalls",
                    lines=(Line(SEEN.rate(names.WINDOW_STALLS, "pace")),),
                    stacked=True,
                    advice="Usual for pace FAST, which is meant to run into its window. For live streams: the client's "
                    "window is too small for its network's delay.",
                ),
                Panel(
                    title="Segments under way, 95th percentile",
                    lines=(Line(SEEN.quantile(0.95, names.CLIENT_LAG, "pace")),),
                    advice="Near the window: clients keep up just so.",
                ),
                Panel(
                    title="Bytes to clients",
                    lines=(Line(SEEN.rate(names.SEGMENT_BYTES, "pace")),),
                    stacked=True,
                    advice="Near the network card's rate: blocks leave in time and arrive late, which shows only in "
                    "stalls.",
                ),
                Panel(
                    title="Calls by status",
                    lines=(Line(SEEN.rate(names.CALLS, "method", "code")),),
                    stacked=True,
                    advice="INTERNAL and UNKNOWN are defects: look for the call in the log.",
                ),
                Panel(
                    title="Calls not let in",
                    lines=(Line(SEEN.rate(names.CALLS_REFUSED, "reason")),),
                    stacked=True,
                    advice="Wrong credentials in number: an expired token, or somebody who guesses. The audit log says "
                    "from where.",
                ),
            ),
        ),
    ),
)
