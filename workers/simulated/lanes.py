"""The pages and lanes of one simulated denoise worker, and its forwards over them, without a device or a clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import InternalFault
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Kind
from longtake.core.work import ForwardWork, FromLane, FromLatent, FromNoise, PageId
from workers.denoise.apart import apart
from workers.denoise.lane_memory import LaneMemory
from workers.messages import Forward
from workers.simulated.arithmetic import (
    REACH,
    Reach,
    are_written,
    denoised,
    entering,
    folded,
    latents_of,
    leaving,
    left_by,
    mix,
    no_pages,
    noise,
    noised,
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

    def batch(self, orders: Sequence[Forward]) -> list[bytes]:
        """Ops of one dispatch; the outputs that are sent, in order. See `forward`."""
        found: dict[int, list[bytes]] = {}
        for part in apart(orders):
            if len(part) == 1:
                found[part[0]] = self.forward(orders[part[0]])
                continue
            forwards = [orders[item] for item in part]
            self._fold(forwards)
            found |= zip(part, self._together(forwards), strict=True)
        return [output for item in sorted(found) for output in found[item]]

    def forward(self, order: Forward) -> list[bytes]:
        """One op; its output if it is sent. InternalFault, UnknownPeer or IndexError if it cannot be meant."""
        self._fold([order])
        return self._together([order])[0]

    def _fold(self, orders: Sequence[Forward]) -> None:
        """What is done in the lanes before any of these ops."""
        for fold in [fold for order in orders for fold in order.work.folds]:
            self._check_written([*fold.reads])
            self.check_page(fold.write)
            self.pages[fold.write] = folded(self.pages[[*fold.reads]])

    def _together(self, orders: Sequence[Forward]) -> list[list[bytes]]:
        """Ops that read what others of them write: in each layer all write before any reads."""
        texts = [self.memory.text(order, lambda features: mix(b"text", features)) for order in orders]
        self._check([order.work for order in orders])
        values = [self._entering(order, text) for order, text in zip(orders, texts, strict=True)]
        for layer in range(self.reach.layers):
            for order, value in zip(orders, values, strict=True):
                self.pages[list(order.work.pages.writes), layer] = left_by(value, order.work.key_positions)
            reads = [self._seen(order.work, layer) for order in orders]
            values = [
                leaving(value, seen, order.work.read_turns, order.work.bias.rows(order.work.positions))
                for order, value, seen in zip(orders, values, reads, strict=True)
            ]
        return [self._put_out(order.work, value) for order, value in zip(orders, values, strict=True)]

    def _entering(self, order: Forward, text: bytes) -> bytes:
        work = order.work
        return entering(self._input(order), text, work.times.timesteps[0], work.positions)

    def _seen(self, work: ForwardWork, layer: int) -> NDArray[np.uint8]:
        """What an op reads of a layer in the pages of others, in order; its own count as zeros."""
        reads = list(work.pages.reads)
        context = self.pages[reads, layer]
        context[[reads.index(page) for page in work.pages.writes]] = 0
        return context

    def _put_out(self, work: ForwardWork, left: bytes) -> list[bytes]:
        """The output of an op, if it is sent."""
        if work.kind is Kind.COMMIT:
            self.memory.committed(work)
            return []
        key = work.noise
        added = b"" if work.times.next_sigma is None else noise(key.seed, key.block, work.enters)
        latents = denoised(left, added, self._geometry(work))
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

    def _check(self, works: Sequence[ForwardWork]) -> None:
        written = {page for work in works for page in work.pages.writes}
        for work in works:
            self.check_page(min(work.pages.reads))
            self.check_page(max(work.pages.reads))
            self._check_written([page for page in work.pages.reads if page not in written])

    def _check_written(self, pages: list[PageId]) -> None:
        for page in (min(pages, default=None), max(pages, default=None)):
            if page is not None:
                self.check_page(page)
        if not are_written(self.pages[pages]):
            blank = next(page for page in pages if not are_written(self.pages[[page]]))
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
