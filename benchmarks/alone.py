"""Streams without a server, as single-stream programs make them: the model, its decoder and a loop over the blocks.

The same weights, forwards, decoder, encoder and thread count as Longtake's workers, and so the same bytes; no engine,
no link, no batches. Shape suffixes: B batch item (always one), F latent frame, C channel, H row, W column.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.process_use import thread_cpu_s
from longtake.core.errors import Unavailable
from longtake.core.pages import PageTable
from longtake.core.recipe.context import Level
from longtake.core.work import PageId, SegmentSettings, SlotId
from workers.decode.encode import encoder_for
from workers.decode.slots import DecoderPool, LatentFormat
from workers.decode.worker import video_settings
from workers.denoise.attention import ItemPages, SdpaBackend
from workers.denoise.kv import PageMemory
from workers.denoise.noise import normal
from workers.denoise.solver import predict_x0, renoise
from workers.models import weights
from workers.models.api import Compute, Conditioning, Inputs
from workers.models.text import load_text_encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A stream to be made."""

    prompt: str
    seed: int
    blocks: int


class Loaded:
    """The weights of one process, with room for `streams` resident streams."""

    def __init__(self, model: Path, settings: SegmentSettings, *, streams: int) -> None:
        torch.set_num_threads(1)
        self.info = weights.load_info(model)
        self.settings = settings
        self.denoiser = weights.load_denoiser(model, self.info, Compute())
        self.text = load_text_encoder(model, self.info, Compute())
        recipe = self.info.recipe
        shape = self.denoiser.page_shape(self.info.geometry.tokens_per_frame)
        pages = streams * recipe.lane_count * recipe.page_count
        self.pages = PageMemory(shape, pages, device=self.denoiser.device, dtype=self.denoiser.dtype)
        decoder = weights.load_decoder(model, self.info, Compute())
        self.slots = DecoderPool(decoder, LatentFormat.of(self.info), slots=streams)


class Stream:
    """One stream of a process, number `number` of those that are resident."""

    def __init__(self, loaded: Loaded, request: Request, *, number: int) -> None:
        recipe = loaded.info.recipe
        self._loaded = loaded
        self._seed = request.seed
        self._slot = SlotId(number)
        loaded.slots.open(self._slot)
        self._encoder = encoder_for(video_settings(loaded.settings, loaded.info.geometry))
        with torch.inference_mode():
            features_TC = loaded.text.encode(request.prompt).features_TC
            self._steering = Conditioning(text=loaded.denoiser.encode_text(features_TC.unsqueeze(0)))
        first = number * recipe.lane_count * recipe.page_count
        lanes = [first + lane * recipe.page_count for lane in range(recipe.lane_count)]
        self._tables = [
            PageTable(recipe.window, tuple(PageId(start + page) for page in range(recipe.page_count)))
            for start in lanes
        ]

    def make(self, block: int) -> bytes:
        """The segment of the next block."""
        geometry = self._loaded.info.geometry
        with torch.inference_mode():
            latents_FCHW = self._denoised(block)
        pictures = range(geometry.first_picture(block), geometry.first_picture(block + 1))
        pictures_FHWC = self._loaded.slots.decode(self._slot, latents_FCHW, pictures).pictures()
        return self._encoder.encode(pictures_FHWC, pictures.start)

    def close(self) -> None:
        """Free the decoder slot."""
        self._loaded.slots.close(self._slot)

    def _denoised(self, block: int) -> Tensor:
        recipe, shape = self._loaded.info.recipe, self._loaded.info.geometry.block_shape
        model = self._loaded.denoiser
        x_BFCHW = normal(self._seed, block, 0, shape).unsqueeze(0)
        steps = recipe.steps.indexes(recipe.steps.entries(block))
        for step, entered in zip(steps, (*steps[1:], None), strict=True):
            lane = 0 if recipe.level is Level.CLEAN else step
            flow_BFCHW = model.denoise(self._inputs(x_BFCHW, lane, block, recipe.timesteps[step]))
            x_BFCHW = predict_x0(x_BFCHW, flow_BFCHW, [recipe.sigmas[step]])
            if entered is not None:
                noise_BFCHW = normal(self._seed, block, entered, shape).unsqueeze(0)
                x_BFCHW = renoise(x_BFCHW, noise_BFCHW, [recipe.sigmas[entered]])
            if recipe.level is Level.OUTPUT:
                model.commit(self._inputs(x_BFCHW, lane, block, recipe.commit_timestep(step)))
        if recipe.level is Level.CLEAN:
            model.commit(self._inputs(x_BFCHW, 0, block, 0.0))
        return x_BFCHW[0]

    def _inputs(self, x_BFCHW: Tensor, lane: int, block: int, timestep: float) -> Inputs:
        recipe = self._loaded.info.recipe
        frames = recipe.blocks.frames
        first = block * frames
        table = self._tables[lane]
        pages = ItemPages(reads=table.reads(block), writes=table.writes(block))
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=torch.full((1, frames), timestep),
            position_BF=torch.tensor([range(first, first + frames)]),
            conditioning=self._steering,
            attention=SdpaBackend().plan(self._loaded.pages, [pages]),
        )


def make_streams(loaded: Loaded, requests: Sequence[Request]) -> list[str]:
    """Make streams in one process by turns, a block each; the SHA-256 of each one's segments, in order."""
    streams = [Stream(loaded, request, number=number) for number, request in enumerate(requests)]
    digests = [hashlib.sha256() for _ in requests]
    for block in range(max((request.blocks for request in requests), default=0)):
        for request, stream, digest in zip(requests, streams, digests, strict=True):
            if block < request.blocks:
                digest.update(stream.make(block))
    for stream in streams:
        stream.close()
    return [digest.hexdigest() for digest in digests]


class Processes:
    """`count` processes with weights loaded, each of which makes the streams that it is given."""

    def __init__(self, model: Path, settings: SegmentSettings, *, count: int, streams: int) -> None:
        asked = [str(model), {"codec": settings.codec, "quality": settings.quality}, streams]
        command = [sys.executable, "-m", "benchmarks.alone", json.dumps(asked)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        for process in self._processes:
            _heard(process)  # it has loaded

    def make(self, shares: Sequence[Sequence[Request]]) -> list[list[str]]:
        """Give share i to process i, wait for all; the digests of `make_streams` by share."""
        used = self._processes[: len(shares)]
        for process, share in zip(used, shares, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps([asdict(request) for request in share]) + "\n")
            process.stdin.flush()
        return [[str(digest) for digest in _heard(process)] for process in used]

    def cpu_s(self) -> float:
        """CPU seconds that all of them have used so far."""
        return sum(sum(thread_cpu_s(process.pid).values()) for process in self._processes)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()


def _heard(process: subprocess.Popen[str]) -> list[str]:
    """The next answer of a process; Unavailable if it has ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Unavailable(f"a process of the alternatives ended with status {process.wait()}")
    answer: list[str] = json.loads(line)
    return answer


def main() -> None:
    """One process: a line of requests in, a line of digests out."""
    model, settings, streams = json.loads(sys.argv[1])
    loaded = Loaded(Path(model), SegmentSettings(**settings), streams=streams)
    click.echo("[]")
    for line in sys.stdin:
        click.echo(json.dumps(make_streams(loaded, [Request(**request) for request in json.loads(line)])))


if __name__ == "__main__":
    main()
