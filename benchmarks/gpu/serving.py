"""One GPU end to end: the product's own render, with its real engine and workers, on recipes at true size."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import folder_for
from benchmarks.gpu.spans import Span, Spans, summary
from benchmarks.process_use import own_rss_bytes
from cluster.cell.outbox import ClientMessage, SegmentOut
from cluster.render import render
from longtake.core.events import Open
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.recipe.published import PUBLISHED, Published
from longtake.core.work import DecoderKind, SegmentSettings, SessionId
from workers.models.weights import load_info

_RECIPES = ("wan-hiar", "wan-self-forcing")
_STEADY_BLOCKS, _TINY_BLOCKS = 24, 8
"""Blocks to generate once the window is full; fewer if the time ends before."""
_LEAST_STEADY = 4
_SPARE_S = 3.0
_LATE_S = 90.0
"""So long after its time a stream that is not steady yet may go on: the first makes the kernels."""


def run(bench: Bench) -> None:
    """All steps: every recipe with every decoder that the model has."""
    cases = [(recipe, decoder) for decoder in bench.info.decoders for recipe in _RECIPES]
    for number, (name, decoder) in enumerate(cases):
        seconds = bench.left_s() / (len(cases) - number) - _SPARE_S
        what = name if decoder is DecoderKind.FULL else f"{name}, {decoder.value} decoder"
        case = Case(name=what, recipe=PUBLISHED[name], decoder=decoder)
        bench.step(what, partial(serve, bench, case, seconds=seconds), need_s=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is served."""

    name: str
    recipe: Published
    decoder: DecoderKind


@dataclass(slots=True)
class Seen:
    """What a client sees of one stream, and the device's memory meanwhile."""

    bench: Bench
    spans: Spans
    warm: int
    """The first block from which on the stream counts as steady."""
    last: int
    ends_s: float
    over: asyncio.Event = field(default_factory=asyncio.Event)
    opened_s: float = 0.0
    arrived_s: list[float] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    bytes: int = 0
    held: list[tuple[int, int]] = field(default_factory=list)
    """Device memory that torch reserves, and the process's resident memory, with each steady block."""
    start_peak_gb: float | None = None
    """Most device memory up to the first steady block."""
    ops: list[Span] = field(default_factory=list)

    def take(self, message: ClientMessage) -> None:
        """Note a message of the engine."""
        now_s = time.monotonic()
        match message:
            case _ if self.over.is_set():
                pass
            case Opened():
                self.opened_s = now_s
            case SegmentOut():
                self.arrived_s.append(now_s)
                self.pictures.append(message.emit.picture_count)
                self.bytes += len(message.data)
                self._note(message.emit.block, now_s)
            case _:
                pass

    def _note(self, block: int, now_s: float) -> None:
        if block < self.warm:
            return
        reserved = torch.cuda.memory_reserved(self.bench.device) if self.bench.has_cuda else 0
        self.held.append((reserved, own_rss_bytes()))
        if block == self.warm:
            self.start_peak_gb = self.bench.peak_gb()
            self.bench.forget_peak()
            self.spans.start()
        if block >= self.last or (block >= self.warm + _LEAST_STEADY and now_s > self.ends_s):
            self.ops = self.spans.stop()
            self.over.set()


def serve(bench: Bench, case: Case, *, seconds: float) -> None:
    """Render a stream and write what came of it. RuntimeError if it ended before it was steady."""
    began_s = time.monotonic()
    name, recipe = case.name, case.recipe.recipe
    folder = folder_for(bench, case.recipe.name, recipe)
    made_s = time.monotonic()
    warm = recipe.history_blocks + 1
    last = warm + (_TINY_BLOCKS if bench.is_tiny else _STEADY_BLOCKS)
    seen = Seen(bench, Spans(bench), warm=warm, last=last, ends_s=began_s + seconds)
    bench.forget_peak()
    with seen.spans.watching():
        asyncio.run(_render(bench, folder, seen, case.decoder))
    if not seen.ops:
        raise RuntimeError(f"{len(seen.arrived_s)} blocks came, {warm + _LEAST_STEADY} are needed")
    _facts(bench, name, seen)
    bench.fact(
        f"{name}: start", model_s=made_s - began_s, workers_s=seen.opened_s - made_s,
        first_segment_s=seen.arrived_s[0] - seen.opened_s,
    )  # fmt: skip


async def _render(bench: Bench, folder: Path, seen: Seen, decoder: DecoderKind) -> None:
    """Until enough has come; cancelled then, as by a client's Ctrl-C."""
    geometry = load_info(folder).geometry
    request = Open(
        now_s=0.0, session=SessionId("measured"), prompt="a red ball circling in the fog", seed=1, pace=Pace.FAST,
        window=Limits().default_window, picture_limit=geometry.first_picture(seen.last + 2),
        settings=SegmentSettings(codec="h264", quality=23, decoder=decoder),
    )  # fmt: skip
    stream = asyncio.create_task(render(folder, request, seen.take, compute=bench.compute))
    over = asyncio.create_task(seen.over.wait())
    patience_s = seen.ends_s + _LATE_S - time.monotonic()
    await asyncio.wait((stream, over), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    stream.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stream


def _facts(bench: Bench, name: str, seen: Seen) -> None:
    first, last = seen.warm, len(seen.arrived_s) - 1
    wall_s = seen.arrived_s[last] - seen.arrived_s[first]
    pictures = sum(seen.pictures[first + 1 : last + 1])
    kinds = dict.fromkeys(span.kind for span in seen.ops)
    bench.fact(
        name,
        blocks=last - first,
        pictures_per_s=pictures / wall_s,
        times_real=pictures / wall_s / bench.info.geometry.pictures_per_s,
        block_ms=1e3 * wall_s / (last - first),
        **summary(seen.ops),
        share_of_time={k: sum(span.ms for span in seen.ops if span.kind == k) / 1e3 / wall_s for k in kinds},
        segment_kb=seen.bytes / len(seen.arrived_s) / 1e3,
    )
    bench.fact(
        f"{name}: memory",
        start_peak_gb=seen.start_peak_gb,
        steady_peak_gb=bench.peak_gb(),
        reserved_grown_mb=(seen.held[-1][0] - seen.held[0][0]) / 1e6 if bench.has_cuda else None,
        resident_grown_mb=(seen.held[-1][1] - seen.held[0][1]) / 1e6,
    )
