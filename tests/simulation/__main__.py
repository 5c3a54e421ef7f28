"""Runs many seeds of the simulation and prints what they have hit: `python -m tests.simulation --seeds 10000`."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter

import click

from tests.simulation.faults import table
from tests.simulation.scenarios import scenario
from tests.simulation.world import Outcome, World


class Summary:
    """What all runs have shown together."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self.struck: Counter[int] = Counter()
        """Seeds by how many faults have struck."""
        self.troubles: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.segments = 0
        self.failed: list[int] = []

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.struck[len(outcome.struck)] += 1
        for fault, moment in outcome.struck:
            self.hits[fault.row, moment.column] += 1
            self.troubles[fault.trouble.value] += 1
        self.events.update(outcome.events)
        self.endings.update(outcome.endings)
        self.segments += outcome.segments

    def __str__(self) -> str:
        return "\n".join(
            [
                f"kill points, seeds that hit each:\n{table(self.hits)}",
                f"faults struck per seed: {dict(sorted(self.struck.items()))}; {dict(self.troubles)}",
                f"streams by ending: {dict(self.endings)}; {self.segments} segments checked",
                "events and effects: " + ", ".join(f"{name} {count}" for name, count in sorted(self.events.items())),
                f"failed seeds: {self.failed or 'none'}",
            ]
        )


def run_seed(seed: int, summary: Summary, *, verbose: bool) -> None:
    """Run one seed and count it; a failure is printed."""
    world = World(scenario(seed))
    try:
        summary.add(world.run())
    except Exception as error:  # noqa: BLE001 - whatever breaks a run is what is looked for
        summary.failed.append(seed)
        click.echo(f"seed {seed}: {type(error).__name__}: {error}\n  again: python -m tests.simulation --seed {seed}")
        if verbose:
            click.echo("".join(traceback.format_exception(error)))
    if verbose:
        click.echo("\n".join(map(str, (world.scenario, *world.trace))))


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many seeds, from --first on.")
@click.option("--first", default=0, show_default=True)
@click.option("--seed", type=int, default=None, help="This seed alone, with all that happened last.")
def main(*, seeds: int, first: int, seed: int | None) -> None:
    """Kill workers at every moment of every op, and see that streams are what they must be; exit 1 if one is not."""
    summary, began_s = Summary(), time.monotonic()
    numbers = range(first, first + seeds) if seed is None else range(seed, seed + 1)
    for done, number in enumerate(numbers, start=1):
        run_seed(number, summary, verbose=seed is not None)
        if done % 500 == 0:
            click.echo(f"{done} seeds, {len(summary.failed)} failed, {(time.monotonic() - began_s) / done:.3f} s each")
    click.echo(summary)
    sys.exit(1 if summary.failed else 0)


if __name__ == "__main__":
    main()
