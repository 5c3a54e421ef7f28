"""The oracle of whole streams: a network over contiguous keys runs the forwards of a course (benchmarks.courses).

Where several ops are one forward each goes through the network for itself, all in step: in a layer none reads before
all have written. Keys are kept as a server stores them, or without their time and turned as they are read (unturned).
Shape suffixes as in oracle.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.courses import Course, Known, Op, Sight, finished
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from tests.workers.oracle import clean, noised
from tests.workers.oracle_memory import compressed, there_and_back
from tests.workers.oracle_slope import weighed
from tests.workers.unturned import turned
from workers.denoise.noise import normal
from workers.models.api import Conditioning, Inputs, TextKV
from workers.models.wan.dit import WanModel

OfTensors = Op[Tensor, TextKV]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTensors(Known[TextKV]):
    """The course of a stream of tensors."""

    beginning: Tensor | None = None
    """The latents [F, C, H, W] that are given."""
    image: Tensor | None = None
    """Those of the images that every block looks at."""

    @property
    def reference(self) -> Tensor:
        """See Course."""
        assert self.image is not None
        return self.image[None]

    @property
    def given_frames(self) -> int:
        """See Course."""
        return 0 if self.beginning is None else len(self.beginning)

    def given(self, frames: range) -> Tensor:
        """See Course."""
        assert self.beginning is not None
        return self.beginning[None, frames.start : frames.stop]


@dataclass(frozen=True, slots=True)
class Network:
    """See benchmarks.courses.Forwards."""

    model: WanModel
    geometry: Geometry
    sigmas: Sequence[float]
    """Those of the ladder."""
    made: dict[tuple[int, int], Tensor]
    """By thread and layer, the keys [B, L, E] that the network made last, before they were rotated."""

    @staticmethod
    def of(model: WanModel, geometry: Geometry, recipe: Recipe) -> Network:
        """A network for streams by a recipe; the model is to be used for nothing else."""
        made: dict[tuple[int, int], Tensor] = {}
        for layer in model.layers:
            norm = model.get_submodule(f"blocks.{layer}.self_attn.norm_k")
            norm.register_forward_hook(
                lambda _module, _inputs, keys, layer=layer: made.update({(threading.get_ident(), layer): keys})
            )
        return Network(model, geometry, recipe.sigmas, made)

    def latents(self, recipe: Recipe, course: Course[Tensor, TextKV]) -> Iterator[Tensor]:
        """Finished latents [1, F, C, H, W] of block 0, 1, … of a stream; see courses.finished."""
        stream = finished(recipe, self, course)
        while True:
            with torch.inference_mode():
                latents = next(stream, None)
            if latents is None:
                return
            yield latents

    def lane(self) -> Lane:
        """See benchmarks.courses.Forwards."""
        return Lane(self)

    def noise(self, seed: int, block: int, frames: int) -> Tensor:
        """See benchmarks.courses.Forwards."""
        return self._draw(seed, block, 0, frames)

    def stepped(self, op: OfTensors, left: Tensor, step: int, entered: int | None, seed: int) -> Tensor:
        """See benchmarks.courses.Forwards."""
        x0_BFCHW = clean(op.latents, left, self.sigmas[step])
        if entered is None:
            return x0_BFCHW
        return noised(x0_BFCHW, self._draw(seed, op.block, entered, op.latents.shape[1]), self.sigmas[entered])

    def noised(self, latents: Tensor, sigma: float, seed: int, block: int, draw: int) -> Tensor:
        """See benchmarks.courses.Forwards."""
        return noised(latents, self._draw(seed, block, draw, latents.shape[1]), sigma)

    def _draw(self, seed: int, block: int, draw: int, frames: int) -> Tensor:
        shape = self.geometry.divided(BlockPlan(frames=frames)).block_shape
        return normal(seed, block, draw, shape).unsqueeze(0)


@dataclass(slots=True)
class Lane:
    """See benchmarks.courses.LaneOf."""

    network: Network
    frames: dict[int, dict[int, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    """By latent frame and layer, its k and v [B, tokens, N, D]."""

    def run(self, *ops: OfTensors) -> list[Tensor]:
        """See benchmarks.courses.LaneOf: the flows."""
        together = threading.Barrier(len(ops))
        works = [self._inputs(op, together) for op in ops]
        if len(works) == 1:
            return [self._flow(works[0])]
        with ThreadPoolExecutor(len(works)) as threads:
            return list(threads.map(self._flow, works))

    def _flow(self, work: Inputs) -> Tensor:
        with torch.inference_mode():
            return self.network.model.denoise(work)

    def fold(self, frames: Sequence[int], into: int) -> None:
        """See benchmarks.courses.LaneOf."""
        rows = self.network.geometry.latent_height // self.network.model.config.patch_size[1]
        with torch.inference_mode():
            pairs = {layer: [self.frames[frame][layer] for frame in frames] for layer in self.network.model.layers}
            self.frames[into] = {
                layer: (
                    compressed([there_and_back(k, rows) for k, _ in each], None),
                    compressed([v for _, v in each], None),
                )
                for layer, each in pairs.items()
            }

    def forget(self, kept: Sequence[int], before: int) -> None:
        """See benchmarks.courses.LaneOf."""
        for frame in [frame for frame in self.frames if frame < before and frame not in kept]:
            del self.frames[frame]

    def _inputs(self, op: OfTensors, together: threading.Barrier) -> Inputs:
        batch, count, _, rows, _ = op.latents.shape
        rows //= self.network.model.config.patch_size[1]
        return Inputs(
            x_BFCHW=op.latents,
            timestep_BF=torch.full((batch, count), op.timestep),
            position_BF=torch.tensor([op.sight.places.queries] * batch),
            conditioning=Conditioning(text=op.text),
            attention=_Pass(self, op.sight, rows, together),
        )


@dataclass(slots=True)
class _Pass:
    """The self-attention of one op."""

    lane: Lane
    sight: Sight
    rows: int
    together: threading.Barrier

    def store(self, layer: int, k_BLND: Tensor, v_BLND: Tensor) -> None:
        """Leave the keys and values of the own frames in the lane."""
        if self.sight.places.read:  # they are stored without their time
            k_BLND = self.lane.network.made[threading.get_ident(), layer].view(k_BLND.shape)
        count = len(self.sight.own)
        for frame, *pair in zip(self.sight.own, k_BLND.chunk(count, 1), v_BLND.chunk(count, 1), strict=True):
            self.lane.frames.setdefault(frame, {})[layer] = (pair[0], pair[1])
        self.together.wait()

    def attend(self, layer: int, q_BLND: Tensor, k_BLND: Tensor, v_BLND: Tensor) -> Tensor:
        """What the own frames see of all that is read."""
        self.store(layer, k_BLND, v_BLND)
        pairs = [self.lane.frames[frame][layer] for frame in self.sight.reads]
        keys = [k for k, _ in pairs]
        if self.sight.places.read:
            keys = [turned(k, place, self.rows) for k, place in zip(keys, self.sight.places.read, strict=True)]
        return weighed(self.sight.places.weights, q_BLND, torch.cat(keys, 1), torch.cat([v for _, v in pairs], 1))


def texts_of(model: WanModel, features: Mapping[int, Tensor]) -> dict[int, TextKV]:
    """Prompts as the network takes them, of text features [T, E] by the blocks that they apply from."""
    with torch.inference_mode():
        return {block: model.encode_text(each_TC.unsqueeze(0)) for block, each_TC in features.items()}
