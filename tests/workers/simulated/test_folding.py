"""Folds of simulated workers: a stream of hundreds of blocks is the one that is computed by hand, without pages."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from benchmarks.simulated_streams import expected_latents
from longtake.core.errors import InternalFault
from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import ForwardWork, FromLatent
from tests.core.support.folded import folding
from tests.workers.model_dir import model_info
from tests.workers.simulated.stream import PROMPT, SEED, forwards_of
from workers.denoise.worker import tensor_to_bytes
from workers.messages import Forward
from workers.simulated.lanes import SimulatedLanes
from workers.simulated.text import simulated_text

BLOCKS = 300
RECIPES = {
    "input": folding(steps=3, sinks=2, memory=2, k=4, window=14, frames=6, first=2),
    "output": folding(Level.OUTPUT),
    "clean": folding(Level.CLEAN, sinks=0, memory=1, k=2, window=4, frames=1),
}


def made(recipe: Recipe, change: int | None = None) -> list[bytes]:
    """The finished latents of a stream; before block `change` what it folds is folded in another order."""
    info = replace(model_info(), recipe=recipe, geometry=model_info().geometry.divided(recipe.blocks))
    lanes = SimulatedLanes(info.geometry, pages=recipe.page_count * recipe.lane_count)
    features = tensor_to_bytes(simulated_text(info).encode(PROMPT).features_TC)
    journal: dict[tuple[int, int], bytes] = {}
    for work in forwards_of(recipe, info.geometry, BLOCKS):
        given = journal[work.block, work.input.ref.step] if isinstance(work.input, FromLatent) else b""
        order = Forward(work=_spoilt(work) if work.block == change else work, latents=given, conditioning=features)
        for latents in lanes.forward(order):
            journal[work.block, work.enters] = latents
    return [journal[block, recipe.step_count] for block in range(BLOCKS)]


def _spoilt(work: ForwardWork) -> ForwardWork:
    return replace(work, folds=tuple(replace(fold, reads=fold.reads[::-1]) for fold in work.folds))


@pytest.mark.parametrize("name", RECIPES)
def test_latents_of_a_long_stream_are_those_computed_by_hand(name: str) -> None:
    recipe = RECIPES[name]
    info = replace(model_info(), recipe=recipe, geometry=model_info().geometry.divided(recipe.blocks))
    right = list(islice(expected_latents(info, PROMPT, SEED), BLOCKS))
    assert made(recipe) == right
    other = made(recipe, change=5)
    assert other[:5] == right[:5] and all(one != two for one, two in zip(other[5:], right[5:], strict=True)), (
        "a memory never forgets"
    )


def test_a_page_that_was_never_written_is_folded_by_nobody() -> None:
    recipe = RECIPES["clean"]
    info = replace(model_info(), recipe=recipe, geometry=model_info().geometry.divided(recipe.blocks))
    lanes = SimulatedLanes(info.geometry, pages=recipe.page_count)
    work = next(work for work in forwards_of(recipe, info.geometry, 6) if work.folds)
    with pytest.raises(InternalFault, match="before it was written"):
        lanes.forward(Forward(work=work, conditioning=b"text"))
