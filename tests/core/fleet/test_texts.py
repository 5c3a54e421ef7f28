"""Prompts that workers of their own encode: who gets which, and what a loss of one of them means."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from longtake.core.effects import Closed, CueAccepted, EncodeText
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault
from longtake.core.events import Close, Cue, CueRequest, TextEncoded
from longtake.core.fleet.texts import Texts
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.work import ConditioningRef, CueId, Role, SessionId, WorkerId
from tests.core.support.parts import geometry, recipe
from tests.core.support.world import Cell, effects_of
from tests.samples import first

ONE, TWO = WorkerId("text-0"), WorkerId("text-1")


def orders(cell: Cell) -> list[WorkerId]:
    return [order.worker for order in effects_of(cell, EncodeText)]


def cue(cell: Cell, session: SessionId, name: str) -> None:
    cell.send(Cue(now_s=cell.now_s, session=session, request=CueRequest(cue=CueId(name), prompt=name)))


def late_texts(cell: Cell) -> list[TextEncoded]:
    """Take the answers of text workers away, as if they took long; whatever else was answered is sent."""
    held = [answer for answer in cell.answers if isinstance(answer, TextEncoded)]
    cell.answers = type(cell.answers)(answer for answer in cell.answers if not isinstance(answer, TextEncoded))
    cell.answer()
    return held


def test_prompts_go_to_the_text_worker_with_the_fewest_and_to_no_decoder() -> None:
    cell = Cell(recipe(), texters=2)
    for number in range(4):
        cell.open(f"s{number}", pictures=geometry().first_picture(2))
    assert orders(cell) == [ONE, TWO, ONE, TWO]
    cell.answer()
    cell.run()
    assert len(effects_of(cell, Opened)) == 4


def test_where_it_takes_no_time_a_session_s_decoder_encodes() -> None:
    cell = Cell(recipe(), decoders=2)
    for number in range(2):
        cell.open(f"s{number}")
    assert sorted(orders(cell)) == ["decode-0", "decode-1"]


def test_a_text_that_takes_long_holds_up_its_cue_and_nothing_else() -> None:
    cell = Cell(recipe(), texters=1)
    session, other = cell.open("s", window=40), cell.open("t", window=40)
    cell.answer()
    cell.steps(60)
    before = {name: len(cell.segments[name]) for name in (session, other)}
    cue(cell, session, "later")
    (text,) = late_texts(cell)
    cell.steps(120)
    assert all(len(cell.segments[name]) >= before[name] + 3 for name in (session, other))
    assert not effects_of(cell, CueAccepted)
    cell.send(text)
    assert effects_of(cell, CueAccepted)[0].block >= len(cell.segments[session])


@pytest.mark.parametrize("others", [0, 1])
def test_what_a_lost_text_worker_had_is_encoded_by_another_or_by_the_next_that_joins(others: int) -> None:
    cell = Cell(recipe(), texters=1 + others)
    session = cell.open("s", pictures=geometry().first_picture(3))
    assert orders(cell) == [ONE]
    cell.lose(ONE)
    assert not effects_of(cell, Closed), "no session ends for it"
    if not others:
        cell.open("t", pictures=geometry().first_picture(2))
        assert orders(cell) == [ONE], "nobody is there"
        cell.join(ONE, Role.TEXT, 1)
    assert orders(cell)[:2] == [ONE, TWO if others else ONE]
    cell.answer()
    cell.run()
    assert cell.closed[session].ending is Ending.COMPLETED


def test_what_a_session_that_has_ended_wanted_is_encoded_for_nobody() -> None:
    cell = Cell(recipe(), texters=1)
    session = cell.open("s")
    (text,) = late_texts(cell)
    cell.send(Close(now_s=0.0, session=session, ending=Ending.CLIENT))
    cell.lose(ONE)
    cell.join(ONE, Role.TEXT, 1)
    assert orders(cell) == [ONE], "it is not asked for again"
    cell.send(text)
    assert session not in cell.there


def waiting(cell: Cell) -> tuple[int, float]:
    view = cell.scheduler.cell.texts.view(now_s=cell.now_s)
    return view.count, view.oldest_s


def ready(cell: Cell) -> dict[WorkerId, int]:
    return {view.worker: view.ready for view in cell.scheduler.workers() if view.role is Role.TEXT}


def test_prompts_that_wait_are_counted_with_the_age_of_the_oldest_whoever_is_to_encode_them() -> None:
    cell = Cell(recipe(), texters=2)
    assert (waiting(cell), ready(cell)) == ((0, 0.0), {ONE: 0, TWO: 0})
    for name in "abc":
        cell.open(name)
        cell.now_s += 1.0
    texts = late_texts(cell)
    assert (waiting(cell), ready(cell)) == ((3, 3.0), {ONE: 2, TWO: 1})
    cell.lose(ONE)
    cell.lose(TWO)
    cell.now_s += 5.0
    assert (waiting(cell), ready(cell)) == ((3, 8.0), {}), "nobody is there"
    cell.join(ONE, Role.TEXT, 1)
    assert (waiting(cell), ready(cell)) == ((3, 8.0), {ONE: 3})
    cell.send(texts[0])
    assert waiting(cell) == (2, 7.0)
    cell.send(Close(now_s=cell.now_s, session=texts[1].conditioning.session, ending=Ending.CLIENT))
    assert waiting(cell) == (1, 6.0)
    cell.answer()
    assert waiting(cell) == (0, 0.0)


def test_what_decoders_encode_does_not_wait_for_text_workers() -> None:
    cell = Cell(recipe())
    cell.open("s")
    assert cell.answers and waiting(cell) == (0, 0.0)


@pytest.mark.parametrize("seed", first(6, range(20)))
def test_whatever_is_lost_and_comes_back_every_stream_gets_its_texts(seed: int) -> None:
    draw = random.Random(seed)
    cell = Cell(recipe(), texters=2, limits=Limits(park_after_s=0.5))
    opened = 0
    for number in range(150):
        match draw.randrange(8):
            case 0 if opened < 8:
                cell.open(f"s{opened}", pictures=geometry().first_picture(8), window=20)
                opened += 1
            case 1 if cell.there:
                cue(cell, draw.choice(cell.there), f"cue-{number}")
            case 2:
                worker = draw.choice((ONE, TWO))
                if worker in [view.worker for view in cell.scheduler.workers()]:
                    cell.lose(worker)
                else:
                    cell.join(worker, Role.TEXT, 1)
            case 3 | 4:
                cell.answer()
            case _:
                for _ in range(5):
                    if cell.busy:
                        cell.finish_and_acknowledge(draw.choice(cell.busy))
    for worker in {ONE, TWO} - {view.worker for view in cell.scheduler.workers()}:
        cell.join(worker, Role.TEXT, 1)
    for _ in range(30):
        cell.answer()
        cell.run()
    endings = Counter(closed.ending for closed in cell.closed.values())
    assert endings == {Ending.COMPLETED: opened}


def test_a_prompt_that_waits_although_somebody_could_encode_it_is_noticed() -> None:
    texts, cell = Texts(), Cell(recipe(), texters=1)
    ref = ConditioningRef(session=SessionId("s"), version=0)
    assert texts.ask({ref: "p"}, cell.worker("decode-0"), now_s=0.0) == []
    texts.check(frozenset({SessionId("s")}))
    with pytest.raises(InternalFault, match="sessions that have ended"):
        texts.check(frozenset())
    assert [order.prompt for order in texts.joined(cell.worker("text-0"))] == ["p"]
