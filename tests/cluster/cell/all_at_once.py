"""Streams by recipes of which none is the model's own: one alone, or several at once with the same cues."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.cell.journal import GivenPictures
from cluster.render import in_process_engine, in_process_workers
from longtake.core.events import CueRequest
from longtake.core.limits import Limits
from longtake.core.recipe.cues import CueEffect
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.core.work import CueId, SessionId
from tests.cluster.cell.world import Hashes, stream
from tests.workers.model_dir import model_info
from workers.models import weights

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
"""The first is that of the beginning; each cue takes the next."""


def cued(turns: Sequence[int], changes: Mapping[int, CueEffect | None]) -> tuple[CueRequest, ...]:
    """A cue for each of these blocks, which does so much beside changing the prompt."""
    return tuple(
        CueRequest(cue=CueId(f"c{turn}"), prompt=PROMPTS[(turn + 1) % 3], block=block, change=changes.get(block))
        for turn, block in enumerate(turns)
    )


async def alone(
    model: Path,
    recipe: Recipe,
    pictures: int,
    *,
    denoise: int = 1,
    limits: Limits | None = None,
    given: GivenPictures | None = None,
    cues: tuple[CueRequest, ...] = (),
    window: int = 4,
) -> Hashes:
    """Stream "s" by a recipe; nobody else is in the cell."""
    named, hashes = NamedRecipe(name="it", recipe=recipe), Hashes(recipe.step_count)
    workers = in_process_workers(model, recipe, denoise=denoise, sessions=2)
    workers = tuple(replace(spec, recipes=(recipe,)) for spec in workers)
    async with in_process_engine(model, workers, limits, hashes, [named]) as engine:
        hashes.listen(engine)
        if given is not None:
            engine.journal.give(SessionId("s"), given)
        await stream(engine, "s", PROMPTS[0], recipe="it", picture_limit=pictures, cues=cues, window=window)
        engine.scheduler.check()
        assert not engine.journal.size_bytes, "nothing is left behind"
    return hashes


async def all_at_once(
    model: Path, recipes: Mapping[str, Recipe], cues: tuple[CueRequest, ...], *, blocks: int, denoise: int
) -> Hashes:
    """A stream of so many blocks, of 2 frames each, by each recipe; it has the recipe's name."""
    named = [NamedRecipe(name=name, recipe=recipe) for name, recipe in recipes.items()]
    hashes, own = Hashes(model_info().recipe.step_count), weights.load_info(model).recipe
    workers = in_process_workers(model, own, denoise=denoise, sessions=3 * len(named) + 3)
    workers = tuple(replace(spec, recipes=tuple(each.recipe for each in named)) for spec in workers)
    pictures = 1 + 4 * (2 * blocks - 1)
    async with in_process_engine(model, workers, recorder=hashes, recipes=named) as engine:
        hashes.listen(engine)
        await asyncio.gather(
            *(stream(engine, name, PROMPTS[0], recipe=name, cues=cues, picture_limit=pictures) for name in recipes)
        )
        engine.scheduler.check()
        assert all(view.free == view.ability.capacity for view in engine.scheduler.workers()), "nothing is left behind"
    return hashes
