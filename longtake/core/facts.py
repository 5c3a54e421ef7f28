"""Facts of streams: nothing is to be done, recorders take note."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.recipe.cues import CueRule
from longtake.core.work import SessionId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A block has not left though its first picture is due."""

    session: SessionId
    block: int
    due_s: float
    """When it was due, on the engine's clock."""


RENEWALS = (*(rule.value for rule in CueRule if rule is not CueRule.SWAP), "back")
"""The rules of recaches, and what is made again of a shot that a story goes back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A lane has committed blocks anew, because the prompt changes at `block`."""

    session: SessionId
    block: int
    kind: str
    """How: one of `RENEWALS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneMoved:
    """A lane is at another worker now."""

    session: SessionId
    origin: WorkerId
    target: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """A session has sent all it has begun, and may begin nothing until its client acknowledges something."""

    session: SessionId
