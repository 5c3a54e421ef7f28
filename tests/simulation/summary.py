"""What many runs have shown together: which kill points were hit, and what failed."""

from __future__ import annotations

from collections import Counter

from tests.simulation.faults import KillPoints
from tests.simulation.outcome import Outcome
from tests.simulation.scenarios import scenario
from tests.simulation.world import World


class Summary:
    """What all runs have shown together."""

    def __init__(self) -> None:
        self.points = KillPoints()
        self.struck: Counter[int] = Counter()
        """Seeds by how many faults have struck."""
        self.troubles: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.segments = self.rewinds = 0
        self.failures: dict[int, Exception] = {}
        """What broke a run, by seed."""

    def _add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.struck[len(outcome.struck)] += 1
        for fault, moment in outcome.struck:
            self.points.add(fault, moment)
            self.troubles[fault.trouble.value] += 1
        self.events.update(outcome.events)
        self.endings.update(outcome.endings)
        self.segments += outcome.segments
        self.rewinds += outcome.rewinds

    def __str__(self) -> str:
        return "\n".join(
            [
                f"kill points, faults that struck at each:\n{self.points}",
                f"faults struck per seed: {dict(sorted(self.struck.items()))}; {dict(self.troubles)}",
                f"streams by ending: {dict(self.endings)}; {self.segments} segments checked",
                f"forks of the past: {self.rewinds}",
                "events and effects: " + ", ".join(f"{name} {count}" for name, count in sorted(self.events.items())),
                f"failed seeds: {sorted(self.failures) or 'none'}",
            ]
        )

    def run(self, seed: int) -> World:
        """Run a seed and count it."""
        world = World(scenario(seed))
        try:
            self._add(world.run())
        except Exception as error:  # noqa: BLE001 - whatever breaks a run is what is looked for
            self.failures[seed] = error
        return world
