"""What a client gives is encoded in parts, and whatever is lost between two of them the stream is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.endings import Ending
from tests.simulation.calls import Violation
from tests.simulation.calm import calmed
from tests.simulation.faults import DECODER, PART, SERVER, Fault, Moment, Phase, Trouble
from tests.simulation.scenarios import Scenario, scenario
from tests.simulation.wishes import Wish
from tests.simulation.world import World
from workers.simulated import fake
from workers.simulated.arithmetic import encoder_after


def with_clips(count: int) -> list[int]:
    """The first seeds of scenarios of which a stream begins with two latent frames or more."""
    return [seed for seed in range(400) if _longest(scenario(seed)).given > 1][:count]


def _longest(made: Scenario) -> Wish:
    """Of whoever gives most."""
    return max(made.wishes, key=lambda wish: (wish.given, -wish.number))


def struck(seed: int, phase: Phase, trouble: Trouble, victim: int) -> Scenario:
    """A calm scenario in which something is lost at the second part of a clip."""
    made, number = calmed(scenario(seed)), _longest(scenario(seed)).number
    at = Moment(number, PART, 0, 1, phase)
    fault = Fault(at=at, client=number, victim=victim, trouble=trouble, lasts_s=0.5)
    return replace(made, faults=(fault,), has_disk=made.has_disk or victim == SERVER)


@pytest.mark.parametrize("phase", [Phase.BEFORE, Phase.AFTER, Phase.REPORT])
@pytest.mark.parametrize("trouble", [Trouble.DIES, Trouble.STALLS])
@pytest.mark.parametrize("seed", with_clips(3))
def test_a_loss_between_two_parts_changes_nothing(seed: int, trouble: Trouble, phase: Phase) -> None:
    world = World(struck(seed, phase, trouble, DECODER))
    outcome = world.run()
    assert len(outcome.struck) == 1, "it was at that part"
    assert set(outcome.endings) == {Ending.COMPLETED.value}


@pytest.mark.parametrize("seed", with_clips(3))
def test_a_stream_whose_server_dies_before_it_begins_was_never_promised(seed: int) -> None:
    world = World(struck(seed, Phase.AFTER, Trouble.POWER, SERVER))
    outcome = world.run()
    assert len(outcome.struck) == 1 and world.restarts == 1


@pytest.mark.parametrize("seed", with_clips(3))
def test_an_encoder_that_begins_anew_at_every_part_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "encoder_after", lambda seen, pictures: encoder_after(b"", pictures))
    with pytest.raises(Violation):
        World(calmed(scenario(seed))).run()
