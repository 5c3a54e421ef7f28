"""Draws the README's moving picture: streams that a server makes at the same time, each steered by cues.

python -m benchmarks.draw_streams -o docs/pictures/streams.webp

Every pixel above a caption is one of the stream, enlarged by a whole number; the caption is the prompt that the server
says is shown.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from longtake.cli.local_server import local_server
from longtake.client import Client, CueAppliedEvent, CueAt, OpenedEvent, SegmentEvent, StreamOptions

TARGET = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "streams.webp"
SERVER = "[cluster]\nlaunch = 'in-process'\ndenoise_workers = 1\n"
SECONDS = 18
SCALE = 4
GAP, CAPTION, TEXT = 8, 44, 15
"""Between streams, below them, and of the letters, in pixels."""
NEW_S = 1.5
"""So long a prompt is marked as new."""
PAPER, INK, NEW = (255, 255, 255), (36, 41, 47), (9, 105, 218)
QUALITY = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What one stream is asked for."""

    prompt: str
    seed: int
    cues: tuple[tuple[int, str], ...]
    """Seconds and prompts."""


TAKES = (
    Take(
        prompt="a red ball circling in the fog",
        seed=7,
        cues=((5, "a blue box swaying at night"), (12, "a green ring bobbing at dusk")),
    ),
    Take(
        prompt="a yellow triangle pulsing at dusk",
        seed=8,
        cues=((3, "a cyan triangle sliding in the snow"), (10, "a magenta ball circling at night")),
    ),
    Take(
        prompt="a cyan ring sliding in the snow",
        seed=9,
        cues=((7, "a yellow box resting in the fog"), (14, "a red box circling in the fog")),
    ),
)


@dataclass(slots=True)
class Taken:
    """What came of it."""

    fps: Fraction = Fraction(1)
    pictures: list[Image.Image] = field(default_factory=list)
    prompts: list[tuple[int, str]] = field(default_factory=list)
    """Each prompt, with the number of the first picture that shows it."""

    def at(self, number: int) -> tuple[str, bool]:
        """The prompt that a picture shows, and whether that is new."""
        first, prompt = next((first, prompt) for first, prompt in reversed(self.prompts) if first <= number)
        return prompt, first > 0 and number - first < NEW_S * self.fps


async def take(client: Client, asked: Take) -> Taken:
    """Everything a stream shows, and what its server says that it shows."""
    cues = tuple(CueAt(prompt=prompt, time_s=time_s) for time_s, prompt in asked.cues)
    options = StreamOptions(seed=asked.seed, duration_s=SECONDS, codec="raw", cues=cues)
    taken, size = Taken(), (0, 0)
    async with client.stream(asked.prompt, options) as stream:
        async for event in stream:
            match event:
                case OpenedEvent():
                    taken.fps, size = event.fps, (event.width, event.height)
                    taken.prompts.append((0, event.prompt))
                case CueAppliedEvent():
                    taken.prompts.append((len(taken.pictures), event.prompt))
                case SegmentEvent():
                    count = len(event.data) // event.picture_count
                    parts = (event.data[start : start + count] for start in range(0, len(event.data), count))
                    taken.pictures += [Image.frombytes("RGB", size, part) for part in parts]
    return taken


async def take_all(target: str, takes: Sequence[Take]) -> list[Taken]:
    """All of them at the same time."""
    async with Client(target) as client:
        return list(await asyncio.gather(*(take(client, asked) for asked in takes)))


def drawn(taken: Sequence[Taken], number: int) -> Image.Image:
    """The streams' pictures of one moment side by side, each above its prompt."""
    width, height = (SCALE * side for side in taken[0].pictures[0].size)
    page = Image.new("RGB", (len(taken) * (width + GAP) - GAP, height + CAPTION), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT)
    for column, one in enumerate(taken):
        left = column * (width + GAP)
        page.paste(one.pictures[number].resize((width, height), Image.Resampling.NEAREST), (left, 0))
        prompt, new = one.at(number)
        draw.text((left + width / 2, height + CAPTION / 2), prompt, NEW if new else INK, font, anchor="mm")
        if new:
            draw.rectangle((left, height + 3, left + width, height + 7), NEW)
    return page


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=TARGET, show_default=True)
def main(output: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config, tempfile.TemporaryFile("w+") as log:
        config.write(SERVER)
        config.flush()
        with local_server(click.echo, Path(config.name), log) as address:
            taken = asyncio.run(take_all(address, TAKES))
    fps = taken[0].fps
    first, *rest = [drawn(taken, number) for number in range(min(len(one.pictures) for one in taken))]
    # Whole milliseconds that add up to the streams' time.
    ends = [round(1000 * number / fps) for number in range(len(rest) + 2)]
    lengths = [end - start for start, end in pairwise(ends)]
    first.save(output, save_all=True, append_images=rest, duration=lengths, loop=0, quality=QUALITY, method=6)
    click.echo(f"{output}: {len(lengths)} pictures, {ends[-1] / 1000:g} s, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
