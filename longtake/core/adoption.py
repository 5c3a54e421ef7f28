"""Adoption: what is known of a session that another engine served, and what comes of taking it over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from longtake.core.errors import Problem
from longtake.core.recipe.cues import CueChange, CueEffect
from longtake.core.work import CueId, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCue:
    """A cue that has its block: from `block` on the stream is conditioned on `version`."""

    block: int
    version: int
    cue: CueId | None
    """None for what a fork has from its parent."""
    prompt: str
    change: CueEffect = CueChange.SWAP
    """What became of what the stream remembered."""
    shot: int = 0
    """Of what a fork has from its parent: the number of the shot that its block belongs to. What was cut before the
    oldest of these may not be known any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSettled:
    """From this block on, the blocks of a session are begun under another load, which decides what steps they take.

    What was shown of it once is made again like that: it must outlive the server once the block's segment has left.
    """

    session: SessionId
    block: int
    load: int
    after: int = 0
    """The block from which the load before this one held, plus 1; 0 if there was none: so it shows if one is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBy:
    """The classes (`Ability.numerics`) of the workers that a session's state was made by."""

    lanes: str
    decoder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """What was computed again of a block is not what an engine before had made of the same."""

    now_s: float
    session: SessionId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A session is about to be handed over to another server: until it is, or stays, no further cue gets a block."""

    now_s: float
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """A session is not handed over after all: the cues that waited get their blocks."""

    now_s: float
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """A session goes on at another server, which has what it was made of when it was frozen: here it ends."""

    now_s: float
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverRefused:
    """A session is not frozen, or does not go elsewhere: a fact, for whoever asked. Its client is told nothing."""

    session: SessionId
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A session of another engine is here; of its latents the journal keeps what is needed."""

    session: SessionId
    frontier: int
    """The blocks before this one count as done; the others are computed again."""
    floors: tuple[int, ...]
    """As in Trim."""
    sinks: int
    """As in Trim."""
    held: tuple[tuple[int, int], ...] = ()
    """As in Trim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptFailed:
    """A session cannot be taken over."""

    session: SessionId
    problem: Problem


def runs_of(blocks: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Different blocks in any order, as ranges (first, end) without a gap, in order."""
    found: list[tuple[int, int]] = []
    for block in sorted(blocks):
        if found and found[-1][1] == block:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return tuple(found)
