"""Recipes in which a cue may cut, and stories on cells without devices, where everything happens at any moment."""

from __future__ import annotations

from dataclasses import replace

from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import Back, CueChange, CueEffect, CuePolicy
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from tests.core.support.parts import recipe
from tests.core.support.recaching import CueStorm
from tests.core.support.recipes import altered


def cutting(
    level: Level = Level.CLEAN, *, window: int = 12, sinks: int = 0, shots: int = 3, steps: int = 2,
    stream: Numbering = Numbering.ABSOLUTE, offset: int = 0,
) -> Recipe:  # fmt: skip
    """A recipe of blocks of 3 frames in which cues cut, with so many frames on the shelf."""
    made = recipe(level, window=window, sinks=sinks, steps=steps)
    return replace(
        made,
        context=replace(made.context, shot_frames=shots),
        cues=CuePolicy(cut=True),
        positions=Positions(stream=stream, shot_offset=offset),
    )


EVERY = {
    "one shot": cutting(),
    "sinks and a shot": cutting(sinks=3, window=15, offset=8),
    "sinks of a frame": cutting(sinks=1, window=11),
    "two shots": cutting(shots=6, window=13),
    "sinks and two shots": cutting(sinks=3, shots=6, window=15),
    "nothing stays": cutting(shots=0, window=9),
    "sinks alone": cutting(shots=0, sinks=3),
    "no window beside": cutting(window=6),
    "listed": cutting(sinks=3, window=15, stream=Numbering.LISTED),
    "listed, further on": cutting(sinks=3, window=12, stream=Numbering.LISTED, offset=5),
    "output": cutting(Level.OUTPUT, steps=3),
    "output, sinks": cutting(Level.OUTPUT, sinks=3, shots=6, window=15, offset=8),
    "output, clean at first": altered(cutting(Level.OUTPUT, steps=3), start_blocks=2),
    "a first block of a frame": altered(cutting(sinks=3, window=15, offset=4), first_frames=1),
    "lists, with noise": altered(
        cutting(steps=3), first=(1000, 667, 334), first_blocks=1, usual=(1000, 334), commit_step=50
    ),
    "input": cutting(Level.INPUT, steps=3),
    "input, sinks": cutting(Level.INPUT, sinks=3, window=12),
}
"""One of every kind."""


class ShotStorm(CueStorm):
    """Stories, with all that may befall them."""

    def change(self, block: int) -> CueEffect | None:
        back = Back(self.draw.randrange(4))
        return self.draw.choice([None, CueChange.SWAP, CueChange.CUT, CueChange.CUT, back, back, back])
