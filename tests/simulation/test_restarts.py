"""Servers that lose power and start again on the same disk, and proof that the simulation sees what goes wrong then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from cluster.cell.durability import Durability, Told
from cluster.journal.reading import JournalFolder, StoredSession
from longtake.core.dispatch.attendance import Attendance
from longtake.core.effects import Effect
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault
from longtake.core.recipe.context import Level
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.session import Session
from tests.samples import first
from tests.simulation.calm import SOME, calm
from tests.simulation.faults import SERVER, Fault, Moment, Phase, Trouble
from tests.simulation.scenarios import Scenario
from tests.simulation.world import World


def restarted(seed: int) -> Scenario:
    """A calm scenario whose server loses power in the middle of the first client's stream; it has cues."""
    made = calm(seed)
    wish = replace(made.wishes[0], blocks=20, cues=(2, 17))
    seals = "D" if made.model.recipe.level is Level.INPUT else "C"
    at = Moment(0, seals, 0, 13, Phase.TAKEN)
    fault = Fault(at=at, client=0, victim=SERVER, trouble=Trouble.POWER, lasts_s=0.5)
    return replace(made, has_disk=True, wishes=(wish,), faults=(fault,))


@pytest.mark.parametrize("seed", SOME)
def test_streams_go_on_after_a_loss_of_power(seed: int) -> None:
    world = World(restarted(seed))
    outcome = world.run()
    assert outcome.struck and world.restarts == 1 and outcome.events["Resumed"]
    assert set(outcome.endings) == {Ending.COMPLETED.value}


def seen(seed: int, match: str) -> None:
    with pytest.raises((AssertionError, InternalFault), match=match):
        World(restarted(seed)).run()


@pytest.mark.parametrize("seed", SOME)
def test_what_is_told_before_it_is_on_disk_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    holds = Durability.holds

    def at_once(durability: Durability, told: Told) -> bool:
        holds(durability, told)
        return False

    monkeypatch.setattr(Durability, "holds", at_once)
    seen(seed, "is told, and the disk holds")


@pytest.mark.parametrize("seed", SOME)
def test_a_frontier_that_is_one_too_high_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frontier: Callable[..., tuple[int, ...]] = Retention.frontier

    def higher(retention: Retention, *arguments: object, **named: object) -> tuple[int, ...]:
        return tuple(each + 1 for each in frontier(retention, *arguments, **named))

    monkeypatch.setattr(Retention, "frontier", higher)
    seen(seed, "missing|other bytes|was expected|before it was written|not over|is told|was prepared|and yet")


@pytest.mark.parametrize("seed", first(3, SOME))
def test_segments_that_are_sent_again_from_the_wrong_one_are_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resend = Attendance.resend_from

    def later(attendance: Attendance, session: Session, segment: int, *, now_s: float) -> list[Effect]:
        return resend(attendance, session, segment + 1, now_s=now_s)

    monkeypatch.setattr(Attendance, "resend_from", later)
    seen(seed, "was expected|not over")


@pytest.mark.parametrize("seed", SOME)
def test_a_cue_that_is_lost_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = JournalFolder.sessions

    def without_cues(found: JournalFolder) -> Iterator[StoredSession]:
        return (replace(stored, cues=()) for stored in sessions(found))

    monkeypatch.setattr(JournalFolder, "sessions", without_cues)
    seen(seed, "were accepted, and are lost")
