"""Streams whose attention minds distance: each order says the paper's distances, whatever befalls the stream.

Every forward of these cells is held against benchmarks/places.py when it is sent (tests/core/support/contents.py), and
what simulated workers leave in pages depends on it.
"""

from __future__ import annotations

import pytest

from longtake.core.effects import Recovered
from longtake.core.recipe.context import Level
from longtake.core.recipe.positions import NO_BIAS, Bias, Numbering, Places, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.window import Window
from longtake.core.work import Continuity, Role
from tests.core.support import shooting
from tests.core.support.folded import folding
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import geometry, recipe
from tests.core.support.recaching import EVERY, CueStorm
from tests.core.support.recipes import APART, altered
from tests.core.support.world import Cell, effects_of, forwards_of

SLOPE = 0.1
LISTED = {"positions": Positions(stream=Numbering.LISTED, slope=SLOPE)}
ROWS: dict[str, Recipe] = {
    "clean": altered(recipe(Level.CLEAN), slope=SLOPE),
    "output": altered(recipe(Level.OUTPUT, steps=3), slope=SLOPE),
    "input": altered(recipe(Level.INPUT, steps=3), slope=SLOPE),
    "listed": altered(recipe(Level.CLEAN, sinks=2), **LISTED),
    "reference": altered(recipe(Level.OUTPUT), reference_frames=2, window_frames=11, **LISTED),
    "window": altered(EVERY["window, odd"], slope=SLOPE),
    "joint": altered(EVERY["joint, odd"], slope=SLOPE),
    "all of it": altered(EVERY["joint, all"], slope=SLOPE),
    "full": altered(EVERY["full"], slope=SLOPE),
    "sinks that move": altered(EVERY["window, moved"], **LISTED),
    "sinks that stay": altered(EVERY["output, kept"], **LISTED),
}
SHOTS = {name: shooting.EVERY[name] for name in ("listed", "listed, further on", "nothing stays")}
STEPPING = altered(recipe(Level.STAGGERED, steps=3), lag=1, slope=SLOPE)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ROWS)
def test_nothing_that_befalls_a_stream_changes_its_distances(name: str, seed: int) -> None:
    CueStorm(seed, ROWS[name]).run()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SHOTS)
def test_nor_of_a_story(name: str, seed: int) -> None:
    shooting.ShotStorm(seed, altered(SHOTS[name], slope=SLOPE)).run()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("level", [Level.CLEAN, Level.INPUT])
def test_nor_of_one_with_a_memory(level: Level, seed: int) -> None:
    CueStorm(seed, altered(folding(level), slope=SLOPE)).run()


@pytest.mark.parametrize("steps", range(5))
def test_blocks_that_step_together_are_rebuilt_with_their_distances(steps: int) -> None:
    """Their lanes are longer than their windows, so a slot is not a place in the order of reading."""
    cell = ImageCell(STEPPING, denoisers=1, batch_limit=4)
    session = cell.open("s", pictures=geometry().first_picture(40), window=6)
    for _ in range(60 + steps):
        if cell.answers:
            cell.send(cell.answers.popleft())
        elif cell.busy:
            cell.finish(cell.busy[0])
        else:
            cell.acknowledge(cell.owing()[0])
    old = next(view for view in cell.scheduler.workers() if view.role is Role.DENOISE)
    cell.lose(old.worker)
    cell.join(old.worker, old.role, old.ability.capacity)
    cell.settle()
    assert [effect.continuity for effect in effects_of(cell, Recovered)] == [Continuity.EXACT]
    assert all(work.bias.slope == SLOPE for work in forwards_of(cell))
    assert cell.closed[session].segments == 40
    cell.check_empty()


@pytest.mark.parametrize("level", APART)
def test_without_a_slope_orders_are_what_they_were(level: Level) -> None:
    plain, sloped = Cell(recipe(level)), Cell(altered(recipe(level), slope=SLOPE))
    for cell in (plain, sloped):
        cell.open("s", pictures=90)
        cell.run()
    orders, others = forwards_of(plain), forwards_of(sloped)
    assert {work.bias for work in orders} == {NO_BIAS} == {Bias(0.0, ())}
    assert [work.positions for work in orders] == [work.positions for work in others]
    assert [work.pages for work in orders] == [work.pages for work in others], "a slope changes nothing else"
    assert all(len(work.bias.places) == len(work.pages.reads) for work in others)


def _sign(patch: pytest.MonkeyPatch) -> None:
    usual = Bias.rows
    patch.setattr(Bias, "rows", lambda bias, queries: usual(Bias(-bias.slope, bias.places), queries))


def _query(patch: pytest.MonkeyPatch) -> None:
    usual = Bias.rows
    patch.setattr(Bias, "rows", lambda bias, queries: usual(bias, [0] * len(queries)))


def _order(patch: pytest.MonkeyPatch) -> None:
    usual = Positions.of

    def of(positions: Positions, window: Window, block: int, frames: tuple[int, ...] = ()) -> Places:
        made = usual(positions, window, block, frames)
        return made._replace(seen=tuple(sorted(made.seen)))

    patch.setattr(Positions, "of", of)


def _block(patch: pytest.MonkeyPatch) -> None:
    usual = Positions.of

    def of(positions: Positions, window: Window, block: int, frames: tuple[int, ...] = ()) -> Places:
        made, before = (usual(positions, window, each, frames) for each in (block, max(0, block - 1)))
        return made._replace(seen=before.seen if len(before.seen) == len(made.seen) else made.seen)

    patch.setattr(Positions, "of", of)


BREAKS = {"sign": _sign, "place of the query": _query, "order of time": _order, "of the block before": _block}


@pytest.mark.parametrize("name", BREAKS)
def test_a_mistake_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[name](monkeypatch)
    with pytest.raises(AssertionError, match="weighs by"):
        CueStorm(0, ROWS["clean"]).run()
