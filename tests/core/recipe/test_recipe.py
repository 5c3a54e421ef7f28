"""Recipes compute the reference's numbers and refuse contradictions, naming both sides."""

from __future__ import annotations

import dataclasses

import pytest

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.core.support.recipes import altered

HIAR = Recipe(
    steps=StepPlan(ladder=(1000, 750, 500, 250), shift=5.0),
    blocks=BlockPlan(frames=3),
    context=Context(level=Level.OUTPUT, window_frames=21),
)


def test_the_four_steps_of_hiar_have_the_published_levels() -> None:
    assert HIAR.sigmas == pytest.approx((1.0, 0.9375, 0.8333333, 0.625), abs=1e-7)
    assert HIAR.timesteps == pytest.approx((1000.0, 937.5, 833.33331, 625.0), abs=1e-5)
    assert HIAR.timesteps[2] != 833.0
    assert [HIAR.commit_timestep(step) for step in range(4)] == [*HIAR.timesteps[1:], 0.0]
    assert (HIAR.history_blocks, HIAR.lane_count, HIAR.page_count) == (6, 4, 21)


def test_a_clean_recipe_has_one_lane_committed_at_zero() -> None:
    clean = altered(HIAR, level=Level.CLEAN)
    assert clean.lane_count == 1
    assert [clean.commit_timestep(step) for step in range(4)] == [0.0] * 4


def test_noise_of_the_context_is_an_entry_of_the_schedule_and_the_label_is_what_is_said() -> None:
    noisy = altered(HIAR, level=Level.CLEAN, commit_step=250)
    assert (noisy.commit_sigma, noisy.commit_timestep(0)) == (0.625, 625.0)
    assert noisy.past_timesteps == (625.0,) * 4
    told = altered(noisy, commit_label=-1.0)
    assert (told.commit_timestep(0), told.past_timesteps) == (-1.0, (625.0,) * 4)
    clean = altered(HIAR, level=Level.CLEAN)
    assert (clean.commit_sigma, clean.commit_timestep(3)) == (0.0, 0.0)


def test_a_recipe_that_was_there_before_has_the_fields_and_the_digest_that_it_had() -> None:
    fields = {"steps", "shift", "level", "frames_per_block", "window_frames", "sink_frames", "positions", "block_limit"}
    assert HIAR.plain().keys() == fields
    assert HIAR.digest == "bb1f12085e007795eea9154a9860e93fe5007191630f12a070d83b161847452b"


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"ladder": ()}, InvalidField, ["recipe.steps"]),
        ({"ladder": (1000, 1001)}, InvalidField, ["recipe.steps", "1 to 1000"]),
        ({"ladder": (500, 500)}, InvalidField, ["recipe.steps", "strictly falling"]),
        ({"shift": 0.0}, InvalidField, ["recipe.shift"]),
        ({"sink_frames": -1}, InvalidField, ["recipe.sink_frames"]),
        ({"block_limit": 0}, InvalidField, ["recipe.block_limit"]),
        ({"window_frames": None}, Contradiction, ["recipe.window_frames", "recipe.block_limit"]),
        ({"sink_frames": 19}, Contradiction, ["recipe.window_frames = 21", "sink_frames = 19"]),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    change: dict[str, object], error: type[Exception], names: list[str]
) -> None:
    with pytest.raises(error) as caught:
        altered(HIAR, **change)
    assert all(name in str(caught.value) for name in names)


def test_the_digest_tells_recipes_apart() -> None:
    assert HIAR.digest == dataclasses.replace(HIAR).digest
    variants = [{"window_frames": 22}, {"level": Level.INPUT}, {"shift": 4.0}, {"sink_frames": 1}, {"block_limit": 9}]
    variants += [{"level": Level.CLEAN, **commit} for commit in ({}, {"commit_step": 50}, {"commit_label": -1.0})]
    digests = {altered(HIAR, **change).digest for change in variants}  # type: ignore[arg-type]
    assert len(digests | {HIAR.digest}) == 9
