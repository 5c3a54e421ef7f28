"""How fast streams come through a real server (Ray, gRPC, H.264): alone, and several at once.

python -m benchmarks.realtime --seconds 60 --repeat 3 --json
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass

import click

from longtake.cli.local_server import local_server
from longtake.client import Client, StreamOptions
from longtake.client.events import SegmentEvent

PROMPTS = (
    "a red ball circling in the fog",
    "a blue box swaying at night",
    "a green ring bobbing at dusk",
    "a yellow triangle pulsing in the snow",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over the repetitions."""

    streams: int
    realtime_factor: float
    """Seconds of video a second, per stream."""
    frames_per_s: float
    """Pictures a second, all streams together."""
    first_segment_s: float
    """From the request to the first segment, the slowest stream."""


async def measure(server: str, streams: int, seconds: float) -> Row:
    """One repetition: `streams` streams of `seconds` each, begun together."""
    async with Client(server) as client:

        async def one(number: int) -> tuple[float, int]:
            began_s, first_s, pictures = time.monotonic(), 0.0, 0
            options = StreamOptions(duration_s=seconds, seed=number)
            async with client.stream(PROMPTS[number % len(PROMPTS)], options) as stream:
                async for event in stream:
                    if isinstance(event, SegmentEvent):
                        first_s = first_s or time.monotonic() - began_s
                        pictures += event.picture_count
            return first_s, pictures

        began_s = time.monotonic()
        results = await asyncio.gather(*(one(number) for number in range(streams)))
        wall_s = time.monotonic() - began_s
    return Row(
        streams=streams,
        realtime_factor=seconds / wall_s,
        frames_per_s=sum(pictures for _, pictures in results) / wall_s,
        first_segment_s=max(first_s for first_s, _ in results),
    )


def median(rows: list[Row]) -> Row:
    """The median of every figure."""
    return Row(
        streams=rows[0].streams,
        realtime_factor=round(statistics.median(row.realtime_factor for row in rows), 2),
        frames_per_s=round(statistics.median(row.frames_per_s for row in rows), 1),
        first_segment_s=round(statistics.median(row.first_segment_s for row in rows), 3),
    )


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Length of each stream.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--streams", "counts", multiple=True, type=int, default=(1, 2, 4), show_default=True)
@click.option("--server", help="HOST:PORT of a running server; default: one is started.")
@click.option("--json", "as_json", is_flag=True)
def main(seconds: float, repeat: int, counts: tuple[int, ...], server: str | None, as_json: bool) -> None:
    """Measure streams through a server. The numbers of streams take turns, so that a noisy machine treats all alike."""

    def run(address: str) -> list[Row]:
        asyncio.run(measure(address, 1, 5.0))  # the first stream of a process pays for what is made on first use
        rounds = [[asyncio.run(measure(address, count, seconds)) for count in counts] for _ in range(repeat)]
        return [median(list(rows)) for rows in zip(*rounds, strict=True)]

    if server:
        rows = run(server)
    else:
        with local_server(lambda line: click.echo(line, err=True)) as address:
            rows = run(address)
    if as_json:
        click.echo(json.dumps({"seconds": seconds, "repeat": repeat, "rows": [asdict(row) for row in rows]}))
        return
    click.echo("streams  x real time  pictures/s  first segment (s)")
    for row in rows:
        click.echo(
            f"{row.streams:7d}  {row.realtime_factor:11.2f}  {row.frames_per_s:10.1f}  {row.first_segment_s:17.3f}"
        )


if __name__ == "__main__":
    main()
