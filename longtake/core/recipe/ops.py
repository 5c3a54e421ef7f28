"""Ops: what is done for a block, and what all ops of one kind and step have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What an op does."""

    DENOISE = "D"
    COMMIT = "C"
    DECODE = "V"

    __hash__ = object.__hash__
    """The hash by identity, as members are compared: Enum's own is slow, and ops are looked up all the time."""


class Op(NamedTuple):
    """One op of one session. `step` is 0 for a decode and for the commit of level CLEAN."""

    kind: Kind
    step: int
    block: int


class Need(NamedTuple):
    """What an op waits for: an op of chain number `chain`, `back` blocks before its own (0 or 1)."""

    chain: int
    back: int
    is_input: bool
    """Whether the op starts from the latents that this one puts out."""


class Readers(NamedTuple):
    """The chains, by number, whose ops start from the latents that enter one step of a block."""

    further: int
    """The denoise op or decode that takes them further."""
    commit: int | None
    """The commit that starts from them, if there is one."""


class Noised(NamedTuple):
    """Noise that is added to what an op starts from, before its forward."""

    sigma: float
    """Noise level that finished latents are taken to, above 0 and below 1."""
    draw: int
    """Which draw of the block's noise it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The noise levels of one op."""

    timesteps: tuple[float, ...]
    """What the model is told, 0 to 1000, of each of the op's own frames."""
    sigma: float
    """Noise level of the input, 0 to 1."""
    next_sigma: float | None
    """A denoise op re-noises its x0 to this level; None if its output is x0. A commit has no output."""
    noised: Noised | None = None
    """Noise that a commit adds to finished latents; None if it takes them as they are."""

    def over(self, frames: int) -> Times:
        """The same levels over another number of frames, which all have the same."""
        return self if frames == len(self.timesteps) else replace(self, timesteps=self.timesteps[:1] * frames)


class Returns(Enum):
    """What becomes of the output of an op."""

    NOTHING = "nothing"
    """There is no output, or no op starts from it."""
    KEPT = "kept"
    """Its lane keeps it on the worker."""
    SENT = "sent"
    """It goes to the engine, from where it travels."""
    SENT_AND_KEPT = "sent and kept"

    __hash__ = object.__hash__

    @property
    def are_sent(self) -> bool:
        """Whether the worker reports the output."""
        return self in (Returns.SENT, Returns.SENT_AND_KEPT)

    @property
    def are_kept(self) -> bool:
        """Whether the worker keeps the output in its lane."""
        return self in (Returns.KEPT, Returns.SENT_AND_KEPT)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """All ops of one kind and step of a session."""

    number: int
    """Its place in `Graph.chains`."""
    kind: Kind
    step: int
    lane: int | None
    """The lane whose pages its ops read and write; None for decodes, which have none."""
    needs: tuple[Need, ...]
    times: Times
    """Noise levels of its ops of usual blocks; those of a decode are all 0."""
    returns: Returns
    """What becomes of its outputs on a worker that holds a whole model."""
    entered_step: int
    """Its ops start from the latents that enter this step of their block: S is the finished x0, 0 is noise."""
    begins_block: bool
    """Whether its op is the first of its block in its lane: before it, and only there, a lane is at a boundary."""
    input_is_in_lane: bool
    """Whether its ops start from the output of the last denoise op in their own lane.

    A worker keeps exactly that latent, so it need not be sent again; a chain of workers does not.
    """
    lanes_left: tuple[int, ...]
    """Lanes that a block passes through from the end of its op to finished latents: what a deadline must leave."""
    reads_later: bool = False
    """Whether its ops read all blocks that have begun, and not only those before their own."""
