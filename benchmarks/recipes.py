"""How soon each recipe shows something: its first picture, and a cue, through gRPC on one server that has them all.

python -m benchmarks.recipes --json

One stream at a time, so that nothing waits for another; recipes take turns in each round, so that a noisy machine
treats all alike, and what counts are the ratios to the first one. Three times are taken. `first_s`: from the request of
a stream that goes as fast as it can until its first segment is there. `cue_s`: from a cue at a random moment of such a
stream, whose client takes one segment at a time, until the first segment that shows it is there. `screen_s`: the same
of a stream whose client has a screen and takes the next segment when it begins to show one, until the cue's is shown:
that is mostly the length of a block.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import click

from benchmarks.playback import Playback
from longtake.client import Client, StreamOptions
from longtake.client.events import CueAppliedEvent, SegmentEvent
from longtake.client.stream import Stream
from longtake.core.errors import Unavailable
from longtake.recipes import shipped
from pocket.served import recipes_server

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night")
WARM = 4
"""Segments before the first cue, so that the window is full and the pipeline moves."""
SETTLE_S = 0.2
"""Between a picture that shows a cue and the next cue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What one round found of a recipe, in seconds."""

    first_s: float
    cues_s: tuple[float, ...]
    screens_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over all rounds and cues; ratios are to the first recipe."""

    recipe: str
    block_pictures: int
    first_s: float
    cue_s: float
    screen_s: float
    first_ratio: float
    cue_ratio: float
    screen_ratio: float


@dataclass(slots=True)
class Viewer:
    """Reads a stream, and says when each segment is there; with a screen, when it is shown."""

    stream: Stream
    screen: Playback | None = None
    clock: Callable[[], float] = time.monotonic

    async def segment(self) -> tuple[SegmentEvent, bool, float]:
        """The next segment, whether it is the first that shows a cue, and when it is there; now it is acknowledged."""
        applied = False
        async for event in self.stream:
            applied |= isinstance(event, CueAppliedEvent)
            if isinstance(event, SegmentEvent):
                there_s = self.clock()
                if self.screen is not None:
                    self.screen.lateness_s(there_s, float(event.start_s))
                    shown_s = self.screen.shown_s(float(event.start_s))
                    await asyncio.sleep(shown_s - there_s)
                    there_s = shown_s
                await self.stream.ack(event.index)
                return event, applied, there_s
        raise Unavailable("the stream ended before the last cue was shown")


async def first_and_cues(
    client: Client, recipe: str, screen: Playback | None, *, cues: int, rng: random.Random
) -> tuple[float, tuple[float, ...], int]:
    """Seconds to the first segment and from each cue to its picture, and the pictures of a block."""
    options = StreamOptions(seed=1, recipe=recipe, window=1, auto_ack=False)
    began_s, waits_s = time.monotonic(), list[float]()
    async with client.stream(PROMPTS[0], options) as stream:
        viewer = Viewer(stream, screen)
        await viewer.segment()
        first_s = time.monotonic() - began_s
        for _ in range(WARM):
            event, _, _ = await viewer.segment()
        block_s = float(event.duration_s)
        for number in range(cues):
            asking = asyncio.create_task(_cue_later(stream, PROMPTS[(number + 1) % 2], rng.uniform(0, block_s)))
            applied = False
            while not applied:
                event, applied, there_s = await viewer.segment()
            waits_s.append(there_s - await asking)
            settled_s = there_s + SETTLE_S
            while there_s < settled_s:
                _, _, there_s = await viewer.segment()
    return first_s, tuple(waits_s), event.picture_count


async def _cue_later(stream: Stream, prompt: str, after_s: float) -> float:
    """Send a cue after so long; when that was."""
    await asyncio.sleep(after_s)
    sent_s = time.monotonic()
    await stream.cue(prompt)
    return sent_s


async def one_round(client: Client, recipe: str, *, cues: int, rng: random.Random) -> tuple[Times, int]:
    """All times of a recipe, and the pictures of a block."""
    first_s, cues_s, pictures = await first_and_cues(client, recipe, None, cues=cues, rng=rng)
    _, screens_s, _ = await first_and_cues(client, recipe, Playback(0.0), cues=cues, rng=rng)
    return Times(first_s=first_s, cues_s=cues_s, screens_s=screens_s), pictures


def rows_of(recipes: Sequence[str], found: dict[str, list[Times]], pictures: dict[str, int]) -> list[Row]:
    """The medians, in the order of the recipes."""
    medians = {
        recipe: (
            statistics.median(times.first_s for times in found[recipe]),
            statistics.median(wait_s for times in found[recipe] for wait_s in times.cues_s),
            statistics.median(wait_s for times in found[recipe] for wait_s in times.screens_s),
        )
        for recipe in recipes
    }
    first_s, cue_s, screen_s = medians[recipes[0]]
    return [
        Row(
            recipe=recipe,
            block_pictures=pictures[recipe],
            first_s=round(own[0], 3),
            cue_s=round(own[1], 3),
            screen_s=round(own[2], 3),
            first_ratio=round(own[0] / first_s, 3),
            cue_ratio=round(own[1] / cue_s, 3),
            screen_ratio=round(own[2] / screen_s, 3),
        )
        for recipe, own in medians.items()
    ]


async def measure(server: str, recipes: Sequence[str], *, repeat: int, cues: int) -> list[Row]:
    """All rounds."""
    found: dict[str, list[Times]] = {recipe: [] for recipe in recipes}
    pictures: dict[str, int] = {}
    rng = random.Random(0)
    async with Client(server) as client:
        for number in range(-1, repeat):  # the first round pays for what is made on first use
            for recipe in recipes:
                times, pictures[recipe] = await one_round(client, recipe, cues=cues if number >= 0 else 1, rng=rng)
                if number >= 0:
                    found[recipe].append(times)
            click.echo(f"round {number + 1} of {repeat} done", err=True)
    return rows_of(recipes, found, pictures)


@click.command()
@click.option("--recipe", "recipes", multiple=True, help="Repeatable. Default: all that ship and need no image.")
@click.option("--repeat", default=5, show_default=True, help="Rounds.")
@click.option("--cues", default=4, show_default=True, help="In each stream.")
@click.option("--server", help="HOST:PORT of a running server with the recipes; default: one is started.")
@click.option("--json", "as_json", is_flag=True)
def main(recipes: tuple[str, ...], repeat: int, cues: int, server: str | None, as_json: bool) -> None:
    """Measure recipes against the first one."""
    recipes = recipes or tuple(name for name, one in shipped().items() if not one.recipe.context.reference_frames)
    if server:
        rows = asyncio.run(measure(server, recipes, repeat=repeat, cues=cues))
    else:
        with recipes_server(recipes, lambda line: click.echo(line, err=True)) as address:
            rows = asyncio.run(measure(address, recipes, repeat=repeat, cues=cues))
    if as_json:
        click.echo(json.dumps({"repeat": repeat, "cues": cues, "rows": [asdict(row) for row in rows]}))
        return
    width = max(len(row.recipe) for row in rows)
    click.echo(f"{'recipe'.ljust(width)}  pictures a block  first (s)   x     cue (s)   x     on screen (s)   x")
    for row in rows:
        click.echo(
            f"{row.recipe.ljust(width)}  {row.block_pictures:16d}  {row.first_s:9.3f}  {row.first_ratio:.2f}"
            f"  {row.cue_s:8.3f}  {row.cue_ratio:.2f}  {row.screen_s:14.3f}  {row.screen_ratio:.2f}"
        )


if __name__ == "__main__":
    main()
