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
    stride=st.integers(1, 8),
    block=st.integers(0, 10_000),
    fps=st.fractions(min_value=1, max_value=60),
)
def test_every_picture_belongs_to_exactly_one_block(frames: int, stride: int, block: int, fps: Fraction) -> None:
    geometry = Geometry(
        width=64, height=32, fps=fps, latent_channels=4, blocks=BlockPlan(frames=frames), stride_time=stride
    )  # fmt: skip
    first, end = geometry.first_picture(block), geometry.first_picture(block + 1)
    assert end - first == geometry.pictures(block) > 0
    assert {geometry.block_of_picture(picture) for picture in (first, end - 1)} == {block}
    assert geometry.first_block_from(first) == block
    assert geometry.first_block_from(first + 1) == block + 1
    assert geometry.blocks_for(end) == block + 1
    assert geometry.picture_at(geometry.time_s(first)) == first


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
