"""The tally against cells whose every event is known: counts that can be worked out by hand."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace

import pytest

from longtake.core.effects import Emit, Parked, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import (
    Fault,
    InvalidField,
    Lack,
    LongtakeError,
    NoCapacity,
    NotAllowed,
    NotAuthenticated,
    QuotaUsed,
    Refusal,
    ShuttingDown,
    Unavailable,
    UnknownPeer,
    UnknownSession,
)
from longtake.core.events import (
    Ack,
    CallRefused,
    Close,
    Cue,
    CueRequest,
    Drain,
    FrameRefused,
    OpenRefused,
    OpFailed,
    Pause,
    Play,
    Tick,
)
from longtake.core.facts import LaneMoved
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import Change, CueRule
from longtake.core.recipe.ops import Kind
from longtake.core.work import CueId, Loss, Role, SessionId, WorkerId
from monitoring.folding.histogram import Histogram
from monitoring.folding.refusals import call_reason, open_reason
from monitoring.folding.tally import Tally
from tests.core.support.parts import geometry, recipe, works_of
from tests.core.support.recaching import EVERY, ask
from tests.core.support.recipes import altered
from tests.core.support.world import effects_of
from tests.monitoring.world import Counted, CountedImageCell, segment_bytes

BLOCKS = 5
PICTURES = geometry().first_picture(BLOCKS)


def cue(name: str, *, block: int | None = None) -> CueRequest:
    return CueRequest(cue=CueId(name), prompt="q", block=block)


def test_two_streams_run_to_their_end_and_everything_is_counted_once() -> None:
    cell = Counted(recipe())
    cell.open("a", pictures=PICTURES)
    cell.open("b", pictures=PICTURES)
    cell.run()
    bulk = cell.tally.streams.paces[Pace.FAST]
    assert (bulk.opened, bulk.refusals, bulk.blocks, bulk.late_blocks) == (2, 0, 2 * BLOCKS, 0)
    assert bulk.pictures == 2 * PICTURES
    assert bulk.segment_bytes == 2 * sum(segment_bytes(block) for block in range(BLOCKS))
    assert bulk.closed == dict.fromkeys(Ending, 0) | {Ending.COMPLETED: 2}
    assert (bulk.first_segment_s.count, bulk.block_latency_s.count, bulk.slack_s.count) == (2, 2 * BLOCKS, 0)
    workers = cell.tally.fleet.workers
    ops = {kind: sum(worker.ops[kind] for worker in workers.values()) for kind in Kind}
    # Four steps; the commits of the last block are for nobody.
    assert ops == {Kind.DENOISE: 2 * 4 * BLOCKS, Kind.COMMIT: 2 * 4 * (BLOCKS - 1), Kind.DECODE: 2 * BLOCKS}
    assert sum(worker.passes for worker in workers.values()) == sum(ops.values())  # of one op each
    assert not cell.tally.streams.open
    assert cell.tally.streams.paces[Pace.REALTIME].blocks == 0


def test_times_are_between_the_events_that_they_are_named_after() -> None:
    cell = Counted(recipe(), denoisers=1)
    cell.open("s", pictures=PICTURES)
    cell.answers = deque(replace(answer, now_s=2.0) for answer in cell.answers)
    cell.answer()  # the prompt is encoded: block 0 begins
    cell.now_s = 5.0
    while not cell.segments:
        cell.finish(cell.busy[0])
    pace = cell.tally.streams.paces[Pace.FAST]
    assert (pace.first_segment_s.count, pace.first_segment_s.total) == (1, 5.0)
    assert (pace.block_latency_s.count, pace.block_latency_s.total) == (1, 3.0)


def test_a_live_stream_has_slack_and_late_blocks() -> None:
    cell = Counted(recipe(), denoisers=1)
    session = cell.open("s", pace=Pace.REALTIME, window=2)
    cell.answer()
    for _ in range(200):
        if len(cell.segments.get(session, ())) == 4:
            break
        if cell.segments.get(session):
            cell.now_s += 0.2  # a block takes much longer than it plays
        cell.send(Tick(now_s=cell.now_s))
        for worker in cell.busy:
            cell.finish_and_acknowledge(worker)
    emits = effects_of(cell, Emit)
    slacks = [emit.slack_s for emit in emits if emit.slack_s is not None]
    live = cell.tally.streams.paces[Pace.REALTIME]
    assert emits[0].slack_s is None and len(slacks) == len(emits) - 1 == 3  # the first starts the clock
    assert live.slack_s.count == 3 and live.slack_s.total == pytest.approx(sum(slacks))
    assert live.late_blocks == sum(slack < 0 for slack in slacks) > 0
    assert cell.tally.streams.open[session].slack_s == slacks[-1]


def test_blocks_that_took_fewer_steps_than_usual_are_counted() -> None:
    cell = Counted(altered(recipe(Level.CLEAN), shed=((1000,),)))
    cell.scheduler.cell.load_rule = lambda _cell, _session, block, _now_s: block % 2
    cell.open("s", pictures=12 * 5 - 3, pace=Pace.FAST)
    cell.run()
    emits = effects_of(cell, Emit)
    assert [(emit.steps, emit.load) for emit in emits] == [(4, 0), (1, 1), (4, 0), (1, 1), (4, 0)]
    paces = cell.tally.streams.paces
    assert (paces[Pace.FAST].shed_blocks, paces[Pace.REALTIME].shed_blocks) == (2, 0)


@pytest.mark.parametrize(
    ("error", "opening", "calling"),
    [
        (InvalidField("open.window", 0, "1 to 32"), "invalid", "unavailable"),
        (UnknownSession("nobody"), "invalid", "unavailable"),
        (ShuttingDown(), "draining", "unavailable"),
        (Unavailable("no worker"), "unavailable", "unavailable"),
        (UnknownPeer("a defect"), "internal", "unavailable"),
        (NoCapacity("none", 1.0, Lack.OBSERVERS), "internal", "unavailable"),
        (NoCapacity("none", 1.0, Lack.QUOTA), "quota", "quota"),
        (NotAuthenticated("missing", "no token"), "invalid", "no_credentials"),
        (NotAuthenticated("expired", "an old token"), "invalid", "wrong_credentials"),
        (NotAllowed("a client may not"), "invalid", "not_allowed"),
    ],
)
def test_every_family_of_errors_has_its_reasons(error: LongtakeError, opening: str, calling: str) -> None:
    kind = error.problem.kind
    assert (open_reason(kind).value, call_reason(kind).value) == (opening, calling)


@pytest.mark.parametrize("lack", set(Lack) - {Lack.OBSERVERS})
def test_every_lack_that_can_refuse_an_open_is_a_reason(lack: Lack) -> None:
    assert open_reason(lack) is lack


def test_what_the_front_end_refuses_is_counted_once() -> None:
    cell = Counted(recipe())
    session = cell.open("s")
    quota = QuotaUsed("too many prompts", 1.0).problem
    wrong = InvalidField("cue.prompt", "", "a text").problem
    cell.send(OpenRefused(now_s=0.0, pace=Pace.REALTIME, problem=wrong))
    cell.send(OpenRefused(now_s=0.0, pace=Pace.FAST, problem=quota))
    cell.send(CallRefused(now_s=0.0, problem=NotAllowed("a client may not").problem))
    cell.send(FrameRefused(now_s=0.0, session=session, cue=None, problem=wrong))
    cell.send(FrameRefused(now_s=0.0, session=session, cue=CueId("c"), problem=quota))
    paces = cell.tally.streams.paces
    assert {kind: count for kind, count in paces[Pace.REALTIME].refused.items() if count} == {Fault.INVALID: 1}
    assert {kind: count for kind, count in paces[Pace.FAST].refused.items() if count} == {Lack.QUOTA: 1}
    calls = {kind: count for kind, count in cell.tally.refused_calls.items() if count}
    assert calls == {Fault.NOT_ALLOWED: 1, Lack.QUOTA: 2}
    assert cell.tally.streams.cues["refused"] == 1
    told = effects_of(cell, RequestRefused)
    assert [(effect.cue, effect.problem) for effect in told] == [(None, wrong), (CueId("c"), quota)]


def test_refusals_say_what_is_missing() -> None:
    def refused(cell: Counted, pace: Pace = Pace.REALTIME) -> dict[Refusal, int]:
        counts = cell.tally.streams.paces[pace].refused
        return {reason: count for reason, count in counts.items() if count}

    few_pages = Counted(recipe(), denoisers=1, pages=9 * 4)
    for name in "ab":
        few_pages.open(name, pace=Pace.REALTIME)
    assert refused(few_pages) == {Lack.PAGES: 1}
    few_slots = Counted(recipe(), slots=1)
    for name in "ab":
        few_slots.open(name, pace=Pace.REALTIME)
    assert refused(few_slots) == {Lack.SLOTS: 1}
    slow = Counted(recipe(), denoisers=1)
    slow.open("a", pictures=PICTURES)
    while slow.busy or slow.answers:
        slow.answer()
        for worker in slow.busy:
            slow.send(Ack(now_s=0.0, session=SessionId("a"), segment=0))
            slow.finish(worker, seconds=10.0)
    slow.open("b", pace=Pace.REALTIME)
    assert refused(slow) == {Lack.TIME: 1}
    few_sessions = Counted(recipe(), limits=Limits(max_sessions=1, max_queued=1))
    few_sessions.open("a")
    few_sessions.open("b", pace=Pace.REALTIME)
    assert refused(few_sessions) == {Lack.SESSIONS: 1}
    few_sessions.open("c")  # is queued
    few_sessions.open("d")
    assert refused(few_sessions, Pace.FAST) == {Lack.QUEUE: 1}
    few_sessions.send(Drain(now_s=0.0))
    few_sessions.open("e")
    assert refused(few_sessions, Pace.FAST) == {Lack.QUEUE: 1, Fault.DRAINING: 1}
    assert few_sessions.tally.draining


def test_a_queued_stream_is_opened_when_it_gets_its_place() -> None:
    cell = Counted(recipe(), limits=Limits(max_sessions=1))
    first = cell.open("a")
    cell.now_s = 1.0
    cell.open("b")
    streams = cell.tally.streams
    assert (streams.paces[Pace.FAST].opened, streams.open[SessionId("b")].placed_at_s) == (1, None)
    cell.now_s = 8.0
    cell.send(Close(now_s=8.0, session=first, ending=Ending.CLIENT))
    assert (streams.paces[Pace.FAST].opened, streams.open[SessionId("b")].placed_at_s) == (2, 8.0)
    assert (streams.queue_wait_s.count, streams.queue_wait_s.total) == (1, 7.0)
    assert streams.paces[Pace.FAST].closed[Ending.CLIENT] == 1


def test_cues_are_followed_until_their_first_segment_is_acknowledged() -> None:
    cell = Counted(recipe(), denoisers=1)
    session = cell.open("s")
    cell.answer()
    cell.send(Cue(now_s=1.0, session=session, request=cue("soon")))
    cell.answer()
    cell.send(Cue(now_s=1.0, session=session, request=cue("later", block=3)))
    cell.send(Cue(now_s=1.0, session=session, request=cue("instead", block=3)))
    cell.answer()
    cell.send(Cue(now_s=1.0, session=session, request=cue("late", block=0)))
    cell.now_s = 11.0
    cell.steps(80)
    assert cell.tally.streams.cues == {"accepted": 3, "applied": 2, "superseded": 1, "refused": 1}
    screen = cell.tally.streams.paces[Pace.FAST].prompt_to_screen_s
    assert (screen.count, screen.total) == (1, 10.0)  # a cue with a place says nothing about speed
    entry = cell.tally.streams.open[session]
    assert not entry.cues_s and not entry.shown_s


def test_the_lag_of_a_client_and_its_stalls() -> None:
    cell = Counted(recipe(), denoisers=1)
    session = cell.open("s", window=2)
    cell.run(acknowledge=False)
    pace = cell.tally.streams.paces[Pace.FAST]
    assert cell.segments[session] == [0, 1]  # blocks 0 and 1 need no acknowledgement
    assert pace.stalls == 1
    assert cell.scheduler.census().stalled == {Pace.FAST: 1}
    cell.send(Ack(now_s=0.0, session=session, segment=9))  # nothing that was sent
    cell.send(Ack(now_s=0.0, session=session, segment=0))
    assert (pace.client_lag.count, pace.client_lag.total) == (1, 2.0)
    assert cell.scheduler.census().stalled == {}
    cell.run(acknowledge=False)
    assert pace.stalls == 2


def test_parking_and_its_copies_are_counted() -> None:
    cell = CountedImageCell(recipe(), denoisers=1, limits=Limits(park_after_s=5.0))
    session = cell.open("s", window=2, pictures=PICTURES)
    cell.settle(acknowledge=False)
    cell.send(Pause(now_s=0.0, session=session))
    cell.acknowledge(session)
    cell.now_s = 6.0
    cell.send(Tick(now_s=6.0))
    cell.settle()
    pace, workers = cell.tally.streams.paces[Pace.FAST], cell.tally.fleet.workers
    assert (pace.parked, pace.restored) == (len(effects_of(cell, Parked)), 0) == (1, 0)
    assert workers[WorkerId("denoise-0")].copies == {"stowed": 4, "loaded": 0, "given": 0, "failed": 0}  # each lane
    assert workers[WorkerId("decode-0")].copies["stowed"] == 1
    cell.send(Play(now_s=6.0, session=session))
    assert pace.restored == 1
    cell.settle()
    assert workers[WorkerId("denoise-0")].copies["loaded"] == 4
    assert pace.blocks == BLOCKS and pace.opened == 1


def test_a_lost_worker_is_counted_by_its_cause_and_what_it_did_is_not() -> None:
    cell = Counted(recipe(), denoisers=1)
    cell.open("s")
    cell.answer()
    worker, fleet = WorkerId("denoise-0"), cell.tally.fleet
    cell.finish(worker, seconds=0.5)
    assert (fleet.workers[worker].done, fleet.workers[worker].busy_s) == (1, 0.5)
    assert cell.queues[worker]
    cell.works.clear()
    cell.lose(worker, Loss.SILENCE)
    assert fleet.lost[Role.DENOISE, Loss.SILENCE] == 1 and sum(fleet.lost.values()) == 1
    cell.join(worker, Role.DENOISE, 400)
    cell.answer()
    cell.finish(worker, seconds=0.25)
    again = fleet.workers[worker]
    assert (again.done, again.done_since_joined, again.busy_since_joined_s) == (2, 1, 0.25)
    assert fleet.joined == {Role.DENOISE: 2, Role.DECODE: 1, Role.TEXT: 0}


def test_of_a_failed_dispatch_the_others_ops_are_done() -> None:
    cell = Counted(recipe(), denoisers=1, batch_limit=2)
    for name in "ab":
        cell.open(name)
    cell.answer()
    worker = WorkerId("denoise-0")
    while len(works_of(cell.queues[worker][0])) < 2:
        cell.finish(worker)
    before = cell.tally.fleet.workers[worker].done
    passes = cell.tally.fleet.workers[worker].passes
    dispatch = cell.queues[worker].popleft()
    failed = OpFailed(
        now_s=0.0,
        worker=worker,
        sessions=(SessionId("a"),),
        sequence=dispatch.sequence,
        reason="test",
    )
    cell.send(failed)
    assert cell.tally.fleet.workers[worker].done == before + 1
    assert cell.tally.fleet.workers[worker].failures == 1
    assert cell.tally.fleet.workers[worker].passes == passes + 1


def test_moved_lanes_are_counted() -> None:
    cell = Counted(recipe(), denoisers=1)
    for name in "abcd":
        cell.open(name)
    cell.answer()
    cell.steps(40)
    cell.join(WorkerId("denoise-new"), Role.DENOISE, 400)
    for _ in range(60):
        cell.now_s += 1.0
        cell.send(Tick(now_s=cell.now_s))
        cell.steps(10)
        cell.copy()
    moved = len(effects_of(cell, LaneMoved))
    assert cell.tally.fleet.lane_moves == moved > 0


def test_each_lane_that_is_renewed_is_counted_once() -> None:
    cell = Counted(EVERY["output"])
    session = cell.open("s", pictures=geometry().first_picture(8))
    cell.answer()
    ask(cell, session, "new", 4)
    ask(cell, session, "plain", 6, Change.SWAP)
    cell.run()
    assert cell.tally.fleet.renewals == {CueRule.WINDOW: 3, CueRule.JOINT: 0, CueRule.FULL: 0}


def test_nothing_is_kept_of_sessions_that_have_ended() -> None:
    def size(tally: Tally) -> int:
        seen: set[int] = set()

        def of(thing: object) -> int:
            if id(thing) in seen or isinstance(thing, type | int | float):
                return 0
            seen.add(id(thing))
            inside: list[object] = []
            if isinstance(thing, dict):
                inside = [*thing.keys(), *thing.values()]
            elif isinstance(thing, list | tuple | set | deque):
                inside = list(thing)
            elif type(thing).__module__.startswith("monitoring"):
                names = getattr(type(thing), "__slots__", None) or vars(thing)
                inside = [getattr(thing, name) for name in names]
            return sys.getsizeof(thing) + sum(map(of, inside))

        return of(tally)

    cell, sizes = Counted(recipe(), denoisers=1), []
    for round_ in range(4):
        for number in range(12):
            session = cell.open(f"{round_}-{number}", pictures=PICTURES)
            cell.answer()
            cell.send(Cue(now_s=0.0, session=session, request=cue("soon")))
        cell.run()
        assert not cell.tally.streams.open
        sizes.append(size(cell.tally))
    assert sizes[1] == sizes[2] == sizes[3]


def test_a_stream_of_any_length_is_kept_in_the_same_space() -> None:
    cell = Counted(recipe(), denoisers=1)
    session = cell.open("s")
    cell.answer()
    most = 0
    for round_ in range(60):
        cell.send(Cue(now_s=0.0, session=session, request=cue(f"c{round_}")))
        cell.answer()
        cell.steps(20)
        entry = cell.tally.streams.open[session]
        most = max(most, len(entry.begun_s) + len(entry.cues_s) + len(entry.shown_s))
    assert len(cell.segments[session]) > 60
    assert most <= 16


def test_a_bucket_holds_what_does_not_exceed_its_bound() -> None:
    histogram = Histogram((0.0, 1.0))
    for value in (-1.0, 0.0, 0.5, 1.0, 1.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.cumulative() == [("0.0", 2.0), ("1.0", 4.0), ("+Inf", 5.0)]
    assert histogram.total == 2.0


def test_events_wait_for_each_other_and_who_reads_has_them_all() -> None:
    tally = Tally()
    for number in range(1, 1000):
        tally.fold(Tick(now_s=float(number)), ())
        if number % 7 == 0:
            assert tally.events[Tick] == number
    assert tally.events[Tick] == 999
