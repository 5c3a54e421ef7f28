"""The pages and lanes of one simulated denoise worker, and its forwards over them, without a device or a clock."""

from __future__ import annotations

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
    are_written,
    denoised,
    forward,
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

    def forward(self, order: Forward) -> list[bytes]:
        """One op; its output if it is sent. InternalFault, UnknownPeer or IndexError if it cannot be meant."""
        work = order.work
        text = self.memory.text(order, lambda features: mix(b"text", features))
        self._check(work)
        reads = list(work.pages.reads)
        context = self.pages[reads]
        context[[reads.index(page) for page in work.pages.writes]] = 0
        values = forward(self._input(order), text, work.times.timesteps[0], work.positions, context, work.read_turns)
        self.pages[list(work.pages.writes)] = pages_of(values, work.key_positions)
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

    def _check(self, work: ForwardWork) -> None:
        self.check_page(min(work.pages.reads))
        self.check_page(max(work.pages.reads))
        others = [page for page in work.pages.reads if page not in work.pages.writes]
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
