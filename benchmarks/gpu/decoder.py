"""The decoder: a block's time, kernels, state, error and bits; pictures in host memory, and their encoding as H.264."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.bench import Bench, relative
from benchmarks.gpu.kernels import kernel_facts
from benchmarks.gpu.model import model_folder
from longtake.core.work import DecoderKind
from workers.decode.encode import Codec, Encoder, VideoSettings, encoder_for
from workers.decode.slots import DecoderPool, LatentFormat
from workers.models import weights
from workers.models.api import CarriedState, Compute, LatentDecoder

_ENCODERS = (1, 4, 16)
_SEGMENTS_EACH = 3


def run(bench: Bench) -> None:
    """All steps."""
    for name, decoder, exact in _decoders(bench):
        One(bench, name, decoder).run()
        bench.step(f"{name}: error", partial(_error, bench, name, decoder, exact))
    bench.step("H.264", lambda: _encoding(bench))


def _decoders(bench: Bench) -> Iterator[tuple[str, LatentDecoder, LatentDecoder]]:
    """Every decoder that the product has for this model, by name, and the same in float32."""

    def loaded(compute: Compute, kind: DecoderKind) -> LatentDecoder:
        return weights.load_decoder(model_folder(bench), bench.info, compute, kind)

    for kind in bench.info.decoders:
        exact = loaded(replace(bench.compute, dtype="float32", compile=False), kind)
        computes = bench.computes() if kind is DecoderKind.FULL else {"tiny ": bench.compute}
        for label, compute in computes.items():
            yield f"{label}decoder", loaded(compute, kind), exact


class One:
    """The measurements of one decoder."""

    def __init__(self, bench: Bench, name: str, decoder: LatentDecoder) -> None:
        self._bench, self._name, self._decoder = bench, name, decoder
        self._z_BCFHW = _latents(bench, 2)

    def run(self) -> None:
        """All steps."""
        with torch.inference_mode():
            self._state = _opened(self._decoder, self._z_BCFHW[:1])
        for what, call in (
            ("a block", self._time),
            ("kernels", self._kernels),
            ("bits", self._bits),
            ("pictures", self._pictures),
        ):
            self._bench.step(f"{self._name}: {what}", call)

    def _once(self) -> Tensor:
        return self._decoder.decode(self._z_BCFHW[:1], self._state)

    def _time(self) -> None:
        self._bench.fact(
            f"{self._name}: a block",
            **self._bench.timed(self._once).fields(),
            state_mb=sum(held.nbytes for held in self._state.history_BFHWC) / 1e6,
            peak_mb=self._bench.peak_mb(self._once),
        )

    def _kernels(self) -> None:
        kernel_facts(self._bench, self._name, self._once)

    def _bits(self) -> None:
        """Whether two runs give the same, and another stream in the same pass."""
        z_BCFHW = self._z_BCFHW
        first, again = (self._decoder.decode(z_BCFHW[:1], _opened(self._decoder, z_BCFHW[:1])) for _ in range(2))
        both = self._decoder.decode(z_BCFHW, _opened(self._decoder, z_BCFHW))
        self._bench.fact(
            f"{self._name}: bits",
            equal_runs=torch.equal(first, again),
            equal_in_batch=torch.equal(both[:1], first),
            rel_in_batch=relative(both[:1], first),
        )

    def _pictures(self) -> None:
        """Through the slots that a worker serves from, to pictures in host memory."""
        info = self._bench.info
        pool = DecoderPool(self._decoder, LatentFormat.of(info), slots=1)
        pool.open(0)
        latents_FCHW = self._z_BCFHW[0].transpose(0, 1).float().cpu()
        pictures = range(info.geometry.pictures(1))
        pool.decode(0, latents_FCHW, pictures).pictures()
        made = pool.decode(0, latents_FCHW, pictures).pictures()
        time = self._bench.clocked(lambda: pool.decode(0, latents_FCHW, pictures).pictures())
        self._bench.fact(f"{self._name}: pictures", **time.fields(), mb=made.nbytes / 1e6, std=float(made.std()))


def _latents(bench: Bench, streams: int) -> Tensor:
    """Latents of one block of each stream, [B, C, F, H, W]."""
    frames, channels, rows, columns = bench.info.geometry.block_shape
    return bench.normal(streams, channels, frames, rows, columns)


def _opened(decoder: LatentDecoder, z_BCFHW: Tensor) -> CarriedState:
    """The state of streams that have seen a block."""
    state = decoder.initial_state(len(z_BCFHW), *z_BCFHW.shape[-2:])
    decoder.decode(z_BCFHW, state)
    return state


def _error(bench: Bench, name: str, decoder: LatentDecoder, exact: LatentDecoder) -> None:
    """The second block against float32, with the same weights."""
    z_BCFHW = _latents(bench, 1)
    low, high = (
        each.decode(z_BCFHW.to(each.dtype), _opened(each, z_BCFHW.to(each.dtype))).float() for each in (decoder, exact)
    )
    error = float((low.clamp(-1, 1) - high.clamp(-1, 1)).double().square().mean())
    bench.fact(
        f"{name}: bfloat16 against float32",
        psnr_db=10 * math.log10(4 / error) if error else math.inf,
        rel=relative(low, high),
        std=float(high.std()),
        finite=bool(torch.isfinite(low).all()),
    )


def _encoding(bench: Bench) -> None:
    """Segments by as many encoders at once as there are threads; the pictures are smooth and move, with some grain."""
    geometry = bench.info.geometry
    settings = VideoSettings(codec=Codec.H264, width=geometry.width, height=geometry.height, fps=geometry.fps)
    encoder, size = encoder_for(settings), (geometry.height, geometry.width)
    smooth_CHW = functional.interpolate(torch.rand(1, 3, 8, 8), size, mode="bilinear")[0] * 255
    moved = [smooth_CHW.roll((2 * number, 3 * number), (1, 2)) for number in range(geometry.pictures(1))]
    grainy_FCHW = torch.stack(moved) + 3 * torch.randn(len(moved), 3, *size)
    pictures_FHWC = grainy_FCHW.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    segments_ms = {}
    for threads in _ENCODERS:
        count = threads * _SEGMENTS_EACH
        with ThreadPoolExecutor(threads) as pool:
            encode = partial(_encoded, pool, encoder, [pictures_FHWC] * count)
            encode()
            segments_ms[threads] = bench.clocked(encode, runs=1).ms / count
    bench.fact("H.264 of a block", ms_by_threads=segments_ms, kb=len(encoder.encode(pictures_FHWC, 0)) / 1e3)


def _encoded(pool: ThreadPoolExecutor, encoder: Encoder, segments: list[NDArray[np.uint8]]) -> None:
    for future in [pool.submit(encoder.encode, pictures_FHWC, 0) for pictures_FHWC in segments]:
        future.result()
