"""The cue policy: what becomes of a stream's memory of its past when its prompt changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from longtake.core.errors import InvalidField


class CueChange(Enum):
    """What one cue does beside changing the prompt."""

    SWAP = "swap"
    """Nothing: what the stream remembers was made by the prompts before, and leaves the window in the usual order."""
    RECACHE = "recache"
    """Each lane commits the blocks of its window anew, with the new prompt, before it begins the block of the cue."""
    CUT = "cut"
    """A new shot begins: no block reads what the window held before, but sinks, and what is remembered of shots."""

    __hash__ = object.__hash__
    """By identity, as members are compared; Enum's own is slow."""


@dataclass(frozen=True, slots=True)
class Back:
    """A new shot begins that remembers an earlier one again."""

    shot: int
    """The number of that one: 0 is the first of the stream."""

    @property
    def value(self) -> str:
        """As it is written in messages."""
        return f"back to shot {self.shot}"


CueEffect = CueChange | Back
"""What one cue does beside changing the prompt."""


class CueRule(Enum):
    """What a cue does that does not say so itself, and how a recache is done."""

    SWAP = "swap"
    """No cue commits anything anew."""
    WINDOW = "recache-window"
    """The past blocks of the window, one after the other, each reading those before it that were committed anew."""
    JOINT = "recache-joint"
    """All blocks that are remembered, in one forward in which they read one another (LongLive, arXiv 2509.22622)."""
    FULL = "recache-full"
    """Every block from the first one on, as if the stream had begun with the new prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CuePolicy:
    """What the cues of a recipe do."""

    change: CueRule = CueRule.SWAP
    keep_sinks: bool | None = None
    """Whether sinks stay as they are in a recache, once something has left the window. If not, they move: from then on
    they are the oldest frames that were committed anew. None where no recache meets sinks."""
    cut: bool = False
    """Whether a cue may begin a new shot (recipe/shots.py)."""

    def of(self, asked: CueEffect | None) -> CueEffect:
        """What a cue does that asks for this, or does not say; InvalidField if the recipe cannot do it."""
        if not self.cut and (asked is CueChange.CUT or isinstance(asked, Back)):
            raise InvalidField("cue.change", asked.value, f"{CueChange.SWAP.value}: no cue cuts by this recipe")
        if self.change is CueRule.SWAP and asked is CueChange.RECACHE:
            raise InvalidField("cue.change", asked.value, f"{CueChange.SWAP.value}: the recipe says of no recache how")
        return asked or (CueChange.SWAP if self.change is CueRule.SWAP else CueChange.RECACHE)


SWAPPING = CuePolicy()
"""What cues do where nothing is said."""
