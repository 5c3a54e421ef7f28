"""Cells with recipes of every mechanism, and proof that the simulation sees what goes wrong with each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest

from longtake.core.dispatch import adopting
from longtake.core.endings import Ending
from longtake.core.errors import LongtakeError
from longtake.core.events import Adopt
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.renewals import Renewal, Renewing
from longtake.core.recipe.shelf import Shelf
from longtake.core.recipe.shots import Shots
from tests.samples import first
from tests.simulation.calm import calmed
from tests.simulation.faults import SERVER, Fault, Moment, Phase, Trouble
from tests.simulation.scenarios import Scenario, scenario
from tests.simulation.summary import Summary
from tests.simulation.world import World
from workers.messages import Forward
from workers.simulated.lanes import SimulatedLanes

SEEDS = range(400)


known = cache(scenario)
"""They are looked through at each import."""


def where(holds: Callable[[Scenario], bool], count: int = 4) -> list[int]:
    """The first seeds of which this holds."""
    return list(islice((seed for seed in SEEDS if holds(known(seed))), count))


def renews(made: Scenario) -> bool:
    """Whether a recache makes blocks anew that later ones of the first client's stream read."""
    recipe = made.models[made.wishes[0].recipe].recipe
    return recipe.cues.change is not CueRule.SWAP and recipe.window.span > recipe.blocks.frames + recipe.sink_frames


def renews_jointly(made: Scenario) -> bool:
    """Whether these are several blocks that read one another: in a layer behind the first that shows."""
    recipe, reach = made.models[made.wishes[0].recipe].recipe, made.model.reach
    several = recipe.window.span - recipe.sink_frames >= 3 * recipe.blocks.frames
    return recipe.cues.change is CueRule.JOINT and several and reach.layers > 1


def recipe_of(made: Scenario) -> Recipe:
    """That of the first client's stream."""
    return made.models[made.wishes[0].recipe].recipe


def tells(made: Scenario) -> bool:
    """Whether it is a story in which something of a shot stays, that is no sink."""
    recipe = recipe_of(made)
    return recipe.cues.cut and recipe.context.shot_frames > 0 and recipe.sink_frames < recipe.blocks.lead


def tells_further_on(made: Scenario) -> bool:
    """Whether its shots stand apart in time, too."""
    return tells(made) and recipe_of(made).positions.shot_offset > 0


def runs_ahead(made: Scenario) -> bool:
    """Whether it looks at a reference that stands ahead of it."""
    return recipe_of(made).positions.reference_lead > 0


def eager(seed: int) -> Scenario:
    """A calm scenario whose first client cues at many blocks."""
    made = calmed(scenario(seed))
    wish = replace(made.wishes[0], blocks=16, cues=(1, 3, 4, 6, 8, 9, 11, 12), cut_short=0)
    fleet = replace(made.fleet, pages=10 * made.fleet.pages, slots=8)
    return replace(made, wishes=(wish, *made.wishes[1:]), fleet=fleet)


def powerless(made: Scenario, block: int) -> Scenario:
    """The same, and the server loses power when the first client's stream comes to a block."""
    at = Moment(0, "V", 0, block, Phase.TAKEN)
    fault = Fault(at=at, client=0, victim=SERVER, trouble=Trouble.POWER, lasts_s=0.5)
    return replace(made, has_disk=True, wishes=made.wishes[:1], faults=(fault,))


def is_seen(made: Scenario) -> bool:
    """Whether something is noticed."""
    try:
        outcome = World(made).run()
    except (AssertionError, LongtakeError, KeyError, IndexError):
        return True
    return set(outcome.endings) != {Ending.COMPLETED.value}


def all_is_well(made: Scenario) -> None:
    assert set(World(made).run().endings) == {Ending.COMPLETED.value}


@pytest.mark.slow
def test_every_mechanism_is_struck() -> None:
    summary = Summary()
    for seed in range(200, 300):
        summary.run(seed)
    assert not summary.failures, summary
    assert {"Renewed", "StepsSettled", "Recovered", "Parked", "Adopted"} <= summary.events.keys(), summary
    assert summary.points.hits["server", "renew"] + summary.points.hits["lane 0", "renew"], summary
    made = [scenario(seed) for seed in range(200, 300)]
    assert any(wish.given for each in made for wish in each.wishes)
    assert any(len({wish.recipe for wish in each.wishes}) > 1 for each in made), "several recipes in one cell"
    levels = {each.models[wish.recipe].recipe.level for each in made for wish in each.wishes}
    assert len(levels) == 4


@pytest.mark.parametrize("seed", first(2, where(renews)))
def test_a_recache_that_is_left_out_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, renewal = eager(seed), Renewing.renewal
    all_is_well(made)

    def empty(renewing: Renewing, block: int, version: int) -> Renewal:
        return replace(renewal(renewing, block, version), blocks=range(block, block))

    monkeypatch.setattr(Renewing, "renewal", empty)
    assert is_seen(made)


@pytest.mark.parametrize("seed", first(2, where(renews_jointly)))
def test_a_joint_recache_that_is_done_one_by_one_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = eager(seed)
    all_is_well(made)

    def one_by_one(lanes: SimulatedLanes, orders: Sequence[Forward]) -> list[bytes]:
        return [output for order in orders for output in lanes.forward(order)]

    monkeypatch.setattr(SimulatedLanes, "batch", one_by_one)
    assert is_seen(made)


@pytest.mark.parametrize("seed", first(2, where(renews)))
def test_a_recache_with_the_prompt_before_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, renewal = eager(seed), Renewing.renewal
    all_is_well(made)

    def older(renewing: Renewing, block: int, version: int) -> Renewal:
        return renewal(renewing, block, max(0, version - 1))

    monkeypatch.setattr(Renewing, "renewal", older)
    assert is_seen(made)


def test_loads_that_are_forgotten_with_the_server_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that a client has seen would be made again with other steps, if any was shed."""
    made = [eager(seed) for seed in where(lambda made: recipe_of(made).steps.most_load > 0)]
    made = [powerless(replace(each, limits=replace(each.limits, rewind_blocks=20)), 9) for each in made]
    for each in made:
        all_is_well(each)
    adopt = adopting.adopt

    def forgetting(event: Adopt, *rest: object, **named: object) -> object:
        return adopt(replace(event, loads=()), *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("longtake.core.scheduler.adopt", forgetting)
    assert [is_seen(each) for each in made].count(True) >= 2


def test_a_shot_that_is_not_made_anew_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """In those of the stories that go back to one."""
    stories = [eager(seed) for seed in where(tells)]
    for made in stories:
        all_is_well(made)
    monkeypatch.setattr(Shots, "again", lambda *_: None)
    assert [is_seen(made) for made in stories].count(True) >= 2


@pytest.mark.parametrize("seed", first(2, where(tells)))
def test_a_cut_that_only_changes_the_prompt_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = eager(seed)
    all_is_well(made)
    monkeypatch.setattr(Shots, "next", lambda _, shot, *__: shot)
    assert is_seen(made)


@pytest.mark.parametrize("seed", first(1, where(tells_further_on, 3)))
def test_shots_that_do_not_stand_apart_are_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = eager(seed)
    all_is_well(made)
    monkeypatch.setattr(Shelf, "shot_of", lambda *_: 0)
    assert is_seen(made)


@pytest.mark.parametrize("seed", first(1, where(runs_ahead, 3)))
def test_a_reference_that_waits_to_be_overtaken_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = eager(seed)
    all_is_well(made)
    monkeypatch.setattr(Positions, "ahead", lambda positions, _: positions.reference_lead)
    assert is_seen(made)
