"""Every recipe that ships, through the real engine over the same weights: each stream is the oracle's, bit for bit.

The weights are small and random; tests.identity has the pocket's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Dispatch
from longtake.core.events import CueRequest
from longtake.core.work import CueId, DecodeWork, Fork, SessionId
from longtake.recipes import shipped
from tests.cluster.cell.world import Hashes, expected_hashes, stream
from tests.workers.model_dir import model_info, write_model

PROMPT, OTHER = "a red ball circling in the fog", "a blue box swaying at night"
FRAMES = 12
"""More than the window holds."""
PICTURES = 1 + 4 * (FRAMES - 1)
NAMES = tuple(name for name, each in shipped().items() if not each.recipe.context.reference_frames)
"""What needs an image is in test_references.py: this model has no encoder."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@cache
def right(model: Path, name: str, seed: int = 7) -> list[str]:
    """What a stream must be by the oracle, which runs one recipe and nothing beside."""
    recipe = shipped()[name].recipe
    blocks = model_info().geometry.divided(recipe.blocks).blocks_for(PICTURES)
    return expected_hashes(model, {0: PROMPT}, seed, blocks, recipe)


async def served(model: Path, *names: str, denoise: int = 2, seed: int = 7) -> Hashes:
    """A stream of each of these recipes, all at once over the same workers."""
    hashes, recipes = Hashes(model_info().recipe.step_count), [shipped()[name] for name in names]
    workers = in_process_workers(model, shipped()["hiar"].recipe, denoise=denoise, sessions=len(names))
    workers = tuple(replace(spec, recipes=tuple(each.recipe for each in recipes)) for spec in workers)
    async with in_process_engine(model, workers, recorder=hashes, recipes=recipes) as engine:
        hashes.listen(engine)
        await asyncio.gather(
            *(stream(engine, name, PROMPT, recipe=name, seed=seed, picture_limit=PICTURES) for name in names)
        )
        engine.scheduler.check()
        assert all(view.free == view.ability.capacity for view in engine.scheduler.workers()), "nothing is left behind"
    return hashes


async def test_all_recipes_at_once_are_each_the_oracles(model: Path) -> None:
    hashes = await served(model, *NAMES)
    for name in NAMES:
        assert hashes.of(name) == right(model, name), name
    assert right(model, "asd") == right(model, "clean"), "nothing is shed of streams without due times"
    others = [name for name in NAMES if name not in ("asd", "longlive")]  # this is `sinks` until a prompt changes
    assert len({tuple(right(model, name)) for name in others}) == len(others), "no two recipes make the same"
    batches = [
        effect.work
        for effect in hashes.effects
        if isinstance(effect, Dispatch) and not isinstance(effect.work, DecodeWork)
    ]
    shared = [batch for batch in batches if len({work.session for work in batch}) > 1]
    assert all(len({(len(work.positions), len(work.pages.reads)) for work in batch}) == 1 for batch in shared)
    assert any(len({work.session for work in batch}) > 1 for batch in batches), "recipes share forwards"


async def test_two_clients_with_two_recipes_get_what_each_gets_alone(model: Path) -> None:
    both = await served(model, "one-step", "frame-wise-2", seed=3)
    for name in ("one-step", "frame-wise-2"):
        alone = await served(model, name, denoise=1, seed=3)
        assert both.of(name) == alone.of(name) == right(model, name, 3)


@pytest.mark.parametrize("name", ["clean", "frame-wise-2", "longlive-infinite"])
async def test_a_cue_and_a_fork_go_by_the_recipe_of_their_stream(model: Path, name: str) -> None:
    recipe, hashes = shipped()[name], Hashes(model_info().recipe.step_count)
    block = FRAMES // recipe.recipe.blocks.frames // 2
    workers = in_process_workers(model, shipped()["hiar"].recipe, sessions=2)
    async with in_process_engine(model, workers, recorder=hashes, recipes=[recipe]) as engine:
        hashes.listen(engine)
        cues = (CueRequest(cue=CueId("turn"), prompt=OTHER, block=block),)
        parent = asyncio.create_task(
            stream(engine, "parent", PROMPT, window=1, recipe=name, picture_limit=PICTURES, cues=cues)
        )
        while not engine.scheduler.cell.sessions or not hashes.of("parent"):
            await asyncio.sleep(0.001)
        fork = Fork(session=SessionId("parent"), block=1)
        await asyncio.gather(parent, stream(engine, "fork", PROMPT, fork=fork, picture_limit=PICTURES, cues=cues))
    made = expected_hashes(model, {0: PROMPT, block: OTHER}, 7, FRAMES // recipe.recipe.blocks.frames, recipe.recipe)
    assert hashes.of("parent") == made
    assert hashes.of("fork") == made[-len(hashes.of("fork")) :] and len(hashes.of("fork")) >= len(made) - 1
