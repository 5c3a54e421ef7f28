"""What simulated workers compute, by hand: the hashes that make up streams, without pages, ops or engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.courses import Course, Known, Op, finished
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from workers.simulated import arithmetic
from workers.simulated.arithmetic import Reach

OfHashes = Op[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all streams of a cell depend on; its workers are simulated."""

    recipe: Recipe
    geometry: Geometry
    reach: Reach

    def latents(self, course: Course[bytes, bytes]) -> Iterator[bytes]:
        """Finished latents of block 0, 1, … of a stream; see courses.finished."""
        return finished(self.recipe, Hashes(self.geometry, self.reach), course)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHashes(Known[bytes]):
    """The course of a stream of hashes."""

    frame_bytes: int = 0
    beginning: bytes = b""
    """The latents that are given, of so many bytes a frame."""
    reference: bytes = b""
    """Those of the images that every block looks at."""

    @property
    def given_frames(self) -> int:
        """See Course."""
        return len(self.beginning) // self.frame_bytes if self.beginning else 0

    def given(self, frames: range) -> bytes:
        """See Course."""
        return self.beginning[frames.start * self.frame_bytes : frames.stop * self.frame_bytes]


def text_of(features: bytes) -> bytes:
    """What stands for a prompt, by the tensor that its encoder has put out."""
    return arithmetic.mix(b"text", features)


@dataclass(frozen=True, slots=True)
class Hashes:
    """See courses.Forwards."""

    geometry: Geometry
    reach: Reach

    def lane(self) -> HashedLane:
        """See courses.Forwards."""
        return HashedLane(self.reach)

    def noise(self, seed: int, block: int, frames: int) -> bytes:
        """See courses.Forwards."""
        return arithmetic.latents_of(arithmetic.noise(seed, block, 0), self._of(frames))

    def stepped(self, op: OfHashes, left: bytes, step: int, entered: int | None, seed: int) -> bytes:
        """See courses.Forwards."""
        added = b"" if entered is None else arithmetic.noise(seed, op.block, entered)
        return arithmetic.denoised(left, added, self._like(op.latents))

    def noised(self, latents: bytes, sigma: float, seed: int, block: int, draw: int) -> bytes:
        """See courses.Forwards."""
        return arithmetic.noised(latents, sigma, arithmetic.noise(seed, block, draw), self._like(latents))

    def _of(self, frames: int) -> Geometry:
        return self.geometry.divided(BlockPlan(frames=frames))

    def _like(self, latents: bytes) -> Geometry:
        return self._of(len(latents) // self._of(1).latent_bytes)


@dataclass(slots=True)
class HashedLane:
    """See courses.LaneOf."""

    reach: Reach
    frames: dict[int, list[bytes]] = field(default_factory=dict)

    def run(self, *ops: OfHashes) -> list[bytes]:
        """See LaneOf."""
        for op in ops:
            self.frames.update((frame, [b""] * self.reach.layers) for frame in op.sight.own)
        values = [arithmetic.entering(op.latents, op.text, op.timestep, op.sight.places.queries) for op in ops]
        for layer in range(self.reach.layers):
            for op, value in zip(ops, values, strict=True):
                for frame, left in zip(op.sight.own, arithmetic.left_by(value, op.sight.places.keys), strict=True):
                    self.frames[frame][layer] = left.tobytes()
            values = [
                arithmetic.leaving(value, self._seen(op, layer), op.sight.places.read, op.sight.places.weights)
                for op, value in zip(ops, values, strict=True)
            ]
        return values

    def _seen(self, op: OfHashes, layer: int) -> NDArray[np.uint8]:
        blank, own = bytes(arithmetic.HASH_BYTES), op.sight.own
        content = b"".join([blank if frame in own else self.frames[frame][layer] for frame in op.sight.reads])
        return np.frombuffer(content, np.uint8)

    def fold(self, frames: Sequence[int], into: int) -> None:
        """See LaneOf."""
        content = b"".join([b"".join(self.frames[frame]) for frame in frames])
        pages = np.frombuffer(content, np.uint8).reshape(len(frames), self.reach.layers, -1)
        self.frames[into] = [layer.tobytes() for layer in arithmetic.folded(pages)]

    def forget(self, kept: Sequence[int], before: int) -> None:
        """See LaneOf."""
        for frame in [frame for frame in self.frames if frame < before and frame not in kept]:
            del self.frames[frame]
