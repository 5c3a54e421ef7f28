"""A client of the engine for tests: opens sessions, acknowledges, collects what it is told and what was computed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.courses import LoadOf, no_load
from cluster.cell.attached import Port
from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from cluster.cell.recording import LIMIT_BYTES, InboxRecording, RecordedCell
from longtake.core.effects import Closed, Dispatch, Effect, Recovered, Refused, Worked
from longtake.core.events import Ack, CueRequest, Event, Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits, MoveRules
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.positions import Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Continuity, DecodeWork, LatentRef, SegmentSettings, SessionId, WorkerId
from monitoring.folding.recorder import Recorder
from tests.workers.oracle import ContiguousLanes
from tests.workers.oracle_beginning import Beginning, generate_from
from tests.workers.oracle_memory import FoldingLanes
from tests.workers.oracle_plans import generate_by_lists
from tests.workers.oracle_sources import row_of
from tests.workers.story_oracle import story_lanes
from tests.workers.unturned import UnturnedLanes, placing_of
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.messages import Introduction
from workers.models import weights
from workers.models.api import Compute, Denoiser, sdpa
from workers.models.text import load_text_encoder

RAW = SegmentSettings(codec="raw", quality=0)
STILL = Limits(moves=MoveRules(worth=1e9, worth_of_slow=1e9))
"""No lane is on its way elsewhere when its stream is to be forked: on a busy machine some worker is always slow."""


@dataclass
class Hashes:
    """Keeps the SHA-256 of every finished block, by session and block, and as a recorder all effects."""

    steps: int
    finished: dict[tuple[str, int], str] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    """Sizes of all forwards."""
    mixed: int = 0
    """How many of them held ops of both kinds."""

    def listen(self, engine: Engine) -> None:
        """Hash what the engine keeps of the last step of each block, from now on."""
        put = engine.journal.put_latents

        def put_latents(ref: LatentRef, data: bytes, version: int = 0) -> bool:
            session = engine.scheduler.cell.sessions.get(ref.session)
            if ref.step == (self.steps if session is None else session.graph.step_count):
                self.finished[ref.session, ref.block] = sha256(data).hexdigest()
            return put(ref, data, version)

        engine.journal.put_latents = put_latents  # type: ignore[method-assign]

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Worked) and effect.ops:
                kinds = {ticket.op.kind for ticket in effect.ops}
                if Kind.DECODE not in kinds:
                    self.batches.append(effect.batch)
                    self.mixed += len(kinds) > 1

    def of(self, session: str) -> list[str]:
        """Hashes of a session's blocks, in order."""
        return [sha for (_, _), sha in sorted(item for item in self.finished.items() if item[0][0] == session)]

    def recoveries(self, session: str) -> list[Continuity]:
        """What a session was each time that it was whole again after a loss."""
        told = [effect for effect in self.effects if isinstance(effect, Recovered)]
        return [effect.continuity for effect in told if effect.session == session]

    def workers_of(self, session: str) -> set[WorkerId]:
        """Where ops of a session have been sent, but its decodes."""
        forwards = [effect for effect in self.effects if isinstance(effect, Dispatch)]
        return {
            effect.worker
            for effect in forwards
            if not isinstance(effect.work, DecodeWork) and any(work.session == session for work in effect.work)
        }


def recorded(path: Path, events: Iterable[Event], cell: RecordedCell, limit_bytes: int = LIMIT_BYTES) -> InboxRecording:
    """A recording of these events, that is over."""
    recording = InboxRecording(path, cell, limit_bytes=limit_bytes)
    for event in events:
        recording.fold(event, ())
    recording.close()
    return recording


def lanes_of(denoiser: Denoiser, recipe: Recipe) -> ContiguousLanes:
    """The oracle's lanes for a recipe, with the bits of a server."""
    window, sinks = recipe.window_frames, recipe.sink_frames
    if recipe.cues.cut:
        return story_lanes(denoiser, recipe)
    if recipe.positions == Positions():
        return ContiguousLanes(denoiser, window, sinks, attention=sdpa)
    if recipe.memory.folds:
        return FoldingLanes.of(denoiser, recipe, sdpa)
    return UnturnedLanes(denoiser, window, sinks, attention=sdpa, placing=placing_of(recipe))


def expected_hashes(
    model: Path,
    prompts: dict[int, str],
    seed: int,
    blocks: int,
    recipe: Recipe | None = None,
    *,
    loads: LoadOf = no_load,
) -> list[str]:
    """SHA-256 of the finished blocks by the oracle; `prompts` by the first block they apply to.

    They are made by `recipe`, or by the model's own, each begun under a load.
    """
    torch.set_num_threads(1)
    info = weights.load_info(model)
    if recipe is not None:
        info = replace(info, recipe=recipe, geometry=info.geometry.divided(recipe.blocks))
    denoiser = weights.load_denoiser(model, info, Compute())
    encoder = load_text_encoder(model, info, Compute())
    text = {block: encoder.encode(prompt).features_TC.unsqueeze(0) for block, prompt in prompts.items()}
    lanes = lanes_of(denoiser, info.recipe)

    def noise(block: int, draw: int) -> Tensor:
        return normal(seed, block, draw, info.geometry.shape_of(block)).unsqueeze(0)

    steps = info.recipe.steps
    lists = [steps.entries(block, loads(block)) for block in range(blocks)]
    start = info.recipe.context.start_blocks
    if start:
        latents = generate_from(denoiser, info.recipe, text, noise, blocks, lanes, Beginning(start_blocks=start))
    elif any(entries != steps.ladder for entries in lists):
        latents = generate_by_lists(
            denoiser,
            lambda block: text[max(first for first in text if first <= block)],
            lanes,
            lists,
            lambda block, entry, _: noise(block, steps.ladder.index(entry)),
            frames=info.recipe.blocks.frames,
            shift=steps.shift,
        )
    else:
        latents = row_of(info.recipe)(denoiser, info.recipe, text, noise, blocks, lanes)

    return [sha256(tensor_to_bytes(block_BFCHW[0])).hexdigest() for block_BFCHW in latents]


def open_event(engine: Engine, session: str, prompt: str, **changes: object) -> Open:
    """An Open for 40 pictures in raw, as fast as possible."""
    values: dict[str, object] = {
        "now_s": engine.now_s(),
        "session": SessionId(session),
        "prompt": prompt,
        "seed": 7,
        "pace": Pace.FAST,
        "window": 4,
        "picture_limit": 40,
        "settings": RAW,
        "cues": (),
    }
    return Open(**(values | changes))  # type: ignore[arg-type]


async def stream(
    engine: Engine,
    session: str,
    prompt: str = "a red ball resting in the fog",
    *,
    acknowledge: bool = True,
    cues: tuple[CueRequest, ...] = (),
    **changes: object,
) -> list[ClientMessage]:
    """Open a session, consume it to its end; everything its client was told."""
    outbox = Outbox()
    engine.attach(SessionId(session), outbox)
    engine.submit(open_event(engine, session, prompt, cues=cues, **changes))
    told: list[ClientMessage] = []
    while not told or not isinstance(told[-1], Closed | Refused):
        async with asyncio.timeout(60):
            told.append(await outbox.get())
        message = told[-1]
        if isinstance(message, SegmentOut) and acknowledge:
            engine.submit(Ack(now_s=engine.now_s(), session=SessionId(session), segment=message.emit.block))
    return told


async def until_sent(engine: Engine, segments: int, sessions: int = 1) -> None:
    """Wait until so many sessions have each been sent at least so many segments."""
    async with asyncio.timeout(60):
        while sum(view.segments_sent >= segments for view in engine.scheduler.sessions()) < sessions:
            await asyncio.sleep(0.01)


def settle(engine: Engine, inbox: Inbox) -> None:
    """Have an engine that nobody runs handle the events in its `inbox`, and those that come of them."""
    while (event := inbox.take()) is not None:
        engine.step(event)


async def drain(engine: Engine) -> None:
    """Drain without a grace, until nothing is open any more."""
    engine.begin_drain()
    while not engine.is_drained:
        await asyncio.sleep(0.005)


async def until_attached(engine: Engine, *workers: WorkerId) -> None:
    """Wait until all of `workers` have a link."""
    async with asyncio.timeout(20):
        while not all(map(engine.is_attached, workers)):
            await asyncio.sleep(0.005)


class PortsKept(Engine):
    """An engine that keeps the port of every worker that joins, for tests that speak with one or break its link."""

    def __init__(self, scheduler: Scheduler, recorder: Recorder | None = None, *, inbox: Inbox | None = None) -> None:
        super().__init__(scheduler, recorder, inbox=inbox)
        self.ports: dict[WorkerId, Port] = {}

    def join(self, introduction: Introduction, port: Port) -> Engine:
        self.ports[introduction.worker] = port
        return super().join(introduction, port)


def segments(told: list[ClientMessage]) -> list[bytes]:
    """The segments among what a client was told."""
    return [message.data for message in told if isinstance(message, SegmentOut)]
