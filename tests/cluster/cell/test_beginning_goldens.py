"""Given frames and hybrid starts through the real engine equal the reference implementations; mistakes are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.cluster.cell.beginning_goldens import FILES, BeginningGolden, Run, made, mistaken
from tests.workers.golden_pair import ABSENT

if not FILES:
    pytest.skip(ABSENT, allow_module_level=True)
ATOL = 2e-5


def runs() -> list[tuple[str, str]]:
    """Every output of every golden that a recipe makes."""
    named = {name: BeginningGolden.load(name) for name in FILES}
    return [(name, run) for name, golden in named.items() for run in golden.runs if golden.run(run) is not None]


def test_there_are_hybrid_starts_and_given_frames_among_them() -> None:
    names = {output for _, output in runs()}
    if any(name.startswith("hiar") for name in FILES):
        assert {"hybrid_block0_n1", "ext_block_first", "ext_timestep_first"} <= names
    if any(name.startswith("self_forcing") for name in FILES):
        assert {"image", "image_and_block", "continue", "first_frame_alone", "image_framewise"} <= names


def run_of(golden: BeginningGolden, output: str) -> Run:
    run = golden.run(output)
    assert run is not None
    return run


@pytest.mark.parametrize(("name", "output"), runs())
async def test_what_the_engine_makes_is_the_references(name: str, output: str) -> None:
    golden = BeginningGolden.load(name)
    expected = golden.tensors[f"out.{output}"]
    value = await made(golden, run_of(golden, output))
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, rtol=0, atol=ATOL)


def mistakes() -> list[tuple[str, str, str]]:
    found = []
    for name, output in runs():
        golden = BeginningGolden.load(name)
        if output == "image":
            named = ("window_plus_one_frame", "window_minus_one_frame", "sink_changed", "noise_not_shifted")
            assert all(any(key.startswith(one) for key in golden.sidecar["discrimination"]) for one in named)
            found += [(name, output, mistake) for mistake in named]
        if output.startswith("hybrid_block0"):
            found += [(name, output, mistake) for mistake in ("start left out", "start one block longer")]
        if output.startswith("ext_"):
            found += [(name, output, mistake) for mistake in ("window_minus_one_frame", "sink_changed")]
    return found


@pytest.mark.parametrize(("name", "output", "mistake"), mistakes())
async def test_the_goldens_tell_a_mistake(name: str, output: str, mistake: str) -> None:
    golden = BeginningGolden.load(name)
    value = await made(golden, mistaken(run_of(golden, output), mistake))
    assert (value - golden.tensors[f"out.{output}"]).abs().max() > 100 * ATOL


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("self_forcing")])
async def test_the_goldens_tell_an_image_that_is_ignored_or_repeated(name: str) -> None:
    golden = BeginningGolden.load(name)
    expected, run = golden.tensors["out.image"], run_of(golden, "image")
    alone = await made(golden, run_of(golden, "first_frame_alone"))
    assert (alone[:, 1:] - expected[:, 1:]).abs().max() > 100 * ATOL
    image = golden.tensors["in.initial_latent"][:, :1]
    frames = run.recipe.blocks.frames
    tensors = golden.tensors | {"in.initial_latent": image.repeat(1, frames, 1, 1, 1)}
    repeated = BeginningGolden(golden.sidecar, tensors)
    whole = await made(repeated, replace(run, given_frames=frames))
    made_of_it = whole[:, frames : frames + expected.shape[1] - frames]
    assert (made_of_it - expected[:, 1 : 1 + made_of_it.shape[1]]).abs().max() > 100 * ATOL
