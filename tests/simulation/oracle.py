"""What every stream must show: the same arithmetic, block after block, without pages, workers or engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.by_hand import Model, text_of
from benchmarks.courses import begun_with
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import CueEffect
from workers.simulated import arithmetic


class Turn(NamedTuple):
    """A cue that has its block."""

    prompt: str
    change: CueEffect
    """What it does beside changing the prompt."""


@dataclass(slots=True, kw_only=True)
class Script:
    """What a client asked for, block by block: all that a stream is a function of (benchmarks.courses.Course)."""

    model: Model
    number: int
    """Its seed."""
    prompt: str
    blocks: int
    turns: dict[int, Turn] = field(default_factory=dict)
    """The accepted cues, by the block at which each takes effect."""
    loads: dict[int, int] = field(default_factory=dict)
    """Under which loads its own blocks were begun, as far as they were sent."""
    beginning: bytes = b""
    """The latents that it was given."""
    image: bytes = b""
    """Those of the images that it looks at."""
    parent: Script | None = None
    first: int = 0
    """The first block of its own; what comes before is its parent's."""

    def as_it_is(self) -> Script:
        """The same, whatever becomes of this one."""
        return replace(self, turns=dict(self.turns))

    @property
    def plan(self) -> BlockPlan:
        """How it is divided into blocks."""
        return begun_with(self.model.recipe, self.given_frames).blocks

    @property
    def given_frames(self) -> int:
        """See Course; a fork has those before its first block."""
        if self.parent is None:
            return len(self.beginning) // self._frame_bytes
        return min(self.parent.given_frames, self.parent.plan.first_frame(self.first))

    @property
    def _frame_bytes(self) -> int:
        return self.model.geometry.divided(BlockPlan(frames=1)).latent_bytes

    @property
    def given_blocks(self) -> int:
        """How many blocks are given."""
        return self.plan.block_of(self.given_frames - 1) + 1 if self.given_frames else 0

    def given(self, frames: range) -> bytes:
        """See Course."""
        if self.parent is not None:
            return self.parent.given(frames)
        return self.beginning[frames.start * self._frame_bytes : frames.stop * self._frame_bytes]

    @property
    def reference(self) -> bytes:
        """See Course; a fork looks at what its parent does."""
        return self.image if self.parent is None else self.parent.reference

    def script_of(self, block: int) -> Script:
        """Whose block it is."""
        return self if self.parent is None or block >= self.first else self.parent.script_of(block)

    def seed(self, block: int) -> int:
        """See Course."""
        return self.script_of(block).number

    def text(self, block: int) -> bytes:
        """See Course."""
        return text_of(self.script_of(block).prompt_of(block).encode())

    def prompt_of(self, block: int) -> str:
        """What a block of its own shows."""
        begun = [turn for turn in self.turns if turn <= block]
        return self.turns[max(begun)].prompt if begun else self.prompt

    def load(self, block: int) -> int:
        """See Course."""
        return self.script_of(block).loads.get(block, 0)

    def steps(self, block: int, load: int) -> int:
        """How many steps a block takes that is begun under a load; none if it is given."""
        generated = block - self.given_blocks
        return len(self.model.recipe.steps.entries(generated, load)) if generated >= 0 else 0

    def change(self, block: int) -> CueEffect | None:
        """See Course."""
        turn = self.script_of(block).turns.get(block)
        return None if turn is None else turn.change


def segments(script: Script) -> Iterator[bytes]:
    """The bytes of segment 0, 1, … of a stream; each is asked for once its block's prompt can change no more."""
    state = arithmetic.first_state(script.model.reach)
    for latents in script.model.latents(script):
        name, state = arithmetic.decoded(latents, state, script.model.geometry)
        yield name
