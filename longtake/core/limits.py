"""What one client, and all of them together, may have."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.events import Open
from longtake.core.flow import Flow, Pace
from longtake.core.recipe.blocks import BlockPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = 64
    default_window: int = 4
    max_window: int = 32
    max_pending_cues: int = 64
    load_limit: float = 0.95
    """Share of every worker's time that REALTIME sessions may reserve; above it nobody would be on time."""
    park_after_s: float = 30.0
    """A session that generates nothing for this long, paused or without credit, gives up its place until it goes on."""
    max_parked: int = 64
    """Parked sessions whose state may lie in host memory; further ones keep their place."""
    max_queued: int = 64
    """FAST sessions that may wait for a place; 0: they are refused, as REALTIME ones always are."""

    packed: frozenset[Pace] = frozenset()
    """Sessions of these are put on one worker each if one has room, so that the loss of a worker ends few of them. The
    lanes of others are spread over all workers, which makes a single stream fastest."""
    fused_passes: bool = False
    """Whether every lane has a spare block of pages, so that a commit and the next denoise op can be one pass."""

    def spare_pages(self, blocks: BlockPlan) -> int:
        """Pages that a lane has beside its window."""
        return blocks.frames if self.fused_passes else 0

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)
