"""The arithmetic of simulated workers forgets like a model does: after a known number of blocks, and not one sooner."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.core.errors import InternalFault
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from workers.simulated import arithmetic
from workers.simulated.arithmetic import Reach

GEOMETRY = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=4, blocks=BlockPlan(frames=1))
Pages = dict[int, NDArray[np.uint8]]
"""By frame."""


def recipe(frames_per_block: int, window: int, sinks: int) -> Recipe:
    return Recipe(
        steps=StepPlan(ladder=(1000,), shift=5.0),
        blocks=BlockPlan(frames=frames_per_block),
        context=Context(level=Level.CLEAN, window_frames=window, sink_frames=sinks),
    )


def commits(blocks: list[int], made: Recipe, reach: Reach) -> Pages:
    """The pages of a lane after commits of these blocks, in this order; none reads what none of them wrote."""
    pages: Pages = {}
    for block in blocks:
        first = block * made.blocks.frames
        own = range(first, first + made.blocks.frames)
        seen = sorted(made.window.frames(block), key=made.window.slot)
        blank = arithmetic.no_pages(1, reach)[0]
        context = np.stack([blank if frame in own else pages[frame] for frame in seen if frame in {*own, *pages}])
        values = arithmetic.forward(b"latents of %d" % block, b"text", 0.0, own, context)
        pages |= dict(zip(own, arithmetic.pages_of(values, own), strict=True))
    return pages


def same(one: Pages, other: Pages, frames: tuple[int, ...]) -> bool:
    return all(frame in one and np.array_equal(one[frame], other[frame]) for frame in frames)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("frames_per_block", "window", "sinks"), [(1, 2, 0), (1, 4, 0), (3, 9, 0), (3, 8, 0), (2, 7, 2)]
)
def test_pages_are_exact_after_as_many_replayed_blocks_as_history_and_layers_say(
    layers: int, frames_per_block: int, window: int, sinks: int
) -> None:
    """A window of H past blocks: H x layers blocks. Sinks, which nothing ever leaves, come before."""
    made, reach = recipe(frames_per_block, window, sinks), Reach(layers=layers)
    needed = made.history_blocks * layers
    sink_blocks = list(range(-(-sinks // frames_per_block)))
    for end in range(len(sink_blocks) + needed, len(sink_blocks) + needed + 6):
        first = end * frames_per_block
        held = tuple(frame for frame in made.window.frames(end) if frame < first)
        stream = commits(list(range(end)), made, reach)
        assert same(commits([*sink_blocks, *range(end - needed, end)], made, reach), stream, held)
        assert not same(commits([*sink_blocks, *range(end - needed + 1, end)], made, reach), stream, held)


def test_a_replay_of_one_block_too_few_is_wrong_in_the_last_layer_of_the_oldest_block_alone() -> None:
    """What makes the bound tight, by hand: H = 2, three layers, so block 14 reads 12 and 13, and 8 to 13 are enough."""
    made, reach = recipe(1, 3, 0), Reach(layers=3)
    stream, replayed = commits(list(range(14)), made, reach), commits(list(range(9, 14)), made, reach)
    equal = [[np.array_equal(replayed[b][layer], stream[b][layer]) for layer in range(3)] for b in range(9, 14)]
    assert equal == [
        [True, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, False],
        [True, True, True],
    ]


def test_the_first_layer_of_a_page_is_its_own_blocks_and_every_layer_knows_the_position() -> None:
    alone = arithmetic.no_pages(1, Reach(layers=2))
    beside = np.concatenate([alone, np.ones_like(alone)])
    values = [arithmetic.forward(b"x", b"text", 0.0, (7,), context) for context in (alone, beside)]
    (one,), (other,) = (arithmetic.pages_of(value, (7,)) for value in values)
    assert np.array_equal(one[0], other[0])
    assert not np.array_equal(one[1], other[1])
    assert arithmetic.are_written(one[None]) and not arithmetic.are_written(alone)
    (elsewhere,) = arithmetic.pages_of(values[0], (8,))
    assert not any(np.array_equal(*pair) for pair in zip(one, elsewhere, strict=True))


@pytest.mark.parametrize(
    "changed",
    ["latents", "text", "timestep", "position", "page", "order of pages", "noise", "turns", "a turn", "order of turns"],
)
def test_what_leaves_a_denoise_op_depends_on_everything_that_enters_it(changed: str) -> None:
    def output(change: str) -> bytes:
        pages = arithmetic.pages_of((b"a" * 32, b"b" * 32, b""), (1, 2 if change != "page" else 3))
        context = np.concatenate(
            [pages[::-1] if change == "order of pages" else pages, arithmetic.no_pages(1, Reach())]
        )
        values = arithmetic.forward(
            b"y" if change == "latents" else b"x", b"u" if change == "text" else b"t",
            1.0 if change == "timestep" else 2.0, (4,) if change == "position" else (3,), context,
            {"turns": (), "a turn": (2, 0, 3), "order of turns": (1, 2, 0)}.get(change, (2, 1, 0)),
        )  # fmt: skip
        return arithmetic.denoised(values[-1], arithmetic.noise(1, 2, 3 + (change == "noise")), GEOMETRY)

    assert output("nothing") == output("nothing") != output(changed)


def test_pages_of_one_block_differ_where_none_has_a_position() -> None:
    one, other = arithmetic.pages_of((b"a" * 31 + b"b", b"c" * 32), (0, 0))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("latents", [1, 2, 4, 7])
def test_a_decoder_is_exact_after_as_many_latents_as_it_keeps(latents: int) -> None:
    reach = Reach(latents=latents)

    def state_after(frames: range) -> bytes:
        state = arithmetic.first_state(reach)
        for frame in frames:
            _, state = arithmetic.decoded(latent(frame), state, GEOMETRY)
        return state

    for end in range(latents + 1, latents + 9):
        assert state_after(range(end - latents, end)) == state_after(range(end))
        assert state_after(range(end - latents + 1, end)) != state_after(range(end))


@pytest.mark.parametrize("latents", [1, 2, 4, 7])
def test_what_no_picture_will_depend_on_may_be_left_out_of_a_state(latents: int) -> None:
    reach, end = Reach(latents=latents), 20

    def state_after(*, too_much: int) -> bytes:
        state = arithmetic.first_state(reach)
        for frame in range(end):
            later = end - frame - 1
            state = arithmetic.advanced(latent(frame), state, GEOMETRY, later_frames=later + too_much)
        return state

    whole = arithmetic.first_state(reach)
    for frame in range(end):
        whole = arithmetic.decoded(latent(frame), whole, GEOMETRY)[1]
    assert state_after(too_much=0) == whole
    assert state_after(too_much=1) != whole


def latent(frame: int) -> bytes:
    return arithmetic.latents_of(arithmetic.mix(b"%d" % frame), GEOMETRY)


def test_frames_decoded_together_leave_the_state_that_they_leave_alone() -> None:
    state = arithmetic.first_state(Reach(latents=4))
    _, together = arithmetic.decoded(
        latent(0) + latent(1) + latent(2), state, replace(GEOMETRY, blocks=BlockPlan(frames=3))
    )
    for frame in range(3):
        _, state = arithmetic.decoded(latent(frame), state, GEOMETRY)
    assert state == together


def test_a_picture_depends_on_its_block_its_number_and_the_latents_before() -> None:
    names = set()
    for first in range(3):
        state = arithmetic.first_state(Reach(latents=2))
        for frame in range(first, 3):
            name, state = arithmetic.decoded(latent(frame), state, GEOMETRY)
        names.add(name)
    shown = [arithmetic.pictures(name, number, 2, GEOMETRY) for name in sorted(names) for number in (0, 1)]
    assert {block.shape for block in shown} == {(2, 16, 16, 3)}
    assert len({picture.tobytes() for block in shown for picture in block}) == 3 * 3


def test_latents_of_part_of_a_frame_are_refused() -> None:
    for wrong in (b"", b"x", latent(0)[:-1]):
        with pytest.raises(InternalFault, match="64 bytes each"):
            arithmetic.decoded(wrong, arithmetic.first_state(Reach()), GEOMETRY)
