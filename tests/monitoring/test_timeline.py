"""Op spans: against a run computed by hand, and every op of an observed session exactly once, whatever the mix."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import pytest

from longtake.core.effects import Dispatch, Effect, Emit
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Event, OpFailed
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import Role, SessionId, WorkerId
from monitoring.folding.timeline import Observer, OpSpan, Timeline
from tests.core.support.parts import geometry, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import Cell

DENOISE, DECODE = WorkerId("denoise-0"), WorkerId("decode-0")


@dataclass
class TimedCell(Cell):
    """A cell on a clock, whose events are folded into a timeline."""

    timeline: Timeline = field(default_factory=Timeline)
    sent_s: dict[tuple[WorkerId, int], float] = field(default_factory=dict)

    def send(self, event: Event) -> list[Effect]:
        effects = super().send(event)
        self.timeline.fold(event, effects)
        for effect in effects:
            if isinstance(effect, Dispatch):
                self.sent_s[effect.worker, effect.sequence] = self.now_s
        return effects

    def begin(self, name: str, blocks: int) -> Observer:
        """Open a session and observe it, before anything of it is dispatched."""
        observer = self.timeline.observe(self.open(name, pictures=geometry().first_picture(blocks)))
        self.answer()
        return observer

    def report(self, worker: WorkerId, at_s: float, seconds: float) -> None:
        """The worker reports its oldest dispatch; what is emitted is acknowledged."""
        self.now_s = at_s
        before = len(self.effects)
        self.finish(worker, seconds=seconds)
        for effect in self.effects[before:]:
            if isinstance(effect, Emit) and effect.session not in self.closed:
                self.send(Ack(now_s=at_s, session=effect.session, segment=effect.block))

    def play(self) -> None:
        """Each worker runs its dispatches one after the other: 1 s for each, and a quarter more for each op in it."""
        free_s = dict.fromkeys(self.queues, 0.0)
        while self.busy:
            ends = []
            for worker in self.busy:
                oldest = self.queues[worker][0]
                seconds = 1.0 + len(works_of(oldest)) / 4
                ends.append((max(free_s[worker], self.sent_s[worker, oldest.sequence]) + seconds, worker, seconds))
            at_s, worker, seconds = min(ends)
            free_s[worker] = at_s
            self.report(worker, at_s, seconds)


def taken(observer: Observer) -> list[OpSpan]:
    """What waits for an observer whose session has ended."""
    return list(asyncio.run(observer.get()))


def test_a_run_of_two_blocks_has_the_spans_computed_by_hand() -> None:
    cell = TimedCell(recipe(steps=1), denoisers=1)
    observer = cell.begin("a", 2)
    # At 0 D(0,0) is sent and, behind it, C(0,0), which starts from its output. V(0) is sent when D is done, at 1, and
    # so is D(0,1), which reads what C(0,0) writes. V(1) follows it at 3.5. The last block needs no commit.
    cell.report(DENOISE, 1.0, 1.0)
    cell.report(DENOISE, 2.0, 1.0)
    cell.report(DECODE, 2.25, 1.25)
    cell.report(DENOISE, 3.5, 1.5)
    cell.report(DECODE, 4.0, 0.5)
    rows = [
        (span.kind, span.step, span.block, span.worker, span.batch, span.dispatched_s, span.done_s, span.seconds)
        for span in taken(observer)
    ]
    assert rows == [
        (Kind.DENOISE, 0, 0, DENOISE, 1, 0.0, 1.0, 1.0),
        (Kind.COMMIT, 0, 0, DENOISE, 1, 0.0, 2.0, 1.0),
        (Kind.DECODE, 0, 0, DECODE, 1, 1.0, 2.25, 1.25),
        (Kind.DENOISE, 0, 1, DENOISE, 1, 1.0, 3.5, 1.5),
        (Kind.DECODE, 0, 1, DECODE, 1, 3.5, 4.0, 0.5),
    ]
    assert taken(observer) == [], "the session has ended"


@pytest.mark.parametrize("level", APART)
@pytest.mark.parametrize(("batch", "fused"), [(1, False), (4, False), (4, True)])
def test_every_op_is_seen_once_and_those_of_a_lane_do_not_overlap(level: Level, batch: int, fused: bool) -> None:
    cell = TimedCell(recipe(level), batch_limit=batch, limits=Limits(fused_passes=fused))
    observers = [cell.begin(name, 6) for name in ("a", "b", "c")]
    cell.open("unseen", pictures=40)
    cell.answer()
    cell.play()
    assert len(cell.closed) == 4
    shared = 0
    for observer in observers:
        spans = taken(observer)
        ops = [Op(span.kind, span.step, span.block) for span in spans]
        expected = {op for session, op in cell.sent if session == observer.session}
        assert len(ops) == len(expected) and set(ops) == expected
        assert {span.session for span in spans} == {observer.session}
        shared += sum(span.batch > 1 for span in spans)

        def lane(span: OpSpan) -> int:
            op = Op(span.kind, span.step, span.block)
            return -1 if span.kind is Kind.DECODE else cell.graph.chain_of(op).lane or 0

        for _, group in groupby(sorted(spans, key=lambda span: (lane(span), span.done_s)), key=lane):
            for earlier, later in pairwise(group):
                fuses = (earlier.worker, earlier.done_s) == (later.worker, later.done_s)
                assert fuses or later.done_s - later.seconds >= earlier.done_s
                assert not fuses or (fused and earlier.batch == later.batch > 1)
    assert (shared > 0) == (batch > 1)


def test_an_observer_is_told_of_what_is_dispatched_from_its_coming_to_its_leaving() -> None:
    cell = TimedCell(recipe())
    cell.open("a")
    cell.answer()
    cell.steps(5)
    assert cell.busy
    cell.later(1.0)
    observer = cell.timeline.observe(SessionId("a"))
    cell.later(1.0)
    cell.steps(6)
    spans = taken(observer)
    assert spans and all(span.dispatched_s >= 1.0 for span in spans)
    assert len(spans) < 6, "some had been dispatched before"
    cell.timeline.leave(observer)
    cell.timeline.leave(observer)
    assert cell.timeline.observers(SessionId("a")) == 0
    cell.steps(3)
    assert len(observer) == 0


def test_an_observer_that_does_not_read_has_the_newest_spans() -> None:
    cell = TimedCell(recipe())
    session = cell.open("a")
    patient, slow = cell.timeline.observe(session), cell.timeline.observe(session, limit=3)
    cell.answer()
    cell.steps(40)
    cell.send(Close(now_s=cell.now_s, session=session, ending=Ending.CLIENT))
    assert len(slow) == 3
    assert taken(slow) == taken(patient)[-3:]


def test_of_a_dispatch_that_failed_only_the_ops_of_other_sessions_are_done() -> None:
    cell = TimedCell(recipe(), denoisers=1, batch_limit=4)
    observers = {name: cell.timeline.observe(cell.open(name)) for name in ("a", "b", "c")}
    cell.answer()
    while len(works_of(cell.queues[DENOISE][0])) < 3:
        cell.finish(DENOISE, seconds=1.0)
    seen = {name: len(observer) for name, observer in observers.items()}
    number = cell.queues[DENOISE][0].sequence
    failed = OpFailed(now_s=9.0, worker=DENOISE, sessions=(SessionId("b"),), sequence=number, reason="out of memory")
    in_it = [work.session for work in works_of(cell.queues[DENOISE][0])]
    cell.timeline.fold(failed, cell.scheduler.handle(failed))
    assert len(set(in_it)) > 1 and "b" in in_it
    for name, observer in observers.items():
        assert len(observer) - seen[name] == (0 if name == "b" else in_it.count(SessionId(name)))


def test_the_reports_of_a_worker_that_joined_again_are_not_taken_for_those_of_its_past() -> None:
    cell = TimedCell(recipe(), denoisers=1)
    observer = cell.begin("a", 2)
    assert cell.busy
    cell.lose(DENOISE)  # its dispatch 0 will never be reported
    cell.now_s = 5.0
    cell.join(DENOISE, Role.DENOISE, cell.pages)
    cell.answer()
    cell.play()
    spans = taken(observer)
    assert [(span.kind, span.block) for span in spans][-1] == (Kind.DECODE, 1)
    assert len({(span.kind, span.step, span.block) for span in spans}) == len(spans) == 4 + 4 + 1 + 4 + 1
    assert min(span.dispatched_s for span in spans) == 5.0
