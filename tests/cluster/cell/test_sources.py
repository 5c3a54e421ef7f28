"""Recipes that say at which level the past is read, through the real engine: each stream is that of its own loop.

The weights are small and random; tests.identity has the pocket's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Dispatch, Refused
from longtake.core.events import CueRequest
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.core.work import Batch, CueId, DecodeWork, Fork, SessionId
from tests.cluster.cell.all_at_once import PROMPTS, alone
from tests.cluster.cell.world import Hashes, expected_hashes, stream, until_sent
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model

PROMPT, OTHER, _ = PROMPTS
BLOCKS = 6
"""More than the window holds."""
CLEAN = altered(model_info().recipe, level=Level.CLEAN)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@cache
def right(model: Path, recipe: Recipe) -> list[str]:
    return expected_hashes(model, {0: PROMPT}, 7, BLOCKS, recipe)


async def served(model: Path, recipe: Recipe, *, window: int = 4, cues: tuple[CueRequest, ...] = ()) -> Hashes:
    """What the engine makes by a recipe."""
    return await alone(model, recipe, model_info().geometry.first_picture(BLOCKS), window=window, cues=cues)


def forwards(hashes: Hashes) -> list[Batch]:
    """The forwards that were dispatched, each with its ops."""
    dispatched = [effect.work for effect in hashes.effects if isinstance(effect, Dispatch)]
    return [work for work in dispatched if not isinstance(work, DecodeWork)]


NOISY: dict[str, dict[str, float]] = {
    "noise that the model is not told of": {"commit_step": 50, "commit_label": 0.0},
    "noise that it is told of": {"commit_step": 250},
    "no noise, and a label of its own": {"commit_label": -1.0},
}


@pytest.mark.parametrize("name", NOISY)
async def test_a_level_of_its_own_is_that_of_the_loop_and_no_other(model: Path, name: str) -> None:
    recipe = altered(CLEAN, **NOISY[name])
    made = (await served(model, recipe)).of("s")
    assert made == right(model, recipe)
    others = [altered(CLEAN, **fields) for other, fields in NOISY.items() if other != name]
    assert all(made[1:] != right(model, other)[1:] for other in (CLEAN, *others))
    assert made[0] == right(model, CLEAN)[0], "the first block has no past"


async def test_no_noise_that_is_told_as_none_is_clean_bit_for_bit(model: Path) -> None:
    made = await served(model, altered(CLEAN, commit_step=0, commit_label=0.0))
    assert made.of("s") == right(model, CLEAN)


TOGETHER: dict[str, dict[str, Any]] = {
    "one step apart": {"lag": 1},
    "two steps apart": {"lag": 2},
    "one step apart, both ways": {"lag": 1, "both_ways": True, "window_frames": 7},
    "two steps apart, both ways": {"lag": 2, "both_ways": True},
}
"""Of three steps; the window is otherwise of five frames, one of them a sink, and blocks are of two."""


@pytest.mark.parametrize("name", TOGETHER)
async def test_blocks_that_step_together_are_those_of_the_loop(model: Path, name: str) -> None:
    recipe = altered(CLEAN, level=Level.STAGGERED, **TOGETHER[name])
    lag, steps = recipe.context.lag, recipe.step_count
    hashes = await served(model, recipe)
    assert hashes.of("s") == right(model, recipe) != right(model, CLEAN)
    batches = forwards(hashes)
    assert len(batches) == steps + (BLOCKS - 1) * lag, "S + (N - 1) L iterations: the last block's commit is not wanted"
    assert max(map(len, batches)) == steps // lag + 1
    for number, batch in enumerate(batches):
        assert all(work.block * lag + work.op.step == number for work in batch if work.kind is Kind.DENOISE)
        assert all(work.block * lag + steps == number for work in batch if work.kind is Kind.COMMIT)
        assert [work.block for work in batch] == sorted(work.block for work in batch)


@pytest.mark.parametrize("name", TOGETHER)
async def test_where_commits_would_change_bits_they_go_alone_right_before_their_iteration(
    model: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.start.loading.joint_like_apart", lambda *_: False)
    recipe = altered(CLEAN, level=Level.STAGGERED, **TOGETHER[name])
    lag, steps = recipe.context.lag, recipe.step_count
    hashes = await served(model, recipe)
    assert hashes.of("s") == right(model, recipe)
    batches, iteration = forwards(hashes), 0
    for batch in batches:
        if batch[0].kind is Kind.COMMIT:
            assert [work.block * lag + steps for work in batch] == [iteration]
        else:
            assert {work.block * lag + work.op.step for work in batch} == {iteration}
            iteration += 1
    assert (iteration, len(batches) - iteration) == (steps + (BLOCKS - 1) * lag, BLOCKS - 1)


async def test_blocks_that_are_all_steps_apart_are_clean_bit_for_bit(model: Path) -> None:
    recipe = altered(CLEAN, level=Level.STAGGERED, lag=3)
    assert (await served(model, recipe)).of("s") == right(model, CLEAN)


@pytest.mark.parametrize("window", [1, 2])
async def test_a_client_that_takes_one_segment_at_a_time_gets_all_of_them(model: Path, window: int) -> None:
    """Credit is for what could be finished next: else blocks that have to begin for that would wait for ever."""
    recipe = altered(CLEAN, level=Level.STAGGERED, lag=1)
    assert (await served(model, recipe, window=window)).of("s") == right(model, recipe)


async def test_a_cue_shows_from_its_block_on_in_blocks_that_step_together(model: Path) -> None:
    recipe = altered(CLEAN, level=Level.STAGGERED, lag=1)
    cues = (CueRequest(cue=CueId("turn"), prompt=OTHER, block=3),)
    hashes = await served(model, recipe, cues=cues)
    made = expected_hashes(model, {0: PROMPT, 3: OTHER}, 7, BLOCKS, recipe)
    assert hashes.of("s") == made and made[:3] == right(model, recipe)[:3] != made[3:]


async def test_no_stream_is_forked_from_the_middle_of_blocks_that_step_together(model: Path) -> None:
    recipe = altered(CLEAN, level=Level.STAGGERED, lag=1)
    made = NamedRecipe(name="it", recipe=recipe)
    workers = tuple(replace(spec, recipes=(recipe,)) for spec in in_process_workers(model, recipe, sessions=2))
    async with in_process_engine(model, workers, recipes=[made]) as engine:
        parent = asyncio.create_task(stream(engine, "parent", PROMPT, recipe="it", window=1, acknowledge=False))
        await until_sent(engine, 1)
        for block in (None, 0):
            fork = Fork(session=SessionId("parent"), block=block)
            (refused,) = await stream(engine, "fork", PROMPT, fork=fork)
            assert isinstance(refused, Refused) and "step together" in refused.problem.message
        parent.cancel()
