"""Handing over: a frozen session gives no cue a block, and leaves, or goes on as if nothing had been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.adoption import Adopted, AdoptFailed, Freeze, HandOver, HandOverRefused, MadeBy, Thaw
from longtake.core.dispatch.handing import FROZEN_S
from longtake.core.effects import Closed, CueAccepted, CueApplied, Refused, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Lack
from longtake.core.events import Adopt, Attach, Cue, CueRequest, Detach, Drain, Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, CueId, Fork, SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import SETTINGS, geometry, recipe
from tests.core.support.world import Cell, effects_of
from tests.samples import first

BLOCKS = 12
S = SessionId("s")


def begun(*, limits: Limits | None = None) -> ImageCell:
    """A session that has sent a few segments."""
    cell = ImageCell(recipe(), limits=limits or Limits())
    cell.open("s", window=3, pictures=geometry().first_picture(BLOCKS))
    cell.answer()
    cell.steps(30)
    assert cell.segments[S]
    return cell


def freeze(cell: Cell) -> list[HandOverRefused]:
    return [e for e in cell.send(Freeze(now_s=cell.now_s, session=S)) if isinstance(e, HandOverRefused)]


def cue(cell: Cell, name: str, block: int | None = None) -> None:
    cell.send(Cue(now_s=cell.now_s, session=S, request=CueRequest(cue=CueId(name), prompt=name, block=block)))
    cell.answer()


def accepted(cell: Cell) -> dict[str, int]:
    return {effect.cue: effect.block for effect in effects_of(cell, CueAccepted)}


def test_a_frozen_session_goes_on_and_its_cues_wait_until_it_is_thawed() -> None:
    cell = begun()
    assert freeze(cell) == []
    sent, next_block = len(cell.segments[S]), cell.session("s").next_block
    cue(cell, "one")
    cue(cell, "two", BLOCKS - 1)
    cell.steps(12)
    assert len(cell.segments[S]) > sent and cell.session("s").next_block > next_block, "blocks and segments go on"
    assert accepted(cell) == {} and not effects_of(cell, RequestRefused), "and nobody is told anything of a cue"
    cell.send(Thaw(now_s=cell.now_s, session=S))
    first = cell.session("s").next_block
    assert accepted(cell) == {"one": first, "two": BLOCKS - 1}
    cell.run()
    assert [effect.cue for effect in effects_of(cell, CueApplied)] == ["one", "two"]
    assert cell.segments[S] == list(range(BLOCKS)) and cell.ended_with(S, Ending.COMPLETED)
    cell.check_empty()


def test_what_is_not_handed_over_in_time_is_thawed_by_itself() -> None:
    cell = begun()
    freeze(cell)
    cue(cell, "one")
    cell.later(FROZEN_S - 1)
    freeze(cell)  # once more
    cell.later(2)
    assert accepted(cell) == {}
    cell.later(FROZEN_S)
    assert "one" in accepted(cell)
    (refused,) = [
        e for e in cell.send(HandOver(now_s=cell.now_s, session=S)) if isinstance(e, HandOverRefused | Closed)
    ]
    assert isinstance(refused, HandOverRefused) and refused.problem.kind is Fault.WRONG_STATE
    cell.run()
    assert cell.segments[S] == list(range(BLOCKS))


def test_a_session_that_is_handed_over_ends_here_and_only_then() -> None:
    cell = begun()
    for early in (HandOver(now_s=0.0, session=S),):
        (refused,) = [e for e in cell.send(early) if isinstance(e, HandOverRefused)]
        assert "not exported with hand_over" in refused.problem.message
    freeze(cell)
    cue(cell, "one")
    cell.send(HandOver(now_s=cell.now_s, session=S))
    assert cell.ended_with(S, Ending.MOVED)
    cell.run()
    assert accepted(cell) == {} and not effects_of(cell, RequestRefused)
    cell.check_empty()
    for event in (Freeze(now_s=0.0, session=S), HandOver(now_s=0.0, session=S), Thaw(now_s=0.0, session=S)):
        (refused,) = [e for e in cell.send(event) if isinstance(e, HandOverRefused)]
        assert refused.problem.kind is Fault.UNKNOWN_SESSION
    cell.later(2 * FROZEN_S)


def test_a_server_that_drains_stays_for_clients_that_were_away_until_they_came_or_the_grace_is_over() -> None:
    for comes in (True, False):
        cell = begun()
        cell.send(Detach(now_s=cell.now_s, session=S, connection=FIRST_CONNECTION))
        freeze(cell)
        cell.send(HandOver(now_s=cell.now_s, session=S))
        cell.run()
        cell.send(Drain(now_s=cell.now_s, grace_s=50.0))
        assert not cell.scheduler.sessions() and not cell.scheduler.draining.is_done
        if comes:
            cell.send(Attach(now_s=cell.now_s, session=S, connection=ConnectionNumber(3), cursor=None))
        else:
            cell.later(49)
            assert not cell.scheduler.draining.is_done
            cell.later(2)
        assert cell.scheduler.draining.is_done
    cell = begun()
    freeze(cell)
    cell.send(HandOver(now_s=cell.now_s, session=S))
    cell.run()
    cell.send(Drain(now_s=cell.now_s, grace_s=50.0))
    assert cell.scheduler.draining.is_done, "its client was there, and knows"


def test_what_has_not_begun_cannot_be_frozen_and_its_cues_are_left_alone() -> None:
    cell = ImageCell(recipe())
    cell.open("s")
    (refused,) = freeze(cell)
    assert refused.problem.kind is Fault.WRONG_STATE
    cell.send(Thaw(now_s=cell.now_s, session=S))
    cell.answer()
    cell.steps(4)


def test_a_fork_and_its_parent_are_not_parted_while_they_need_each_other() -> None:
    cell = begun()
    cell.fork("f", S)
    (refused,) = freeze(cell)
    assert refused.problem.kind is Fault.UNAVAILABLE and "fork" in refused.problem.message
    cell.answer()
    cell.steps(60)
    assert freeze(cell) == [], "they stand on their own"


def test_a_frozen_session_is_not_forked() -> None:
    cell = begun()
    freeze(cell)
    fork = Open(
        now_s=cell.now_s, session=SessionId("f"), prompt="f", seed=1, pace=Pace.FAST, window=4, picture_limit=None,
        settings=SETTINGS, fork=Fork(session=S),
    )  # fmt: skip
    cell.send(fork)
    (refused,) = effects_of(cell, Refused)
    assert "another server" in refused.problem.message


def test_a_session_of_another_server_is_let_in_only_where_there_is_room() -> None:
    donor = begun()
    request = donor.session("s").request

    def adopt(cell: ImageCell, name: str, *, promised: bool) -> Adopted | AdoptFailed:
        event = Adopt(
            now_s=cell.now_s, request=replace(request, session=SessionId(name)), made_by=MadeBy(lanes="", decoder=""),
            header=b"", media_type="", cues=(), latents=((),) * 4, acknowledged=-1, promised=promised,
        )  # fmt: skip
        (answer,) = [e for e in cell.send(event) if isinstance(e, Adopted | AdoptFailed)]
        return answer

    cell = ImageCell(recipe(), limits=Limits(max_sessions=1))
    assert isinstance(adopt(cell, "a", promised=False), Adopted)
    full = adopt(cell, "b", promised=False)
    assert isinstance(full, AdoptFailed) and full.problem.kind is Lack.SESSIONS
    assert isinstance(adopt(cell, "b", promised=True), Adopted), "what was promised is taken in"
    cell.send(Drain(now_s=cell.now_s, grace_s=60.0))
    late = adopt(cell, "c", promised=False)
    assert isinstance(late, AdoptFailed) and late.problem.kind is Fault.DRAINING


def test_blocks_whose_cues_are_not_known_are_not_made_again() -> None:
    cell = ImageCell(recipe())
    request = begun().session("s").request
    event = Adopt(now_s=0.0, request=request, made_by=MadeBy(lanes="", decoder=""), header=b"", media_type="", cues=(),
                  latents=((),) * 4, acknowledged=30, known_from=25)  # fmt: skip
    (answer,) = [e for e in cell.send(event) if isinstance(e, Adopted | AdoptFailed)]
    assert isinstance(answer, AdoptFailed) and "before 25" in answer.problem.message
    assert S not in cell.scheduler.cell.sessions


@pytest.mark.parametrize("steps", first(4, sorted(range(40, 160, 9), key=lambda steps: (steps - 40) % 36)))
def test_cues_that_were_forgotten_are_those_that_nothing_needs(steps: int) -> None:
    cell = ImageCell(recipe())
    cues = tuple(CueRequest(cue=CueId(f"c{block}"), prompt=f"c{block}", block=block) for block in range(1, 30, 3))
    cell.open("s", pictures=geometry().first_picture(60), cues=cues)
    cell.answer()
    cell.steps(steps)
    session = cell.session("s")
    known = session.prompts.known_from
    kept = [turn.block for turn in session.prompts.turns]
    assert known == 0 or known in kept, "from there on every block has the prompt that it had"
    retention = cell.scheduler.cell.fleet.retention(session.graph)
    assert retention.floors(session.progress, acknowledged=session.flow.acknowledged).texts >= known
    cell.run()
