"""Scenarios in which nothing goes wrong by itself, for tests that break one thing."""

from __future__ import annotations

from dataclasses import replace

from longtake.core.flow import Pace
from tests.simulation.scenarios import Scenario, plain
from tests.simulation.wishes import Deed

SOME = range(6)
"""Seeds."""


def calm(seed: int) -> Scenario:
    """A scenario of one plain recipe in which every stream runs to its end: no faults, and clients that stay."""
    return calmed(plain(seed))


def calmed(made: Scenario) -> Scenario:
    """The same scenario without faults, and with clients that stay."""
    wishes = tuple(
        replace(wish, pace=Pace.FAST, acts=tuple(act for act in wish.acts if act.deed is Deed.CUE), fork_of=None)
        for wish in made.wishes
    )
    limits = replace(made.limits, max_queued=8)
    return replace(
        made, wishes=wishes, limits=limits, image_failures=0.0, op_failures=0.0, drain_s=None, spells=(), faults=()
    )
