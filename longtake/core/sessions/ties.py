"""What a session has to do with others: the call that has it, the session it forks, and its own forks."""

from __future__ import annotations

from dataclasses import dataclass, field

from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, SessionId


@dataclass(slots=True)
class Kinship:
    """What a session owes to the one that it was forked from, and to its own forks."""

    first_block: int = 0
    """The first block that is its own: above 0 if it is a fork."""
    unprepared: bool = False
    """Whether its slot is still to be filled from its parent's."""
    depends: bool = False
    """Whether ops of its parent on blocks before its own first one are not done yet."""
    forks: list[tuple[SessionId, int]] = field(default_factory=list)
    """Sessions that fork from this one, and their first block, as long as they depend on it."""
    seeds: tuple[tuple[int, int], ...] = ()
    """The seeds of blocks before its own first one: up to which block each of them holds, in ascending order."""
    known_from: int = 0
    """Blocks before this one could not be made again even of all that was ever told here: their prompts were not."""


@dataclass(slots=True)
class Presence:
    """Whether the client of a session is there."""

    connection: ConnectionNumber | None = FIRST_CONNECTION
    """The call that has the session; None while its client is away."""

    @property
    def is_away(self) -> bool:
        """Whether no call has the session."""
        return self.connection is None
