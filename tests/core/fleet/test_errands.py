"""Whatever a worker is ordered beside ops and never answers is a hang; what waits for others, or its turn, is none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from longtake.core.effects import EncodeText, GiveUp, LoadImage, PrepareStream, Stow
from longtake.core.events import (
    Event,
    ImageFailed,
    Loaded,
    OpFailed,
    PicturesEncoded,
    Stowed,
    StreamPrepared,
    TextEncoded,
    WorkerJoined,
)
from longtake.core.fleet.errands import KNOWN, ErrandAnswer, ErrandOrder, Errands
from longtake.core.fleet.hangs import COPY_S, ERRAND_S, LEAST_S, TIMES, Hangs
from longtake.core.fleet.worker import Worker
from longtake.core.parts import EncodePictures
from longtake.core.recipe.ops import Kind, Op
from longtake.core.work import Ability, ConditioningRef, ImageId, PageId, Role, SessionId, SlotId, Ticket, WorkerId
from tests.core.support.parts import SETTINGS
from tests.core.support.timed import timed_cell
from tests.core.support.world import Cell, effects_of
from workers.images.transfers import TIMEOUT_S

S, D = SessionId("s"), WorkerId("decode-0")
TICK_S = 0.1
TEXT = ConditioningRef(session=S, version=0)
IMAGE = ImageId(7)


def prepare(image: ImageId | None = None, session: SessionId = S) -> PrepareStream:
    return PrepareStream(worker=D, session=session, slot=SlotId(0), settings=SETTINGS, image=image)


PART = EncodePictures(worker=D, session=S, part=1, pictures=range(1, 5), follows=True)
ENCODE = EncodeText(worker=D, conditioning=TEXT, prompt="p")
STOW = Stow(worker=D, session=S, image=IMAGE, source=SlotId(0))
STOW_PAGES = Stow(worker=D, session=S, image=IMAGE, source=(PageId(1), PageId(2)))
LOAD = LoadImage(worker=D, session=S, image=IMAGE, target=(PageId(1),))
PREPARED = StreamPrepared(now_s=0.0, worker=D, session=S, header=b"", media_type="")
ENCODED = TextEncoded(now_s=0.0, worker=D, conditioning=TEXT, notice="")
PART_DONE = PicturesEncoded(now_s=0.0, worker=D, session=S, part=1)
STOWED, LOADED = Stowed(now_s=0.0, worker=D, image=IMAGE), Loaded(now_s=0.0, worker=D, image=IMAGE)
GONE = ImageFailed(now_s=0.0, worker=D, image=IMAGE, reason="no memory")
FAILED = OpFailed(now_s=0.0, worker=D, sessions=(S,), sequence=None, reason="no memory")


@dataclass(frozen=True)
class Case:
    """An order, what it is when it is done, and how long it may take while nothing is known and when it is short."""

    order: ErrandOrder
    done: Event
    first_s: float = ERRAND_S
    least_s: float = LEAST_S


CASES = (
    Case(prepare(), PREPARED),
    Case(ENCODE, ENCODED),
    Case(PART, PART_DONE),
    Case(STOW, STOWED),
    Case(STOW_PAGES, STOWED),
    Case(LOAD, LOADED, COPY_S, COPY_S),
    Case(prepare(IMAGE), PREPARED, COPY_S, COPY_S),
)


def worker(role: Role = Role.DECODE) -> Worker:
    return Worker(WorkerJoined(now_s=0.0, worker=D, role=role, ability=Ability(capacity=9)))


class Watch:
    """Ticks in time."""

    def __init__(self, made: Worker) -> None:
        self.made, self.hangs, self.now_s = made, Hangs(), 0.0
        self.found: list[GiveUp] = []
        self.run(TICK_S)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            self.found += self.hangs.look([self.made], now_s=self.now_s)

    def order(self, order: ErrandOrder) -> None:
        self.made.errands.ordered(order, now_s=self.now_s)

    def answer(self, answer: Event) -> None:
        assert isinstance(answer, ErrandAnswer)
        self.made.errands.answered(answer, now_s=self.now_s)


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case.order).__name__)
def test_an_order_that_is_never_answered_is_a_hang_with_no_dispatch_in_flight(case: Case) -> None:
    watch = Watch(worker())
    watch.order(case.order)
    watch.run(case.first_s - 0.2)
    assert watch.found == [] and watch.made.oldest_s == pytest.approx(case.first_s - 0.3)
    watch.run(60.0)
    assert [each.worker for each in watch.found] == [D], "once"


@pytest.mark.parametrize("took_s", [0.01, 4.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case.order).__name__)
def test_a_worker_that_has_done_some_is_judged_by_its_own_time(case: Case, took_s: float) -> None:
    watch = Watch(worker())
    for _ in range(KNOWN):
        watch.order(case.order)
        watch.now_s += took_s
        watch.answer(case.done)
    watch.order(case.order)
    limit_s = max(TIMES * took_s, case.least_s)
    watch.run(limit_s - 0.3)
    assert watch.found == []
    watch.run(0.6)
    assert len(watch.found) == 1


@pytest.mark.parametrize(
    ("order", "answer"),
    [*((case.order, case.done) for case in CASES), (prepare(), FAILED), (ENCODE, FAILED), (PART, FAILED), (STOW, GONE),
     (LOAD, GONE), (prepare(IMAGE), GONE)],
)  # fmt: skip
def test_whatever_becomes_of_an_order_nothing_is_owed_then(order: ErrandOrder, answer: Event) -> None:
    watch = Watch(worker())
    watch.order(order)
    watch.run(1.0)
    assert watch.made.oldest_s > 0
    watch.answer(answer)
    watch.run(TICK_S)
    assert list(watch.made.errands) == [] and watch.made.oldest_s == 0.0


def test_an_answer_is_that_of_its_own_order_only() -> None:
    other = prepare(session=SessionId("other"))
    for answer in (PREPARED, ENCODED, STOWED, LOADED, GONE, FAILED):
        watch = Watch(worker())
        watch.order(other)
        watch.answer(answer)
        assert [errand.order for errand in watch.made.errands] == [other]


def test_an_image_that_fails_is_told_once_for_all_that_name_it_and_a_failure_for_the_oldest_order() -> None:
    errands = Errands()
    for order in (STOW, LOAD, prepare(IMAGE), prepare(), ENCODE):
        errands.ordered(order, now_s=0.0)
    errands.answered(GONE, now_s=0.0)
    assert [errand.order for errand in errands] == [prepare(), ENCODE]
    errands.answered(FAILED, now_s=0.0)
    assert [errand.order for errand in errands] == [ENCODE]


def test_one_that_has_many_in_a_row_is_neither_hung_nor_slow() -> None:
    watch = Watch(worker())
    refs = [ConditioningRef(session=S, version=version) for version in range(20)]
    for ref in refs:
        watch.order(EncodeText(worker=D, conditioning=ref, prompt="p"))
    for ref in refs:
        watch.run(4.0)
        watch.answer(TextEncoded(now_s=0.0, worker=D, conditioning=ref, notice=""))
    assert watch.found == [], "80 s in all"
    watch.order(ENCODE)
    (errand,) = watch.made.errands
    assert watch.made.errands.usual_s(errand) == pytest.approx(4.0)


def test_a_preparation_behind_dispatches_is_not_at_work_yet_nor_a_dispatch_behind_a_preparation() -> None:
    watch = Watch(worker())
    tickets = (Ticket(S, Op(Kind.DECODE, 0, 0), 0),)
    watch.made.dispatched(tickets, now_s=watch.now_s)
    watch.order(prepare())
    watch.run(0.9 * ERRAND_S)
    watch.made.in_flight.popleft()
    watch.run(0.5 * ERRAND_S)
    assert watch.found == [], "of which the first did not count"
    watch.made.dispatched(tickets, now_s=watch.now_s)
    watch.run(0.6 * ERRAND_S)
    (found,) = watch.found
    assert "the preparation of a stream has taken more than 30 s" in found.reason


def test_a_copy_may_wait_for_another_worker_that_is_given_up_by_the_one_that_waits() -> None:
    assert 1.5 * TIMEOUT_S < COPY_S


# --- by the scheduler -----------------------------------------------------------------------------------------------


def opening(cell: Cell) -> list[GiveUp]:
    """A stream is opened, and no worker answers anything for a minute and more."""
    cell.open("s", window=4)
    for _ in range(round((ERRAND_S + 2.0) / TICK_S)):
        cell.later(TICK_S)
    return effects_of(cell, GiveUp)


def test_a_decoder_that_never_prepares_the_first_stream_is_given_up_and_the_stream_begins_elsewhere() -> None:
    cell = Cell(timed_cell(0.05).recipe, decoders=2)
    (given_up,) = opening(cell)
    assert given_up.worker in ("decode-0", "decode-1") and "the preparation of a stream" in given_up.reason
    cell.lose(given_up.worker)
    cell.answer()
    cell.steps(200)
    assert cell.segments[S][:3] == [0, 1, 2]


def test_a_decoder_that_never_encodes_a_cue_is_given_up_though_it_decodes() -> None:
    """Its ops report, so no dispatch is old: what it owes is the text."""
    cell = timed_cell(0.05)
    cell.open("s", window=1000)
    cell.answer()
    worker = cell.worker("decode-0")
    worker.errands.ordered(EncodeText(worker=D, conditioning=TEXT, prompt="later"), now_s=cell.now_s)
    for _ in range(round(1.2 * ERRAND_S / TICK_S)):
        for name in cell.busy:
            cell.finish(name, seconds=0.05)
        cell.later(TICK_S)
    assert [each.worker for each in effects_of(cell, GiveUp)] == [D]
