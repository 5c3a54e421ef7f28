"""What one client, and all of them together, may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple, TypeVar

from longtake.core.events import Open
from longtake.core.flow import Flow, Pace
from longtake.core.recipe.blocks import BlockPlan

Number = TypeVar("Number", int, float)
_MANY = 1_000_000
_DAY_S = 86_400.0


def _between(least: Number, most: Number, default: Number) -> Number:
    """A field that whoever runs the server may set, within these bounds."""
    return field(default=default, metadata={"setting": (default, least, most)})


class Setting(NamedTuple):
    """A field of Limits that whoever runs the server may set."""

    name: str
    default: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRules:
    """When it is worth while to move a lane to another worker."""

    worth: float = 0.08
    """A move must make the larger pressure smaller by this share."""
    worth_of_slow: float = -0.02
    """The same of a move away from a slow worker. The pressure may even grow a little: of two whole numbers of lanes a
    slow worker shall have the smaller, because it holds up every stream that passes through it. Nothing brings such a
    lane back, so this comes to rest, too."""
    blocks_left: int = 6
    """A lane with fewer blocks to go does not move."""
    rest_s: float = 3.0
    """A worker takes part in no other move for so long after one has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = _between(1, _MANY, 64)
    default_window: int = _between(1, _MANY, 4)
    """Segments a session may run ahead of its client, unless the client asks for another number."""
    max_window: int = _between(1, 1024, 32)
    """The largest number that a client may ask for."""
    max_pending_cues: int = _between(1, _MANY, 64)
    park_after_s: float = _between(0.0, _DAY_S, 30.0)
    """A session that generates nothing for this long, paused or without credit, gives up its place until it goes on."""
    max_parked: int = _between(0, _MANY, 64)
    """Parked sessions whose state may lie in the hosts' memory, each as large there as on the devices; further ones
    keep their place."""
    max_queued: int = _between(0, _MANY, 64)
    """FAST sessions that may wait for a place; 0: they are refused, as REALTIME ones always are."""

    load_limit: float = 0.95
    """Share of every worker's time that REALTIME sessions may reserve; above it nobody would be on time."""
    packed: frozenset[Pace] = frozenset()
    """Sessions of these are put on one worker each if one has room, so that the loss of a worker ends few of them. The
    lanes of others are spread over all workers, which makes a single stream fastest."""
    moves: MoveRules = MoveRules()
    """When lanes move between workers."""
    fused_passes: bool = False
    """Whether every lane has a spare block of pages, so that a commit and the next denoise op can be one pass."""

    @classmethod
    def settings(cls) -> Iterator[Setting]:
        """The fields that whoever runs the server may set, in their order."""
        for each in fields(cls):
            if "setting" in each.metadata:
                yield Setting(each.name, *each.metadata["setting"])

    def spare_pages(self, blocks: BlockPlan) -> int:
        """Pages that a lane has beside its window."""
        return blocks.frames if self.fused_passes else 0

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)
