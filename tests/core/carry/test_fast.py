"""Recovery from windows alone: fewer blocks are made again, less is kept, and the client is told what that is worth."""

from __future__ import annotations

import pytest

from longtake.core.effects import Recovered
from longtake.core.limits import Limits, Recover
from longtake.core.recipe.context import Level
from longtake.core.sessions.replay import Stretch
from longtake.core.sessions.retention import Depths, Retention
from longtake.core.work import Continuity
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import recipe
from tests.core.support.recipes import APART
from tests.core.support.world import effects_of
from workers.simulated.arithmetic import REACH


def retention(recover: Recover, layers: int = 5) -> Retention:
    graph = ImageCell(recipe()).graph
    return Retention(graph=graph, depths=Depths(layers=layers, frames=8), recover=recover)


def test_a_lane_is_rebuilt_from_its_window_and_no_more_is_kept() -> None:
    history = recipe().history_blocks
    exact, fast = retention(Recover.EXACT), retention(Recover.FAST)
    assert (exact.lane_blocks, fast.lane_blocks) == (5 * history, history)
    assert exact.slot_blocks == fast.slot_blocks, "a decoder stays exact"
    assert fast.most_latents(4) < exact.most_latents(4)
    assert retention(Recover.FAST, layers=0).lane_blocks == 0, "no worker has said yet how far back it remembers"


@pytest.mark.parametrize(
    ("recover", "first", "continuity"),
    [
        (Recover.EXACT, 0, Continuity.EXACT),
        (Recover.EXACT, 7, Continuity.EXACT),
        (Recover.FAST, 0, Continuity.EXACT),  # all of the stream is made again
        (Recover.FAST, 1, Continuity.APPROXIMATE),
    ],
)
def test_what_that_is_worth(recover: Recover, first: int, continuity: Continuity) -> None:
    assert retention(recover).continuity(Stretch(range(first, first + 1))) is continuity


@pytest.mark.parametrize("recover", list(Recover))
@pytest.mark.parametrize("level", APART)
def test_the_client_is_told(recover: Recover, level: Level) -> None:
    cell = ImageCell(recipe(level), limits=Limits(recover=recover), denoisers=2)
    session = cell.open("s", window=2)
    cell.answer()
    cell.steps(150)
    assert cell.session(session).emitted > recipe(level).history_blocks + 2
    cell.lose(cell.session(session).place.lanes[0])
    record = cell.session(session)
    replays = [sum(record.progress.is_replay(chain, block) for block in range(40)) for chain in cell.graph.sealing]
    layers = {Recover.EXACT: REACH.layers, Recover.FAST: 1}[recover]
    assert max(replays) == layers * recipe(level).history_blocks
    expected = Continuity.EXACT if recover is Recover.EXACT else Continuity.APPROXIMATE
    assert record.continuity is expected
    assert not effects_of(cell, Recovered)
