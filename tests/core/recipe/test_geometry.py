"""Pictures, latent frames and blocks agree with each other for any model."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import InvalidField
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry

WAN = Geometry(width=832, height=480, fps=Fraction(16), latent_channels=16, blocks=BlockPlan(frames=3))


def test_wan_at_480p_has_the_sizes_that_its_authors_write_down() -> None:
    assert WAN.tokens_per_frame == 1560
    assert WAN.block_shape == (3, 16, 60, 104)
    assert [WAN.first_picture(block) for block in range(4)] == [0, 9, 21, 33]
    assert [WAN.pictures(block) for block in range(3)] == [9, 12, 12]


@given(
    frames=st.integers(1, 9),
    lead=st.none() | st.integers(1, 9),
    stride=st.integers(1, 8),
    block=st.integers(0, 10_000),
    fps=st.fractions(min_value=1, max_value=60),
)
def test_every_picture_belongs_to_exactly_one_block(
    frames: int, lead: int | None, stride: int, block: int, fps: Fraction
) -> None:
    blocks = BlockPlan(frames=frames, first_frames=lead)
    geometry = Geometry(width=64, height=32, fps=fps, latent_channels=4, blocks=blocks, stride_time=stride)
    first, end = geometry.first_picture(block), geometry.first_picture(block + 1)
    assert end - first == geometry.pictures(block) > 0
    assert {geometry.block_of_picture(picture) for picture in (first, end - 1)} == {block}
    assert geometry.first_block_from(first) == block
    assert geometry.first_block_from(first + 1) == block + 1
    assert geometry.blocks_for(end) == block + 1
    assert geometry.picture_at(geometry.time_s(first)) == first


@given(frames=st.integers(1, 9), lead=st.none() | st.integers(1, 9), count=st.integers(1, 30))
def test_every_latent_frame_is_made_by_exactly_one_block(frames: int, lead: int | None, count: int) -> None:
    plan = BlockPlan(frames=frames, first_frames=lead)
    made = [(frame, block) for block in range(count) for frame in plan.own(block)]
    assert [frame for frame, _ in made] == list(range(plan.first_frame(count)))
    assert [plan.block_of(frame) for frame, _ in made] == [block for _, block in made]
    sizes = [plan.made(block) for block in range(count)]
    assert sizes == [lead or frames, *[frames] * (count - 1)] and max(*sizes, frames) == plan.most


def test_a_first_block_like_the_others_is_no_first_block() -> None:
    assert BlockPlan(frames=3, first_frames=3) == BlockPlan(frames=3)
    assert BlockPlan(frames=3, first_frames=3).first_frames is None
    with pytest.raises(InvalidField, match=r"recipe\.first_frames"):
        BlockPlan(frames=3, first_frames=0)


def test_a_model_whose_first_block_is_one_picture_starts_the_next_at_picture_one() -> None:
    image = WAN.divided(BlockPlan(frames=3, first_frames=1))
    assert [image.first_picture(block) for block in range(4)] == [0, 1, 13, 25]
    assert [image.shape_of(block)[0] for block in range(3)] == [1, 3, 3] and image.latent_bytes == WAN.latent_bytes
    assert WAN.divided(BlockPlan(frames=3, first_frames=6)).latent_bytes == 2 * WAN.latent_bytes


def test_a_time_between_two_pictures_means_the_later_one() -> None:
    assert WAN.picture_at(Fraction(10)) == 160
    assert WAN.picture_at(Fraction(1001, 100)) == 161
    assert WAN.first_block_from(160) == 14
    assert WAN.first_picture(14) == 165


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 70}, "video.width"),
        ({"height": 0}, "video.height"),
        ({"fps": Fraction(0)}, "video.fps"),
    ],
)
def test_impossible_sizes_are_named(change: dict[str, object], field: str) -> None:
    sizes: dict[str, object] = {
        "width": 64, "height": 64, "fps": Fraction(16), "latent_channels": 16, "blocks": BlockPlan(frames=3),
    }  # fmt: skip
    with pytest.raises(InvalidField) as caught:
        Geometry(**(sizes | change))  # type: ignore[arg-type]
    assert caught.value.field == field
