"""What simulated workers compute, by hand: the hashes that make up streams, without pages, ops or engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.courses import Course, Known, Op, finished, own_frames
from benchmarks.places import standing
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

    def lane(self, recipe: Recipe) -> HashedLane:
        """See courses.Forwards."""
        return HashedLane(recipe, self.reach)

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

    recipe: Recipe
    reach: Reach
    frames: dict[int, list[bytes]] = field(default_factory=dict)

    def run(self, *ops: OfHashes) -> list[bytes]:
        """See LaneOf."""
        recipe, reach = self.recipe, self.reach
        owns = [own_frames(recipe, op.block) for op in ops]
        places = [standing(recipe, own, op.reads) for own, op in zip(owns, ops, strict=True)]
        for own in owns:
            self.frames.update((frame, [b""] * reach.layers) for frame in own)
        values = [
            arithmetic.entering(op.latents, op.text, op.timestep, place.queries)
            for op, place in zip(ops, places, strict=True)
        ]
        for layer in range(reach.layers):
            for own, place, value in zip(owns, places, values, strict=True):
                for frame, left in zip(own, arithmetic.left_by(value, place.keys), strict=True):
                    self.frames[frame][layer] = left.tobytes()
            values = [
                arithmetic.leaving(value, self._seen(op, own, layer), place.read, place.weights)
                for op, own, place, value in zip(ops, owns, places, values, strict=True)
            ]
        return values

    def _seen(self, op: OfHashes, own: range, layer: int) -> NDArray[np.uint8]:
        blank = bytes(arithmetic.HASH_BYTES)
        content = b"".join([blank if frame in own else self.frames[frame][layer] for frame in op.reads])
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
