"""The pages and lanes of one simulated denoise worker, and its forwards over them, without a device or a clock."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import InternalFault
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Kind
from longtake.core.work import ForwardWork, FromLane, FromLatent, FromNoise, PageId
from workers.denoise.lane_memory import LaneMemory
from workers.messages import Forward
from workers.simulated.arithmetic import (
    REACH,
    Reach,
    after_layer,
    are_written,
    denoised,
    entering,
    latents_of,
    mix,
    no_pages,
    noise,
    noised,
    pages_of,
)


class SimulatedLanes:
    """The pages and lanes of one worker, which does one op after the other. Not thread-safe."""

    def __init__(self, geometry: Geometry, *, pages: int, reach: Reach = REACH) -> None:
        self.geometry = geometry
        self.reach = reach
        self.pages = no_pages(pages, reach)
        """[page, layer, byte]"""
        self.memory: LaneMemory[bytes, bytes] = LaneMemory()
        """The outputs by lane, and what stands for the texts."""

    def forward(self, *batch: Forward) -> list[bytes]:
        """The ops of one forward; the outputs of those that are sent.

        InternalFault, UnknownPeer or IndexError if one cannot be meant. In each layer all of them write their pages
        before any reads.
        """
        written = {page for order in batch for page in order.work.pages.writes}
        values = [[self._entering(order, written)] for order in batch]
        for layer in range(self.reach.layers):
            for order, found in zip(batch, values, strict=True):
                own = pages_of((found[-1], b""), order.work.key_positions)
                self.pages[list(order.work.pages.writes), layer] = own[:, 0]
            for order, found in zip(batch, values, strict=True):
                context = self._context(order.work, layer)
                found.append(after_layer(found[-1], context, order.work.read_turns))
        pairs = zip(batch, values, strict=True)
        return [sent for order, found in pairs for sent in self._outputs(order.work, found)]

    def _entering(self, order: Forward, written: AbstractSet[PageId]) -> bytes:
        """What enters the first layer of an op; `written` are the pages that its forward writes."""
        work = order.work
        text = self.memory.text(order, lambda features: mix(b"text", features))
        self._check(work, written)
        return entering(self._input(order), text, work.times.timesteps[0], work.positions)

    def _context(self, work: ForwardWork, layer: int) -> NDArray[np.uint8]:
        """What an op reads in one layer; its own pages are zeros in it."""
        reads = list(work.pages.reads)
        context = self.pages[reads, layer]
        context[[reads.index(page) for page in work.pages.writes]] = 0
        return context

    def _outputs(self, work: ForwardWork, values: Sequence[bytes]) -> list[bytes]:
        if work.kind is Kind.COMMIT:
            return []
        key = work.noise
        added = b"" if work.times.next_sigma is None else noise(key.seed, key.block, work.step + 1)
        latents = denoised(values, added, self._geometry(work))
        if work.returns.are_kept:
            self.memory.keep(work, latents)
        return [latents] if work.returns.are_sent else []

    def check_page(self, page: PageId) -> None:
        """IndexError if it is not in the pool."""
        if not 0 <= page < len(self.pages):
            raise IndexError(f"page {page} is not in a pool of {len(self.pages)}")

    def _geometry(self, work: ForwardWork) -> Geometry:
        """That of the blocks of a session: each recipe has its own."""
        return self.geometry.divided(BlockPlan(frames=len(work.positions)))

    def _check(self, work: ForwardWork, written: AbstractSet[PageId]) -> None:
        self.check_page(min(work.pages.reads))
        self.check_page(max(work.pages.reads))
        others = [page for page in work.pages.reads if page not in written]
        if not are_written(self.pages[others]):
            blank = next(page for page in others if not are_written(self.pages[[page]]))
            raise InternalFault(f"page {blank} is read before it was written")

    def _input(self, order: Forward) -> bytes:
        """What an op starts from, with the noise that it adds to that."""
        latents, work = self._latents(order), order.work
        if (level := work.times.noised) is None:
            return latents
        added = noise(work.noise.seed, work.noise.block, level.draw)
        return noised(latents, level.sigma, added, self._geometry(work))

    def _latents(self, order: Forward) -> bytes:
        work, geometry = order.work, self._geometry(order.work)
        match work.input:
            case FromNoise():
                return latents_of(noise(work.noise.seed, work.noise.block, 0), geometry)
            case FromLatent():
                if len(order.latents) != geometry.latent_bytes:
                    raise InternalFault(f"{len(order.latents)} bytes are not the latents of a block")
                return order.latents
            case FromLane():
                return self.memory.output(work)
