"""Forks of the past in a whole cell, also when its server loses power, and proof that other bytes would be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from longtake.core.endings import Ending
from longtake.core.flow import Pace
from longtake.core.recipe.context import Level
from longtake.core.sessions.prompts import Prompts
from longtake.core.sessions.session import Session
from tests.samples import covering, first
from tests.simulation.calls import Violation
from tests.simulation.calm import SOME, calm
from tests.simulation.faults import SERVER, Fault, Moment, Phase, Trouble
from tests.simulation.scenarios import Scenario
from tests.simulation.wishes import Wish
from tests.simulation.world import World

AFTER, BACK = 12, 5
"""The fork is asked for when its parent's client has seen so many segments, at the block so much before."""


def rewound(seed: int, *, struck_at: int | None = None) -> Scenario:
    """A calm scenario in which a stream with cues is forked in its past, by one with another cue.

    The server loses power when it has come to that block of the fork, and again right after it has taken it over.
    """
    made = calm(seed)
    parent = replace(made.wishes[0], blocks=26, cues=(2, 9, 19), window=4)
    fork = Wish(
        number=1, begins_s=0.0, pace=Pace.FAST, window=2, blocks=24, cut_short=0, ack_s=0.02, cues=(11,), fork_of=0,
        fork_after=AFTER, fork_back=BACK,
    )  # fmt: skip
    fleet = replace(made.fleet, pages=40 * made.fleet.pages, slots=8)
    limits = replace(made.limits, rewind_blocks=20)
    faults: tuple[Fault, ...] = ()
    if struck_at is not None:
        seals = "D" if made.model.recipe.level is Level.INPUT else "C"
        at = [Moment(1, seals, 0, block, Phase.TAKEN) for block in (struck_at, struck_at + 3)]
        faults = tuple(Fault(at=each, client=1, victim=SERVER, trouble=Trouble.POWER, lasts_s=0.5) for each in at)
    return replace(
        made, wishes=(parent, fork), fleet=fleet, limits=limits, has_disk=struck_at is not None, faults=faults
    )


@pytest.mark.parametrize("seed", SOME)
def test_a_stream_and_a_fork_of_its_past_are_both_complete(seed: int) -> None:
    world = World(rewound(seed))
    outcome = world.run()
    assert set(outcome.endings) == {Ending.COMPLETED.value} and outcome.rewinds == 1
    assert world.clients[1].script.first == AFTER - BACK
    assert not world.clients[1].has_depended and not outcome.events["Recovered"]


@pytest.mark.parametrize(("seed", "struck_at"), covering(SOME, [8, 15], together=1))
def test_the_fork_goes_on_after_losses_of_power(seed: int, struck_at: int) -> None:
    world = World(rewound(seed, struck_at=struck_at))
    outcome = world.run()
    assert world.restarts == 2 and outcome.events["Adopted"] >= 2
    assert set(outcome.endings) == {Ending.COMPLETED.value}


@pytest.mark.parametrize("seed", first(3, SOME))
def test_a_fork_of_a_stream_that_was_given_its_beginning_goes_on_after_a_loss_of_power(seed: int) -> None:
    made = rewound(seed, struck_at=8)
    parent, fork = made.wishes
    frames = made.model.recipe.blocks.frames
    world = World(replace(made, wishes=(replace(parent, given=frames), fork)))
    outcome = world.run()
    assert world.restarts == 2 and world.clients[1].script.given_blocks == 1
    assert set(outcome.endings) == {Ending.COMPLETED.value}


def seen(seed: int) -> None:
    with pytest.raises(Violation, match=r"client 1, .* has other bytes"):
        World(rewound(seed)).run()


@pytest.mark.parametrize("seed", SOME)
def test_blocks_of_the_past_by_another_seed_are_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as they are made of noise again: at level INPUT."""
    made = rewound(seed)
    monkeypatch.setattr(Session, "seeds_before", lambda session, block: ((block, 99),))
    if made.model.recipe.level is Level.INPUT and made.model.recipe.history_blocks:
        seen(seed)
    else:
        assert set(World(made).run().endings) == {Ending.COMPLETED.value}


@pytest.mark.parametrize("seed", SOME)
def test_blocks_of_the_past_by_other_prompts_are_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inherit = Prompts.inherit

    def otherwise(own: Prompts, parent: Prompts, texts: Mapping[int, str], before: int) -> list[tuple[int, int]]:
        own.encoded.clear()
        versions = inherit(own, parent, {version: f"not {text}" for version, text in texts.items()}, before)
        own.encoded.clear()  # so that they are asked for
        return [(theirs + 1000, own) for theirs, own in versions]

    monkeypatch.setattr(Prompts, "inherit", otherwise)
    seen(seed)
