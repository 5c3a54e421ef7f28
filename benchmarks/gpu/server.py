"""A whole server on one device: what clients of `longtake serve` get, from its prompt to segments over gRPC."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import folder_for
from longtake.cli.local_server import local_server
from longtake.client import Client, Stream, StreamOptions
from longtake.client.events import SegmentEvent
from longtake.core.recipe.published import PUBLISHED
from longtake.core.work import DecoderKind

_RECIPES = {"wan-hiar": (1, 2), "wan-self-forcing": (1,)}
"""What is served, and how many clients stream at once, in turn."""
_NEEDED = ("cryptography", "grpc_health", "grpc_reflection", "jwt", "pydantic")
"""What a server needs beside what the other phases do."""
_STEADY_BLOCKS, _LEAST_STEADY = 16, 4
_SPARE_S = 4.0


def run(bench: Bench) -> None:
    """All steps: a server for each recipe."""
    missing = [name for name in _NEEDED if not _is_here(name)]
    for number, (name, clients) in enumerate(_RECIPES.items()):
        if missing:
            bench.fact(name, skipped=f"this machine lacks {', '.join(missing)}")
            continue
        seconds = bench.left_s() / (len(_RECIPES) - number) - _SPARE_S
        # A step of its own, after which this process holds no memory of the device: the server counts what is free.
        bench.step(f"{name}: model", partial(_make, bench, name))
        bench.step(name, partial(_serve, bench, name, clients, seconds=seconds), need_s=15)


@dataclass(slots=True)
class _Taken:
    """What one client got."""

    prompt: str
    arrived_s: list[float] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)


def _is_here(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _make(bench: Bench, name: str) -> None:
    folder_for(bench, name, PUBLISHED[name].recipe)


def _serve(bench: Bench, name: str, clients: tuple[int, ...], *, seconds: float) -> None:
    ends_s = time.monotonic() + seconds
    recipe = PUBLISHED[name].recipe
    folder, warm = folder_for(bench, name, recipe), recipe.history_blocks + 1
    config = bench.scratch / f"{name}.toml"
    config.write_text(_config(bench, folder, max(clients)))
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        sys.stderr.write(f"{line}\n")  # into the phase's log

    began_s = time.monotonic()
    with local_server(say, config) as address:
        bench.fact(f"{name}: start", ready_s=time.monotonic() - began_s, said=said)
        for number, count in enumerate(clients):
            until_s = time.monotonic() + (ends_s - time.monotonic()) / (len(clients) - number)
            takes = asyncio.run(_stream_all(bench, address, count, warm, until_s))
            bench.fact(f"{name}, {count} at once", **_figures(bench, takes))


def _config(bench: Bench, folder: Path, sessions: int) -> str:
    model = {"path": str(folder), "device": str(bench.compute.device), "dtype": bench.compute.dtype}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items())
    return (
        f'[model]\n{lines}[cluster]\nlaunch = "subprocess"\ndenoise_workers = 1\ndecode_workers = 1\nmax_batch = 2\n'
        f"[limits]\nmax_sessions = {sessions}\n"
    )


async def _stream_all(bench: Bench, address: str, count: int, warm: int, until_s: float) -> list[_Taken]:
    """That many streams at once, each until it was steady for long enough; what of each was steady."""
    takes = [_Taken(f"a red ball circling in the fog, {number}") for number in range(count)]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(address))
        options = StreamOptions(pace="fast", seed=1, decoder=DecoderKind.FULL.value, duration_s=3600)
        streams = [await stack.enter_async_context(client.stream(take.prompt, options)) for take in takes]
        await asyncio.gather(
            *(_take(bench, stream, take, warm, until_s) for stream, take in zip(streams, takes, strict=True))
        )
    return takes


async def _take(bench: Bench, stream: Stream, take: _Taken, warm: int, until_s: float) -> None:
    """What comes from block `warm` on. RuntimeError if the stream ends before it was steady."""
    last = warm + (_LEAST_STEADY if bench.is_tiny else _STEADY_BLOCKS)
    async for event in stream:
        if isinstance(event, SegmentEvent) and event.index >= warm:
            take.arrived_s.append(time.monotonic())
            take.pictures.append(event.picture_count)
            if event.index >= last or (len(take.arrived_s) > _LEAST_STEADY and time.monotonic() > until_s):
                return
    raise RuntimeError(f"the stream ended after {len(take.arrived_s)} segments with a full window")


def _figures(bench: Bench, takes: list[_Taken]) -> dict[str, object]:
    """Rates over the time in which all were steady, and the longest wait for a segment meanwhile."""
    begin_s = max(take.arrived_s[0] for take in takes)
    end_s = min(take.arrived_s[-1] for take in takes)
    pictures, waits_s, segments = 0, [0.0], 0
    for take in takes:
        came = [(at_s, n) for at_s, n in zip(take.arrived_s, take.pictures, strict=True) if begin_s <= at_s <= end_s]
        pictures += sum(n for at_s, n in came if at_s > begin_s)
        segments += len(came)
        waits_s += [later - earlier for (earlier, _), (later, _) in pairwise(came)]
    rate = pictures / (end_s - begin_s)
    return {
        "pictures_per_s": rate,
        "times_real": rate / bench.info.geometry.pictures_per_s,
        "segments": segments,
        "longest_wait_ms": 1e3 * max(waits_s),
    }
