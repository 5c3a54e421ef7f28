"""An hour of one stream, as fast as it can be made, with a cue a minute and a kill every two minutes of it."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

from benchmarks.chaos_cell import ChaosCell, Setup, chaos_cell
from benchmarks.chaos_faults import Deed, Fault, strike
from benchmarks.chaos_report import Say, finish, judge
from benchmarks.chaos_streams import COMPLETED, Renderer, Script, Take, stream
from longtake.core.recipe.geometry import Geometry

HOUR_S, MINUTE_S = 3600, 60
MINUTES_OF_A_KILL = 2
WARM = 0.1
"""The share of the stream that memory may take to become what it stays."""
SLOPE_BYTES = 1_000_000
"""The most that the engine's process may grow in an hour of stream."""


async def hour(setup: Setup, geometry: Geometry, seed: int, say: Say) -> bool:
    """Whether the stream is complete and equal, the engine's memory a constant, and nothing is left."""
    minute = geometry.block_of_picture(geometry.picture_at(Fraction(MINUTE_S)))
    script = Script(number=0, pace="fast", blocks=minute * HOUR_S // MINUTE_S, cue_every=minute, geometry=geometry)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        renderer = Renderer(folder, setup.model, processes=1)
        async with chaos_cell(setup, folder) as cell:
            take = Take(script, time.monotonic())
            memory: list[tuple[int, int]] = []
            tasks = [asyncio.create_task(kill_now_and_then(cell, take, draw, say)),
                     asyncio.create_task(weigh(cell, take, memory))]  # fmt: skip
            try:
                await stream(cell.address, take)
                wall_s = time.monotonic() - take.began_s
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                is_clean = await finish(cell, say)
                if take.ending != COMPLETED:  # then what is missing need not be rendered
                    take.script = replace(script, blocks=max(1, take.segments))
                judgement = await judge([take], renderer)
            finally:
                for task in tasks:
                    task.cancel()
                await renderer.stop()
    grown = slope_bytes(memory, script.blocks)
    say({
        **judgement.as_dict(), "wall_s": round(wall_s, 1), "sha256": sha256(take.data).hexdigest(),
        "engine_mb": round(memory[-1][1] / 1e6, 1) if memory else None, "engine_mb_per_hour": round(grown / 1e6, 2),
    })  # fmt: skip
    return is_clean and judgement.is_right and grown < SLOPE_BYTES


async def kill_now_and_then(cell: ChaosCell, take: Take, draw: random.Random, say: Say) -> None:
    """Kill a worker whenever the stream has gone on for two minutes more."""
    every = MINUTES_OF_A_KILL * take.script.cue_every
    while True:
        due = (take.segments // every + 1) * every
        while take.segments < due:
            await asyncio.sleep(0.05)
        victim = await strike(cell, Fault(Deed.KILL, "worker"), draw)
        say({"killed": victim, "segment": take.segments})


async def weigh(cell: ChaosCell, take: Take, memory: list[tuple[int, int]]) -> None:
    """Note how far the stream is and how much memory the engine's process takes, every second."""
    while True:
        memory.append((take.segments, cell.server.resident_bytes()))
        await asyncio.sleep(1.0)


def slope_bytes(memory: list[tuple[int, int]], blocks: int) -> float:
    """The growth of memory over the length of the stream, by the line that fits best once it is warm."""
    warm = [(segments, size) for segments, size in memory if segments >= WARM * blocks]
    if len({segments for segments, _ in warm}) < 2:
        return 0.0
    line = statistics.linear_regression([segments for segments, _ in warm], [size for _, size in warm])
    return line.slope * blocks
