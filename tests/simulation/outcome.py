"""What one run of the simulation has shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.faults import Fault, Moment


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    struck: list[tuple[Fault, Moment]]
    events: Counter[str] = field(default_factory=Counter)
    """What the engine handled and did, by type."""
    endings: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    rewinds: int = 0
    """How many forks of the past were let in."""
