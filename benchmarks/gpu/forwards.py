"""Whole forwards, D and C, by window fill and by batch: times, kernels, memory, bits, and bfloat16's error."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Time, relative
from benchmarks.gpu.kernels import kernel_facts
from benchmarks.gpu.model import Streams, forward_flop, matmul_rate, model_folder
from workers.models import weights
from workers.models.api import Compute

_BATCHES = (1, 2, 4)
_FEW_LAYERS = 4
"""So many, in float32 and in bfloat16, tell what the type costs; all of them would take long in float32."""


def run(bench: Bench) -> None:
    """All steps."""
    for label, compute in bench.computes().items():
        bench.step(f"{label}forwards", partial(_forwards, bench, label, compute), need_s=20)
    bench.step("bfloat16 against float32", partial(_exactness, bench), need_s=8)


def _forwards(bench: Bench, label: str, compute: Compute) -> None:
    denoiser = weights.load_denoiser(model_folder(bench), bench.info, compute)
    streams = Streams(bench, denoiser, compute, max(_BATCHES))
    forwards = Forwards(bench, label, streams)
    given = streams.inputs(range(1))
    forwards.full()
    bench.step("D: kernels", partial(kernel_facts, bench, f"{label}D", partial(denoiser.denoise, given)))
    bench.step("bits", partial(_bits, bench, label, streams))
    if not label:
        bench.step("by batch", forwards.by_batch, need_s=10)
        bench.step("by window fill", forwards.by_fill, need_s=15)


class Forwards:
    """Times of one denoiser's forwards."""

    def __init__(self, bench: Bench, label: str, streams: Streams) -> None:
        self._bench, self._label, self._streams = bench, label, streams
        self._ops = {"D": streams.denoiser.denoise, "C": streams.denoiser.commit}
        self._frames, self._window = bench.info.recipe.blocks.frames, bench.info.recipe.page_count

    def _time(self, kind: str, batch: int, pages: int) -> Time:
        items = range(batch)
        given = self._streams.inputs(items, [self._streams.pages(item, pages) for item in items])
        return self._bench.timed(partial(self._ops[kind], given))

    def full(self) -> None:
        """Both kinds over a full window, and how far they are from the device's limit."""
        peak = matmul_rate(self._bench)
        for kind in self._ops:
            time = self._time(kind, 1, self._window)
            flop = forward_flop(self._bench.info, layers_only_stored=int(kind == "C"))
            rate = flop / time.ms / 1e9
            inputs = self._streams.inputs(range(1))
            taken_mb = self._bench.peak_mb(partial(self._ops[kind], inputs))
            self._bench.fact(
                f"{self._label}{kind}, full window", **time.fields(), tflop=flop / 1e12, tflop_per_s=rate,
                of_matmul=rate / peak, peak_mb=taken_mb,
            )  # fmt: skip

    def by_batch(self) -> None:
        """What batches gain: batch t(1) / t(batch), both kinds together."""
        times = {kind: {size: self._time(kind, size, self._window).ms for size in _BATCHES} for kind in self._ops}
        both = {size: times["D"][size] + times["C"][size] for size in _BATCHES}
        gains = {size: size * both[1] / both[size] for size in _BATCHES}
        self._bench.fact("full window, by batch", d_ms=times["D"], c_ms=times["C"], gain=gains)

    def by_fill(self) -> None:
        """From a stream's first block to a full window."""
        fills = range(self._frames, self._window + 1, self._frames)
        times = {kind: {pages: self._time(kind, 1, pages).ms for pages in fills} for kind in self._ops}
        self._bench.fact("by pages read", d_ms=times["D"], c_ms=times["C"])


def _bits(bench: Bench, label: str, streams: Streams) -> None:
    """Whether two runs, and two streams in one forward, give the same; and a commit the pages of a forward."""

    def left(items: range, *, commits: bool = False) -> tuple[Tensor, Tensor]:
        streams.clear(items)
        inputs = streams.inputs(items)
        if commits:
            streams.denoiser.commit(inputs)
            return inputs.x_BFCHW, streams.written(items)
        return streams.denoiser.denoise(inputs), streams.written(items)

    first, again, second, both = left(range(1)), left(range(1)), left(range(1, 2)), left(range(2))
    alone = torch.cat([first[0], second[0]])
    bench.fact(
        f"{label}bits",
        equal_runs=torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]),
        equal_in_batch=torch.equal(both[0], alone),
        equal_pages_in_batch=torch.equal(both[1], torch.cat([first[1], second[1]], 2)),
        equal_pages_of_commit=torch.equal(left(range(1), commits=True)[1], first[1]),
        rel_in_batch=relative(both[0], alone),
        finite=bool(torch.isfinite(first[0]).all()),
        std=float(first[0].float().std()),
    )


def _exactness(bench: Bench) -> None:
    few = range(min(_FEW_LAYERS, bench.info.num_layers))

    def flow(compute: Compute) -> Tensor:
        denoiser = weights.load_denoiser(model_folder(bench), bench.info, compute, few)
        return denoiser.denoise(Streams(bench, denoiser, compute, 1).inputs(range(1)))

    exact = flow(replace(bench.compute, dtype="float32", compile=False))
    errors = {f"{label}rel": relative(flow(compute), exact) for label, compute in bench.computes().items()}
    bench.fact(f"bfloat16 against float32, {len(few)} layers", **errors, std=float(exact.std()))
