"""Streams that arrive at random through gRPC: lateness, latencies, fairness, CPU, and whose pictures they show.

python -m benchmarks.loadgen --streams 64 --blocks 20 --rate 40 --simulated 2ms --workers 8 --json

A server of its own is started. Arrivals are a Poisson process of a fixed seed. With simulated workers every picture of
every stream is known beforehand and compared; the figures then say nothing about a model's speed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Never, TypedDict, Unpack

import click
import grpc
from tqdm import tqdm

from benchmarks.load import StreamLog, figures
from benchmarks.process_use import descendants_use
from benchmarks.simulated_streams import expected_pictures, small_pictures
from cluster.launch.plan import POCKET, model_path
from longtake.cli.local_server import local_server
from longtake.client import Client, PaceName, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import SegmentEvent
from longtake.core.errors import Unavailable
from workers.models import weights
from workers.models.weights import ModelInfo
from workers.simulated.device import parse_device

PROMPTS = (
    "a red ball circling in the fog",
    "a blue box swaying at night",
    "a green ring bobbing at dusk",
    "a yellow triangle pulsing in the snow",
)
STREAMS_PER_CONNECTION = 64
LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the server."""

    streams: int
    blocks: int
    rate_per_s: float
    """Mean arrivals a second."""
    pace: PaceName
    window: int
    seed: int


class Judge:
    """Compares the raw pictures of one stream with those it must show, one after the other."""

    def __init__(self, info: ModelInfo, prompt: str, seed: int) -> None:
        self._size_bytes = info.geometry.width * info.geometry.height * 3
        self._expected = expected_pictures(info, prompt, seed)

    def mixed_up(self, segment: bytes) -> int:
        """Pictures of the stream's next segment that are missing, too many, or not the right ones."""
        expected = [_sha256(picture.tobytes()) for picture in next(self._expected)]
        shown = [_sha256(segment[at : at + self._size_bytes]) for at in range(0, len(segment), self._size_bytes)]
        wrong = sum(one != other for one, other in zip(shown, expected, strict=False))
        return wrong + abs(len(shown) - len(expected))


def _sha256(picture: bytes) -> bytes:
    return hashlib.sha256(picture).digest()


def arrivals_s(load: Load) -> Iterator[float]:
    """When each stream is asked for, from the beginning; a Poisson process of a fixed seed."""
    draw, now_s = random.Random(load.seed), 0.0
    for _ in range(load.streams):
        now_s += draw.expovariate(load.rate_per_s)
        yield now_s


async def one_stream(client: Client, load: Load, info: ModelInfo, number: int, *, judged: bool) -> StreamLog:
    """A stream from its request to its end; a refusal for lack of room is asked again, as the server says."""
    prompt = PROMPTS[number % len(PROMPTS)]
    judge = Judge(info, prompt, number) if judged else None
    options = StreamOptions(
        seed=number,
        pace=load.pace,
        window=load.window,
        pictures=info.geometry.first_picture(load.blocks),
        codec="raw",
    )
    log = StreamLog(asked_s=time.monotonic())
    while True:
        try:
            async with client.stream(prompt, options) as stream:
                async for event in stream:
                    if isinstance(event, SegmentEvent):
                        log.came_s.append(time.monotonic())
                        log.start_s.append(float(event.start_s))
                        log.pictures += event.picture_count
                        log.size_bytes += len(event.data)
                        log.mixed_up += judge.mixed_up(event.data) if judge else 0
            return log
        except ClientError as error:
            if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED or log.came_s:
                raise
            log.refusals += 1
            await asyncio.sleep(min(error.retry_after_s or LONGEST_PAUSE_S, LONGEST_PAUSE_S))


async def generate(address: str, load: Load, info: ModelInfo, *, judged: bool, limit_s: float) -> list[StreamLog]:
    """All streams, each asked for when it arrives; TimeoutError if they are not over after `limit_s`."""
    clients = [Client(address) for _ in range(-(-load.streams // STREAMS_PER_CONNECTION))]
    bar: tqdm[Never] = tqdm(total=load.streams, unit="stream", desc="loadgen")

    async def arrive(number: int, after_s: float) -> StreamLog:
        await asyncio.sleep(after_s)
        log = await one_stream(clients[number % len(clients)], load, info, number, judged=judged)
        bar.update()
        return log

    try:
        async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
            tasks = [group.create_task(arrive(*arrival)) for arrival in enumerate(arrivals_s(load))]
        return [task.result() for task in tasks]
    finally:
        bar.close()
        for client in clients:
            await client.__aexit__(None, None, None)


def server_config(folder: Path, model: Path, device: str, *, workers: int, streams: int, launch: str) -> Path:
    """A configuration with room for all streams at once."""
    path = folder / "server.toml"
    path.write_text(
        f'[model]\npath = "{model}"\ndevice = "{device}"\n'
        f'[cluster]\nlaunch = "{launch}"\ndenoise_workers = {workers}\nsessions_per_worker = {streams}\n'
        f"[limits]\nmax_sessions = {streams}\n"
    )
    return path


def measured(config: Path, load: Load, info: ModelInfo, *, judged: bool, limit_s: float) -> dict[str, object]:
    """Start a server, generate the load, and everything that came of it. The server's log lies beside its `config`."""
    with (
        config.with_suffix(".log").open("w") as log,
        local_server(lambda line: click.echo(line, err=True), config, log) as address,
    ):
        before = descendants_use()
        began_cpu_s = time.process_time()
        logs = asyncio.run(generate(address, load, info, judged=judged, limit_s=limit_s))
        client_cpu_s = time.process_time() - began_cpu_s
        after = descendants_use()
    result = figures(logs, known_pictures=judged)
    return asdict(result) | {
        "simulated": judged,
        "server_cpu_s_per_segment": round((after.cpu_s - before.cpu_s) / result.segments, 5),
        "client_cpu_s_per_segment": round(client_cpu_s / result.segments, 5),
        "server_bytes_per_stream": max(0, after.rss_bytes - before.rss_bytes) // load.streams,
        "server_processes": after.processes,
    }


class Asked(TypedDict):
    """The command line."""

    streams: int
    blocks: int
    rate: float
    pace: PaceName
    window: int
    simulated: str
    workers: int
    launch: str
    limit_s: float
    as_json: bool


@click.command()
@click.option("--streams", default=64, show_default=True, type=click.IntRange(1))
@click.option("--blocks", default=20, show_default=True, type=click.IntRange(2), help="Length of each stream.")
@click.option("--rate", default=40.0, show_default=True, help="Mean arrivals a second.")
@click.option("--pace", type=click.Choice(["fast", "realtime"]), default="fast", show_default=True)
@click.option("--window", default=4, show_default=True, help="Segments a stream may be ahead of its client.")
@click.option("--simulated", default="2ms", show_default=True, help="Workers that sleep so long; empty: real ones.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1))
@click.option("--launch", type=click.Choice(["subprocess", "in-process", "ray"]), default="subprocess")
@click.option("--limit-s", default=600.0, show_default=True, help="Give up after this time.")
@click.option("--json", "as_json", is_flag=True)
def main(**asked: Unpack[Asked]) -> None:
    """Measure streams that arrive at random, through gRPC, on a server of their own."""
    load = Load(
        streams=asked["streams"],
        blocks=asked["blocks"],
        rate_per_s=asked["rate"],
        pace=asked["pace"],
        window=asked["window"],
        seed=1,
    )
    simulated, workers = bool(asked["simulated"]), asked["workers"]
    path, device = model_path(POCKET), "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if simulated:
            device = str(parse_device(f"simulated:{asked['simulated']}"))
            weights.save_info(folder, small_pictures(weights.load_info(path)))
            path = folder
        config = server_config(folder, path, device, workers=workers, streams=load.streams, launch=asked["launch"])
        try:
            found = measured(config, load, weights.load_info(path), judged=simulated, limit_s=asked["limit_s"])
        except (Unavailable, ClientError, ExceptionGroup):
            click.echo(config.with_suffix(".log").read_text()[-4000:], err=True)
            raise
    result = asdict(load) | {"workers": workers, "device": device} | found
    if asked["as_json"]:
        click.echo(json.dumps(result))
    else:
        for key, value in result.items():
            click.echo(f"{key:26s} {value}")
    sys.exit(1 if result["mixed_up"] else 0)


if __name__ == "__main__":
    main()
