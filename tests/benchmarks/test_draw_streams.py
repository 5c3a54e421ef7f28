"""The README's moving picture: every pixel above a caption is one of the stream, and the caption is what is shown."""

from __future__ import annotations

from fractions import Fraction

from PIL import Image

from benchmarks.draw_streams import CAPTION, GAP, INK, NEW, SCALE, Take, Taken, drawn, take_all
from tests.cluster.frontend.toy import toy_cell_in_thread

SIZE = (6, 4)


def striped(first: int) -> Image.Image:
    """A picture all of whose pixels differ."""
    width, height = SIZE
    return Image.frombytes("RGB", SIZE, bytes(first + number for number in range(3 * width * height)))


def test_pixels_are_enlarged_and_nothing_else() -> None:
    taken = [Taken(fps=Fraction(16), pictures=[striped(first)], prompts=[(0, "a ball")]) for first in (0, 100)]
    page = drawn(taken, 0)
    width, height = SCALE * SIZE[0], SCALE * SIZE[1]
    assert page.size == (2 * width + GAP, height + CAPTION)
    for column, one in enumerate(taken):
        left = column * (width + GAP)
        for x in range(width):
            for y in range(height):
                assert page.getpixel((left + x, y)) == one.pictures[0].getpixel((x // SCALE, y // SCALE))


def test_a_prompt_stands_from_its_first_picture_on_and_is_marked_while_it_is_new() -> None:
    taken = Taken(fps=Fraction(16), pictures=[striped(0)] * 80, prompts=[(0, "a ball"), (33, "a box")])
    assert [taken.at(number) for number in (0, 32, 33, 56, 57)] == [
        ("a ball", False),
        ("a ball", False),
        ("a box", True),
        ("a box", True),
        ("a box", False),
    ]
    old, new = ({colour for _, colour in drawn([taken], number).getcolors(1 << 16) or ()} for number in (0, 40))
    assert NEW in new and NEW not in old and INK in old


async def test_what_stands_below_is_what_the_server_says() -> None:
    with toy_cell_in_thread(segment_bytes=12 * 64 * 64 * 3) as cell:
        (taken,) = await take_all(cell.target, (Take(prompt="a ball", seed=7, cues=((1, "a box"),)),))
    assert taken.fps == 16
    assert taken.prompts == [(0, "a ball"), (21, "a box")]
