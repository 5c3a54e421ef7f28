"""Cues: which block they take, what is refused or superseded, and that nothing is kept of one that has passed."""

from __future__ import annotations

from longtake.core.effects import CueAccepted, CueApplied, CueSuperseded, Dispatch, Forget, RequestRefused
from longtake.core.errors import Fault, Missed
from longtake.core.events import Cue
from longtake.core.limits import Limits
from longtake.core.work import DecodeWork
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.world import Cell, effects_of


def test_a_cue_takes_the_block_it_names_and_every_step_of_it() -> None:
    cell = Cell(recipe(), denoisers=3)
    session = cell.open("s", pictures=geometry().first_picture(8), cues=(cue("c", block=3), cue("d", picture=60)))
    cell.run()
    assert [(e.cue, e.block) for e in effects_of(cell, CueAccepted)] == [("c", 3), ("d", 6)]
    assert [(e.cue, e.block) for e in effects_of(cell, CueApplied)] == [("c", 3), ("d", 6)]
    assert [cell.versions[session, block] for block in range(8)] == [{0}, {0}, {0}, {1}, {1}, {1}, {2}, {2}]


def test_a_cue_without_a_place_takes_the_first_block_not_begun() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Cue(now_s=0.0, session=session, request=cue("now")))
    cell.answer()
    assert effects_of(cell, CueAccepted)[-1].block == 3


def test_a_cue_that_comes_too_late_is_told_the_earliest_block() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    cell.run(acknowledge=False)
    cell.send(Cue(now_s=0.0, session=session, request=cue("late", block=2)))
    problem = effects_of(cell, RequestRefused)[-1].problem
    assert problem.kind is Fault.TOO_LATE
    assert problem.about == Missed(earliest_block=3)


def test_of_two_cues_for_one_block_the_later_wins_and_the_earlier_is_told() -> None:
    cell = Cell(recipe())
    session = cell.open("s", window=3)
    for name in ("first", "second"):
        cell.send(Cue(now_s=0.0, session=session, request=cue(name, block=5)))
    cell.answer()
    superseded = effects_of(cell, CueSuperseded)
    assert [(e.cue, e.by, e.block) for e in superseded] == [("first", "second", 5)]


def test_a_prompt_that_nothing_reads_any_more_is_forgotten_everywhere_once() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", pictures=geometry().first_picture(10), cues=(cue("c", block=2), cue("d", block=5)))
    cell.run()
    for version in (0, 1):
        workers = [e.worker for e in effects_of(cell, Forget) if e.version == version]
        assert sorted(workers) == ["denoise-0", "denoise-1"]
    attached = [
        (d.worker, work.conditioning.version)
        for d in effects_of(cell, Dispatch)
        if not isinstance(d.work, DecodeWork)
        for work, attach in zip(d.work, d.attach_conditioning, strict=True)
        if attach
    ]
    assert len(attached) == len(set(attached)) == 6
    assert session in cell.closed


def test_cues_waiting_are_bounded() -> None:
    cell = Cell(recipe(), limits=Limits(max_pending_cues=3))
    session = cell.open("s", window=1)
    for number in range(5):
        cell.send(Cue(now_s=0.0, session=session, request=cue(f"c{number}", block=100 + number)))
    assert len(effects_of(cell, RequestRefused)) == 2


def test_nothing_is_kept_of_a_cue_that_has_passed() -> None:
    cell = Cell(recipe(), denoisers=2)
    session = cell.open("s", window=4)
    for number in range(20):
        cell.answer()
        cell.steps(30)
        cell.send(Cue(now_s=0.0, session=session, request=cue(f"c{number}")))
    cell.answer()
    cell.steps(200)
    record = cell.session(session)
    assert len(record.prompts.turns) == len(record.prompts.encoded) == 1
    assert {version for _, version in record.prompts.held} == {20}
