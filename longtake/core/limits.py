"""What one client, and all of them together, may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
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


class Recover(Enum):
    """What is made again of a lane that was lost."""

    EXACT = "exact"
    """All that its pages depend on: the stream goes on bit for bit."""
    FAST = "fast"
    """What its window shows: a fraction of the time, and the stream goes on with pictures that are alike, not the
    same (of pocket's latents the next are off by 1 to 2 %)."""


class AdmitAt(Enum):
    """What a REALTIME stream reserves of its workers' time, if its recipe has lists of steps for times of load."""

    USUAL = "usual"
    """The steps that it takes as a rule: nobody sheds while all workers are as fast as they were measured."""
    SHED = "shed"
    """The first of the shorter lists: more streams are let in, and take the longer ones while there is time. The lists
    behind it are left for a worker that becomes slow."""

    @property
    def load(self) -> int:
        """The load that this is."""
        return 0 if self is AdmitAt.USUAL else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRules:
    """When it is worth while to move a lane to another worker."""

    worth: float = 0.08
    """A move must make the larger pressure smaller by this share."""
    worth_of_slow: float = -0.02
    """The same share for a move away from a slow worker. The pressure may even grow a little: where the lanes do not
    divide evenly, the slow worker shall have the smaller number, because it holds up every stream that passes through
    it. Nothing brings such a lane back, so these moves come to an end, too."""
    blocks_left: int = 6
    """A lane with fewer blocks to go does not move."""
    rest_s: float = 3.0
    """For this long after a move has begun, its workers take part in no other move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = _between(1, _MANY, 64)
    default_window: int = _between(1, _MANY, 4)
    """So many segments a session may run ahead of its client, unless the client asks for another number."""
    max_window: int = _between(1, 1024, 32)
    """The largest window that a client may ask for."""
    max_pending_cues: int = _between(1, _MANY, 64)
    park_after_s: float = _between(0.0, _DAY_S, 30.0)
    """A session that generates nothing for this long, paused or without credit, gives up its place until it goes on."""
    detached_images_s: float = _between(0.0, _DAY_S, 60.0)
    """After so long the state of a session whose client is away lies in host memory no more: it is rebuilt from the
    journal when the client comes back."""
    journal_bytes: int = _between(1 << 20, 1 << 44, 64 << 30)
    """The memory of the server that the journal may take: for each session what it may be rebuilt from is counted when
    it is let in (`longtake plan` says how much that is)."""
    detached_s: float = _between(0.0, 30 * _DAY_S, 600.0)
    """A session whose client's call broke is kept for it so long; 0 ends it at once."""
    max_parked: int = _between(0, _MANY, 64)
    """The number of parked sessions whose state may lie in the hosts' memory, where it is as large as on the devices.
    Further sessions keep their place."""
    max_queued: int = _between(0, _MANY, 64)
    """The number of FAST sessions that may wait for a place; 0 refuses them at once, as REALTIME ones always are."""
    recover_within_s: float = _between(0.1, _DAY_S, 5.0)
    """Within this time what a lost worker held of a stream is to be rebuilt elsewhere. REALTIME streams that were not
    touched come first where they are in greater haste."""
    exact_wait_s: float = _between(0.0, _DAY_S, 120.0)
    """How long a stream, when no worker is left that gives the same bits as before, waits for one to come back. After
    that it goes on with others: its pictures are alike then, not the same."""
    rewind_blocks: int = _between(0, _MANY, 0)
    """So many blocks more of the past are kept of every stream than its recovery needs: so far back go forks."""

    load_limit: float = 0.95
    """The share of every worker's time that REALTIME sessions may reserve; above it no stream would be on time."""
    recover: Recover = Recover.EXACT
    admit_at: AdmitAt = AdmitAt.USUAL
    packed: frozenset[Pace] = frozenset()
    """The paces whose sessions are put on one worker each if one has room, so that the loss of a worker interrupts
    few of them. The lanes of other sessions are spread over all workers, which makes a single stream fastest."""
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
        return blocks.most if self.fused_passes else 0

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)
