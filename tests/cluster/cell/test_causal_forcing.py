"""Causal-Forcing's own tensors through the real engine: frame-wise blocks, the first of which has a longer list.

The reference's noise is stored by the pass of a block's own list, ours is keyed by the step that receives it.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.cluster.cell.golden_engine import served
from tests.workers.golden_pair import GoldenPair, goldens, read
from tests.workers.oracle import ContiguousLanes
from tests.workers.oracle_plans import generate_by_lists

ATOL = 2e-5
GOLDENS = goldens("causal_forcing_tiny_*")
NAMES = list(GOLDENS)
RUNS = ("first_list", "equal_lists", "one_step", "global", "sink")
"""Those without given frames."""


def test_a_golden_is_there() -> None:
    assert NAMES, "tests/goldens holds one"


@cache
def golden_of(name: str) -> GoldenPair:
    return GoldenPair(*read(GOLDENS[name]))


def recipe_of(golden: GoldenPair, run: str) -> Recipe:
    """The recipe of a run, as its sidecar says it."""
    config, blocks = golden.config, golden.block_count
    scheduler, (window, sinks) = config["scheduler"], golden.sidecar["windows"][run]
    usual, first = tuple(scheduler["denoising_step_list"]), tuple(scheduler["denoising_step_list_first_chunk"])
    assert scheduler["warp_denoising_step"] and scheduler["context_noise"] == 0
    usual = usual[:1] if run == "one_step" else usual
    has_first = run != "equal_lists"
    return Recipe(
        steps=StepPlan(
            ladder=tuple(sorted({*usual, *(first if has_first else ())}, reverse=True)),
            shift=scheduler["timestep_shift"],
            usual=usual,
            first=first if has_first else (),
            first_blocks=int(has_first),
        ),
        blocks=BlockPlan(frames=golden.block_frames),
        context=Context(level=Level.CLEAN, window_frames=window, sink_frames=sinks),
        block_limit=blocks if window is None else None,
    )


def stored(golden: GoldenPair, block: int, number: int, frames: int) -> Tensor:
    """The reference's noise [F, C, H, W] of a block: what it starts from, or what is added before pass `number`."""
    source = golden.tensors["in.noise"] if number == 0 else golden.tensors["in.sde_noise"][number - 1]
    return source[0, block * frames : (block + 1) * frames]


async def made(golden: GoldenPair, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the engine makes by a recipe of the golden's noise."""
    steps, frames = recipe.steps, recipe.blocks.frames

    def noise(block: int, draw: int) -> Tensor:
        return stored(golden, block, steps.entries(block).index(steps.ladder[draw]), frames)

    return await served(golden, recipe, noise, golden.block_count, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS)
async def test_the_engine_makes_what_the_reference_makes(run: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_of(name)
    found = await made(golden, recipe_of(golden, run), monkeypatch)
    torch.testing.assert_close(found, golden.tensors[f"out.{run}"], atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", NAMES)
async def test_the_mistakes_of_the_sidecar_do_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is at least a thousand times as far off as is allowed, and as far as the reference says."""
    golden = golden_of(name)
    right, told = recipe_of(golden, "first_list"), golden.sidecar["discrimination"]
    window = right.context.window_frames
    assert window is not None

    def with_window(frames: int) -> Recipe:
        return Recipe(steps=right.steps, blocks=right.blocks, context=Context(level=Level.CLEAN, window_frames=frames))

    always = StepPlan(ladder=right.steps.ladder, shift=right.steps.shift)
    mistakes = {
        "window_plus_one_frame": with_window(window + 1),
        "window_minus_one_frame": with_window(window - 1),
        "first_list_ignored (out.equal_lists)": recipe_of(golden, "equal_lists"),
        "first_list_for_every_block": Recipe(steps=always, blocks=right.blocks, context=right.context),
    }
    for mistake, recipe in mistakes.items():
        found = await made(golden, recipe, monkeypatch)
        off = (found - golden.tensors["out.first_list"]).abs().max().item()
        assert off > 1000 * ATOL, mistake
        assert off == pytest.approx(told[mistake]["max"], rel=0.02), mistake
    without = await made(golden, recipe_of(golden, "first_list"), monkeypatch)
    assert (without - golden.tensors["out.sink"]).abs().max().item() == pytest.approx(
        told["sink_ignored, against out.sink"]["max"], rel=0.02
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS)
def test_the_oracle_of_lists_makes_what_the_reference_makes(run: str, name: str) -> None:
    golden = golden_of(name)
    recipe, text = recipe_of(golden, run), golden.tensors["in.prompt_embeds"]
    frames, blocks = recipe.blocks.frames, golden.block_count
    latents = generate_by_lists(
        golden.model,
        lambda _: text,
        ContiguousLanes(golden.model, recipe.window_frames, recipe.sink_frames),
        [recipe.steps.entries(block) for block in range(blocks)],
        lambda block, _, number: stored(golden, block, number, frames).unsqueeze(0),
        frames=frames,
        shift=recipe.steps.shift,
    )
    torch.testing.assert_close(torch.cat(latents, 1), golden.tensors[f"out.{run}"], atol=ATOL, rtol=0)
