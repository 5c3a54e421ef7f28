"""What a client is told when its stream begins, or goes on with another call."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.errors import Problem
from longtake.core.flow import Pace
from longtake.core.work import ConnectionNumber, Continuity, DecoderKind, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Tell the client that its stream begins, or (within Resumed) how it stands."""

    session: SessionId
    seed: int
    header: bytes
    media_type: str
    decoder: DecoderKind
    """Which network makes its pictures."""
    recipe: str = ""
    """The name of its recipe, as it was asked for; empty means the cell's default."""
    window: int
    pace: Pace
    picture_limit: int | None
    segment: int
    """The number of the next segment."""
    prompt: str
    """The prompt that the next segment shows."""
    continuity: Continuity = Continuity.EXACT
    given_segments: int = 0
    """So many segments at the beginning show what the client gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The session goes on with this call: tell its client how it stands, and the one before that it has lost it."""

    session: SessionId
    connection: ConnectionNumber
    opened: Opened
    held: bool
    """Whether what was sent from `opened.segment` on is sent again now, as the engine holds it; if not, it is emitted
    anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRefused:
    """The session cannot go on with this call; it stays as it is."""

    session: SessionId
    connection: ConnectionNumber
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAway:
    """A session waits for its client to come back: a fact, of which recorders take note."""

    session: SessionId
