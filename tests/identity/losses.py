"""Losses under real weights: python -m tests.identity.losses [--losses 100], for each level of the recipe.

The pocket model, the real engine and workers in this process, which are lost at any moment: in the first blocks of a
stream, inside a block, with a cue in what is to be made again, while the loss before is not made good yet. Each joins
again with nothing. All latents and all bytes of all segments must be those of a stream that nothing has happened to.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import click

from cluster.cell.engine import Engine
from cluster.cell.outbox import Outbox, SegmentOut
from cluster.launch.in_process import STOP_S, ThreadPort
from cluster.render import in_process_workers
from longtake.core.effects import Closed, Effect, Recovered, Worked
from longtake.core.endings import Ending
from longtake.core.events import Ack, CueRequest, Event, Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.sessions.retention import Retention
from longtake.core.work import Continuity, CueId, LatentRef, SegmentSettings, SessionId
from tests.core.support.recipes import APART, altered
from workers.link.dial import Weights
from workers.messages import Shutdown
from workers.models import weights
from workers.start.loading import load_worker

POCKET = Path(weights.__file__).parents[2] / "pocket" / "weights"
PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
BLOCKS = 40
LOSSES = 10
"""Of each stream; the first ones come before it has as many blocks as a lane remembers."""
CUE_EVERY = 7
AGAIN = 0.3
"""So often a loss follows at once on the one before."""


@dataclass(slots=True)
class Made:
    """What was made of a stream."""

    latents: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """A hash, by block and the step that they enter."""
    segments: list[bytes] = field(default_factory=list)
    recoveries: list[Continuity] = field(default_factory=list)
    differing: int = 0
    """Latents that were made twice and differ."""


class Watching:
    """A recorder of the engine: what it has made."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.engine: Engine | None = None

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See monitoring.folding.recorder.Recorder."""
        assert self.engine is not None
        for effect in effects:
            if isinstance(effect, Recovered):
                self.made.recoveries.append(effect.continuity)
            for ticket in effect.counted if isinstance(effect, Worked) else ():
                session = self.engine.scheduler.cell.sessions.get(ticket.session)
                if ticket.op.kind is Kind.DENOISE and session is not None:
                    entered = session.steps(ticket.op.block).enters[ticket.op.step]
                    self._note(LatentRef(session=ticket.session, block=ticket.op.block, step=entered))

    def _note(self, ref: LatentRef) -> None:
        assert self.engine is not None
        key, there = (ref.block, ref.step), self.engine.journal.latents_of(ref.session)
        if key in there:  # at CLEAN what is between two steps stays with the worker
            found = hashlib.sha256(there[key]).digest()
            self.made.differing += self.made.latents.setdefault(key, found) != found


class Cell:
    """An engine, and workers that can be lost."""

    def __init__(self, engine: Engine, loaded: Sequence[Weights]) -> None:
        self.engine = engine
        self._ports = [ThreadPort(each, engine) for each in loaded]
        self._loaded = loaded

    def begin(self) -> None:
        for port in self._ports:
            port.start()

    async def lose(self, number: int) -> None:
        """A worker is gone; another one of its name joins with nothing."""
        gone = self._ports[number]
        gone.leave("it was lost")
        await asyncio.to_thread(gone.runner.join, STOP_S)  # its weights are the next one's
        self._ports[number] = ThreadPort(self._loaded[number], self.engine)
        self._ports[number].start()

    async def end(self) -> None:
        for port in self._ports:
            port.leave("the end")
            port.send(Shutdown())
        for port in self._ports:
            await asyncio.to_thread(port.runner.join, STOP_S)


@contextlib.asynccontextmanager
async def running(recipe: Recipe, loaded: Sequence[Weights], watching: Watching) -> AsyncIterator[Cell]:
    """A cell, from its start to its end."""
    info = weights.load_info(POCKET)
    engine = watching.engine = Engine(Scheduler(recipe, info.geometry, Limits()), watching)
    cell, turning = Cell(engine, loaded), asyncio.create_task(engine.run())
    cell.begin()
    try:
        yield cell
    finally:
        await cell.end()
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)


async def stream(recipe: Recipe, loaded: Sequence[Weights], draw: random.Random, losses: int) -> Made:
    """One stream, always the same, with so many losses."""
    geometry, made, outbox, session = weights.load_info(POCKET).geometry, Made(), Outbox(), SessionId("s")
    cues = tuple(
        CueRequest(cue=CueId(f"c{block}"), prompt=PROMPTS[block % 3], block=block)
        for block in range(CUE_EVERY, BLOCKS, CUE_EVERY)
    )
    async with running(recipe, loaded, Watching(made)) as cell:
        engine = cell.engine
        engine.attach(session, outbox)
        engine.submit(
            Open(
                now_s=engine.now_s(), session=session, prompt=PROMPTS[0], seed=7, pace=Pace.FAST, window=4,
                picture_limit=geometry.first_picture(BLOCKS), cues=cues,
                settings=SegmentSettings(codec="h264", quality=23),
            )
        )  # fmt: skip
        while True:
            match await outbox.get():
                case SegmentOut(emit=emit, data=data):
                    made.segments.append(data)
                    engine.submit(Ack(now_s=engine.now_s(), session=session, segment=emit.block))
                    if len(made.segments) % (BLOCKS // LOSSES) == 2 and losses > 0:
                        await asyncio.sleep(draw.uniform(0.0, 0.1))
                        while losses > 0:
                            await cell.lose(draw.randrange(len(loaded)))
                            losses -= 1
                            if draw.random() >= AGAIN:
                                break
                            await asyncio.sleep(draw.uniform(0.0, 0.1))
                case Closed(ending=ending, reason=reason):
                    assert ending is Ending.COMPLETED, f"{ending}: {reason}"
                    return made


def measure(level: Level, losses: int, seed: int) -> str:
    """Streams at this level until so many losses have come; what was wrong, empty if nothing."""
    info = weights.load_info(POCKET)
    recipe = altered(info.recipe, level=level, window_frames=12, sink_frames=3)
    loaded = [load_worker(spec) for spec in in_process_workers(POCKET, recipe, denoise=2, decode=2)]
    draw, recoveries = random.Random(seed), 0
    right = asyncio.run(stream(recipe, loaded, draw, 0))
    for done in range(0, losses, LOSSES):
        struck = asyncio.run(stream(recipe, loaded, draw, min(LOSSES, losses - done)))
        recoveries += len(struck.recoveries)
        wrong = sorted(key for key, made in struck.latents.items() if right.latents.get(key) != made)
        if wrong or struck.differing or len(struck.latents) < len(right.latents):
            return f"after {done} losses: latents differ, by block and step: {wrong[:3]}"
        if struck.segments != right.segments or {*struck.recoveries} - {Continuity.EXACT}:
            return f"after {done} losses: segments differ, or {struck.recoveries} is told"
    click.echo(f"{level.value}: {losses} losses, {recoveries} recoveries, all latents and segments equal")
    return ""


def shortened(retention: Retention) -> int:
    """One block less than a lane depends on."""
    return retention.graph.recipe.history_blocks * retention.depths.layers - 1


@click.command()
@click.option("--losses", default=100, show_default=True, type=click.IntRange(1), help="Of each level.")
@click.option("--seed", default=0, show_default=True)
@click.option("--break", "breaks", is_flag=True, help="Make one block less again, which must be noticed.")
def main(losses: int, seed: int, breaks: bool) -> None:
    """Lose workers of real weights at any moment; exit 1 if anything is not what it would have been."""
    began_s = time.monotonic()
    with patch.object(Retention, "lane_blocks", property(shortened)) if breaks else contextlib.nullcontext():
        found = {level: why for level in APART if (why := measure(level, losses, seed))}
    for level, why in found.items():
        click.echo(f"{level.value}: {why}")
    click.echo(f"{time.monotonic() - began_s:.0f} s")
    sys.exit(bool(found) != breaks)


if __name__ == "__main__":
    main()
