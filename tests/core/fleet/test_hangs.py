"""A worker that takes far too long is given up once; one that is slow, new, or whose engine stood still is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.awake import LATE_S, TURN_S
from longtake.core.effects import EncodeText, GiveUp
from longtake.core.events import TextEncoded, WorkerJoined
from longtake.core.fleet.errands import KNOWN, Thread
from longtake.core.fleet.hangs import FIRST_S, LEAST_S, REPORTS, TIMES, Hangs
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import Ability, ConditioningRef, Role, SessionId, Ticket, WorkerId
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell, effects_of

TICK_S = 0.1
TICKET = Ticket(SessionId("s"), Op(Kind.DENOISE, 0, 0), 0)


def worker(name: str = "denoise-0", *, op_s: float = 0.1, reports: int = REPORTS, chain: int = 1) -> Worker:
    """A worker that has reported so many dispatches of one op, each of which took so long."""
    ability = Ability(capacity=400, batch_limit=8, chain_length=chain)
    made = Worker(WorkerJoined(now_s=0.0, worker=WorkerId(name), role=Role.DENOISE, ability=ability))
    for _ in range(reports):
        made.dispatched((TICKET,), now_s=0.0)
        report(made, op_s)
    return made


def report(made: Worker, seconds: float) -> None:
    made.timing.fold(seconds, len(made.in_flight.popleft().tickets))


class Watch:
    """Ticks in time, for workers that are told what the test says."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = workers
        self.hangs = Hangs()
        self.now_s = 0.0
        self.given_up: list[tuple[WorkerId, float]] = []
        self.tick(0.0)

    def tick(self, passed_s: float = TICK_S) -> None:
        self.now_s += passed_s
        for effect in self.hangs.look(self.workers, now_s=self.now_s):
            self.given_up.append((effect.worker, self.now_s))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.tick()


@pytest.mark.parametrize(("cost", "limit_s"), [(3.0, TIMES * 3.0), (0.5, TIMES * 0.5)])
def test_ops_of_another_shape_have_the_time_that_they_take(cost: float, limit_s: float) -> None:
    hung = worker(op_s=1.0)
    hung.dispatched((TICKET,), now_s=0.0, cost=cost)
    watch = Watch(hung)
    watch.run(limit_s - 0.2)
    assert watch.given_up == []
    watch.run(0.5)
    assert len(watch.given_up) == 1


def test_a_dispatch_that_never_reports_is_a_hang_after_twenty_times_its_time_and_told_once() -> None:
    hung = worker(op_s=0.5)
    hung.dispatched((TICKET,), now_s=0.0)
    watch = Watch(hung, worker("denoise-1"))
    watch.run(9.9)
    assert watch.given_up == []
    watch.run(60.0)
    assert [(name, round(at_s)) for name, at_s in watch.given_up] == [("denoise-0", 10)]


@pytest.mark.parametrize(
    ("made", "tickets", "limit_s"),
    [
        (worker(op_s=0.001), 1, LEAST_S),
        (worker(op_s=1.0), 1, TIMES * 1.0),
        (worker(op_s=1.0), 3, TIMES * 3.0),
        (worker(op_s=1.0, chain=4), 1, TIMES * 4.0),
    ],
)
def test_the_limit_goes_by_the_worker_its_chain_and_the_size_of_the_dispatch(
    made: Worker, tickets: int, limit_s: float
) -> None:
    made.dispatched((TICKET,) * tickets, now_s=0.0)
    watch = Watch(made)
    watch.run(limit_s - 0.2)
    assert watch.given_up == []
    watch.run(0.5)
    assert len(watch.given_up) == 1


@pytest.mark.parametrize("made", [worker(reports=REPORTS - 1), worker(op_s=0.0)])
def test_a_worker_of_which_too_little_is_known_has_minutes_and_not_for_ever(made: Worker) -> None:
    made.dispatched((TICKET,), now_s=0.0)
    watch = Watch(made)
    watch.run(FIRST_S - 0.2)
    assert watch.given_up == []
    watch.run(0.5)
    assert len(watch.given_up) == 1


def text_worker(*, prompts: int = 0, seconds: float = 0.0) -> Worker:
    """A text worker that has encoded so many prompts, each of which took so long."""
    made = Worker(WorkerJoined(now_s=0.0, worker=WorkerId("text-0"), role=Role.TEXT, ability=Ability(capacity=1)))
    for number in range(prompts):
        order = prompt(number)
        made.errands.ordered(order, now_s=-1000.0)
        done = TextEncoded(now_s=0.0, worker=made.id, conditioning=order.conditioning, notice="")
        made.errands.answered(done, now_s=seconds - 1000.0)
        made.errands.through(Thread.COMPUTE, now_s=-1000.0)
    return made


def prompt(version: int) -> EncodeText:
    ref = ConditioningRef(session=SessionId("s"), version=version)
    return EncodeText(worker=WorkerId("text-0"), conditioning=ref, prompt="p")


def test_a_text_worker_that_never_ends_a_prompt_is_given_up_and_one_that_has_many_is_not() -> None:
    made = text_worker()
    watch = Watch(made)
    for version in range(KNOWN):
        made.errands.ordered(prompt(version), now_s=watch.now_s)
    for version in range(KNOWN - 1):
        watch.run(0.9 * FIRST_S)
        done = TextEncoded(now_s=0.0, worker=made.id, conditioning=prompt(version).conditioning, notice="")
        made.errands.answered(done, now_s=watch.now_s)
    assert watch.given_up == []
    watch.run(1.1 * FIRST_S)
    assert [name for name, _ in watch.given_up] == ["text-0"]


def test_a_text_worker_that_has_encoded_some_is_judged_by_its_own_time() -> None:
    made = text_worker(prompts=KNOWN, seconds=2.0)
    watch = Watch(made)
    made.errands.ordered(prompt(9), now_s=0.0)
    watch.run(TIMES * 2.0 - 0.2)
    assert watch.given_up == []
    watch.run(0.5)
    assert len(watch.given_up) == 1


def test_it_is_known_of_every_worker_how_old_its_oldest_dispatch_is() -> None:
    made = worker()
    watch = Watch(made)
    assert made.view().oldest_s == 0.0
    for _ in range(2):
        made.dispatched((TICKET,), now_s=0.0)
    watch.run(3.0)
    assert made.view().oldest_s == pytest.approx(3.0 - TICK_S)
    report(made, 0.1)
    watch.run(1.0)
    assert made.view().oldest_s == pytest.approx(1.0 - TICK_S), "the second one, since it runs"
    report(made, 0.1)
    watch.tick()
    assert made.view().oldest_s == 0.0


def test_a_queued_dispatch_is_not_old_before_it_is_the_oldest() -> None:
    made = worker(op_s=0.25)
    watch = Watch(made)
    made.dispatched((TICKET,), now_s=0.0)
    for _ in range(10):
        made.dispatched((TICKET,), now_s=watch.now_s)
        watch.run(4.0)
        report(made, 0.25)
    assert watch.given_up == []


def test_a_worker_that_joined_again_does_not_inherit_the_age_of_its_predecessors_dispatch() -> None:
    first, second = worker(), worker()
    watch = Watch(first)
    for made in (first, second):
        made.dispatched((TICKET,), now_s=watch.now_s)
        watch.workers = (made,)
        watch.run(0.8 * LEAST_S)
    assert watch.given_up == []


def test_a_pause_of_the_engine_is_no_hang() -> None:
    made = worker()
    made.dispatched((TICKET,), now_s=0.0)
    watch = Watch(made)
    watch.run(0.9 * LEAST_S)
    watch.tick(3600.0)
    assert watch.given_up == []
    watch.run(0.2 * LEAST_S)
    assert len(watch.given_up) == 1


STRETCHES = st.tuples(
    st.sampled_from(["send", "report", "nothing"]),
    st.one_of(st.just(TICK_S), st.floats(0.02, 0.3), st.floats(0.02, 2 * LATE_S), st.floats(LATE_S, 30.0)),
    st.sampled_from([1, 2, 20, 100]),
)
"""What happens to a worker, and then so many ticks, so far apart."""


@given(st.lists(STRETCHES, max_size=12))
def test_who_is_given_up_has_had_the_limit_awake_and_nobody_goes_on_much_longer(
    stretches: list[tuple[str, float, int]],
) -> None:
    """Against ages that are counted by hand: `least` counts the ticks in time only, `most` something for each."""
    made, hangs, now_s = worker(op_s=0.05), Hangs(), 0.0
    hangs.look([made], now_s=now_s)
    least_s = most_s = 0.0
    told = False
    for what, tick_s, ticks in stretches:
        if what == "send" and len(made.in_flight) < 2:
            made.dispatched((TICKET,), now_s=now_s)
        elif what == "report" and made.in_flight:
            report(made, 0.05)
            least_s, most_s, told = 0.0, 0.0, False
        for _ in range(ticks if made.in_flight else 0):
            before_s, now_s = now_s, now_s + tick_s
            passed_s = now_s - before_s  # not always what was added
            least_s += passed_s if passed_s <= LATE_S else 0.0
            most_s += passed_s if passed_s <= LATE_S else TURN_S
            found = hangs.look([made], now_s=now_s)
            assert not found or (most_s > LEAST_S and not told)
            told = told or bool(found)
            assert told or least_s <= LEAST_S + LATE_S


def test_the_scheduler_gives_up_the_worker_that_hangs_and_no_other() -> None:
    cell = timed_cell(0.05, 0.05)
    cell.open("s", window=1000)
    cell.answer()
    while min(cell.worker(name).next_sequence for name in ("denoise-0", "denoise-1")) < 2 * REPORTS:
        finish_all(cell)
    cell.stuck = {WorkerId("denoise-1")}
    for _ in range(round(2 * LEAST_S / TICK_S)):
        finish_all(cell)
        cell.later(TICK_S)
    (effect,) = effects_of(cell, GiveUp)
    assert effect.worker == "denoise-1" and "has taken more than 5 s" in effect.reason


def finish_all(cell: Cell) -> None:
    for name in cell.busy:
        cell.finish(name, seconds=0.05)
