"""Seeds of the simulation, and proof that it would have seen it if something had gone wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cluster.cell.engine import Engine
from cluster.cell.journal import Journal
from cluster.cell.outbox import ClientMessage, SegmentOut
from longtake.core.endings import Ending
from longtake.core.errors import InternalFault
from longtake.core.events import Ack, Event
from longtake.core.recipe.context import Level
from longtake.core.sessions.retention import Retention
from longtake.core.work import LatentRef, SessionId
from tests.samples import covering, first
from tests.simulation.calls import Told, Violation
from tests.simulation.calm import SOME, calm
from tests.simulation.faults import DECODER, Fault, Moment, Phase, Trouble
from tests.simulation.scenarios import Scenario, scenario
from tests.simulation.summary import Summary
from tests.simulation.world import World
from workers.messages import Forward
from workers.simulated.lanes import SimulatedLanes


@pytest.mark.parametrize("seeds", first(1, [range(80, 160), range(160, 300)]), ids=str)
def test_streams_are_what_they_must_be_whatever_befalls_the_workers(seeds: range) -> None:
    summary = Summary()
    for seed in seeds:
        summary.run(seed)
    count = len(seeds)
    assert not summary.failures, summary
    several = sum(seeds for faults, seeds in summary.struck.items() if faults > 1)
    assert summary.struck[1] + several > 0.4 * count and several > count / 50, summary
    assert len(summary.points.hits) > 30, summary
    wanted = {"Recovered", "Parked", "Restored", "LaneMoved", "CueApplied", "CueSuperseded", "WorkerLost", "Give"}
    assert wanted <= summary.events.keys(), summary
    assert {"Adopted", "Resumed", "ClientAway"} <= summary.events.keys(), summary
    assert sum(hits for (victim, _), hits in summary.points.hits.items() if victim == "server") > count / 20, summary
    assert summary.segments > 5 * count and summary.rewinds > count / 20, summary


def test_a_seed_is_one_run_to_the_last_event() -> None:
    first, second = (World(scenario(7)) for _ in range(2))
    first.run()
    second.run()
    assert first.trace == second.trace and first.outcome == second.outcome


# --- what it would see ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SOME)
def test_without_faults_all_streams_are_complete(seed: int) -> None:
    outcome = World(calm(seed)).run()
    assert set(outcome.endings) == {Ending.COMPLETED.value}


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


class Nth:
    """Tells when something happens for the n-th time."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self) -> bool:
        self._left -= 1
        return self._left == 0


@pytest.mark.parametrize("seed", SOME)
def test_one_op_that_is_computed_wrongly_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, is_wrong = SimulatedLanes.forward, Nth(5)

    def wrongly(lanes: SimulatedLanes, order: Forward) -> list[bytes]:
        outputs = forward(lanes, order)
        return [flipped(output) for output in outputs] if outputs and is_wrong() else outputs

    monkeypatch.setattr(SimulatedLanes, "forward", wrongly)
    with pytest.raises(Violation, match="has other bytes"):
        World(calm(seed)).run()


@pytest.mark.parametrize("seed", SOME)
def test_one_latent_that_changes_in_the_journal_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, is_changed = Journal.latents, Nth(4)

    def changed(journal: Journal, ref: LatentRef) -> bytes:
        data = latents(journal, ref)
        return flipped(data) if is_changed() else data

    monkeypatch.setattr(Journal, "latents", changed)
    with pytest.raises(Violation, match="has other bytes"):
        World(calm(seed)).run()


@pytest.mark.parametrize("seed", first(3, SOME))
def test_one_acknowledgement_that_is_lost_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, is_lost = Engine.submit, Nth(2)

    def losing(engine: Engine, event: Event) -> None:
        if not (isinstance(event, Ack) and is_lost()):
            submit(engine, event)

    monkeypatch.setattr(Engine, "submit", losing)
    made = calm(seed)
    patient = tuple(replace(wish, window=1, blocks=wish.blocks + 3) for wish in made.wishes)
    with pytest.raises(Violation, match="not over"):
        World(replace(made, wishes=patient)).run()


def dropping(outbox: Told, message: SegmentOut, offer: Callable[[Told, ClientMessage], bool]) -> bool:
    return True


def doubling(outbox: Told, message: SegmentOut, offer: Callable[[Told, ClientMessage], bool]) -> bool:
    return offer(outbox, message) and offer(outbox, message)


@pytest.mark.parametrize(("seed", "change"), covering(SOME, [dropping, doubling], together=1))
def test_one_segment_that_is_dropped_or_doubled_is_seen(
    seed: int,
    change: Callable[[Told, SegmentOut, Callable[[Told, ClientMessage], bool]], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer, is_changed = Told.offer, Nth(2)

    def changing(outbox: Told, message: ClientMessage) -> bool:
        if isinstance(message, SegmentOut) and is_changed():
            return change(outbox, message, offer)
        return offer(outbox, message)

    monkeypatch.setattr(Told, "offer", changing)
    with pytest.raises(Violation, match=r"was expected|segments came|comes next|not over"):
        World(calm(seed)).run()


@pytest.mark.parametrize("seed", SOME)
def test_a_journal_that_is_not_dropped_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(journal: Journal, session: SessionId) -> None:
        pass

    monkeypatch.setattr(Journal, "drop", keep)
    with pytest.raises(Violation, match="journal"):
        World(calm(seed)).run()


def struck(seed: int, victim: int) -> Scenario:
    """A calm scenario in which the first client's worker dies, further on than what it held remembers.

    It dies between blocks, and the engine knows of all before: inside one, less would do.
    """
    made = calm(seed)
    wish = replace(made.wishes[0], blocks=20)
    seals = "D" if made.model.recipe.level is Level.INPUT else "C"
    at = Moment(0, "V" if victim == DECODER else seals, 0, 13, Phase.TAKEN)
    fault = Fault(at=at, client=0, victim=victim, trouble=Trouble.DIES, lasts_s=0.5)
    fleet = replace(made.fleet, chain_length=1)
    return replace(made, fleet=fleet, wishes=(wish, *made.wishes[1:]), faults=(fault,))


def one_less(blocks: Callable[[Retention], int]) -> property:
    return property(lambda retention: blocks(retention) - 1)


@pytest.mark.parametrize(("seed", "lost"), covering(SOME, [(0, "lane_blocks"), (DECODER, "slot_blocks")], together=1))
def test_a_rebuild_from_one_block_less_is_seen(
    seed: int, lost: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, what = lost
    made = struck(seed, victim)
    outcome = World(made).run()
    assert outcome.struck and set(outcome.endings) == {Ending.COMPLETED.value}
    enough = getattr(Retention, what)
    monkeypatch.setattr(Retention, what, one_less(enough.func))
    with pytest.raises((AssertionError, InternalFault), match=r"has other bytes|was prepared|before it was written"):
        World(made).run()
