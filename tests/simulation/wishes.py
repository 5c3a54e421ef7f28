"""What simulated clients want, and what they do on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longtake.core.flow import Pace


class Deed(Enum):
    """What a client does on the way."""

    CUE = "cue"
    PAUSE = "pause"
    STARVE = "starve"
    """It acknowledges nothing for a while."""
    CLOSE = "close"
    VANISH = "vanish"
    """Its call breaks, and nobody is told why; it never comes back."""
    BREAK = "break"
    """Its call breaks, and it comes back, maybe before the server has noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A deed, when so many segments have come."""

    after: int
    deed: Deed
    lasts_s: float = 0.0
    ahead: int | None = None
    """A cue takes effect so many blocks after the last one seen; None: as soon as possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one client wants."""

    number: int
    begins_s: float
    pace: Pace
    window: int
    blocks: int
    cut_short: int
    """So many pictures of the last block are not wanted."""
    ack_s: float
    """How long it takes to consume a segment, at most."""
    cues: tuple[int, ...] = ()
    """The blocks of the cues that come with Open."""
    acts: tuple[Act, ...] = ()
    recipe: int = 0
    """By which of the cell's recipes it is made."""
    given: int = 0
    """So many latent frames that it begins with are given."""
    fork_of: int | None = None
    fork_after: int = 0
    """It forks when the other client has seen so many segments."""
    fork_back: int | None = None
    """It forks the past, so many blocks before the one that the other client expects; None: where the stream is."""
