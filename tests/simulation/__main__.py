"""Runs many seeds of the simulation and prints what they have hit: `python -m tests.simulation --seeds 10000`."""

from __future__ import annotations

import sys
import time
import traceback

import click

from tests.simulation.summary import Summary

REPORT_EVERY = 500
REPORT_CHARACTERS = 300


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many seeds, from --first on.")
@click.option("--first", default=0, show_default=True)
@click.option("--seed", type=int, default=None, help="This seed alone, with all that happened last.")
def main(*, seeds: int, first: int, seed: int | None) -> None:
    """Strike workers at every moment of every op, and see that streams are what they must be; exit 1 if one is not."""
    summary, began_s = Summary(), time.monotonic()
    if seed is not None:
        world = summary.run(seed)
        click.echo("\n".join(map(str, (world.scenario, *world.trace))))
        for error in summary.failures.values():
            click.echo("".join(traceback.format_exception(error)))
    else:
        for done, number in enumerate(range(first, first + seeds), start=1):
            summary.run(number)
            if number in summary.failures:
                why = f"{summary.failures[number]}"[:REPORT_CHARACTERS]
                click.echo(f"seed {number}: {why}\n  again: python -m tests.simulation --seed {number}")
            if done % REPORT_EVERY == 0:
                each_s = (time.monotonic() - began_s) / done
                click.echo(f"{done} seeds, {len(summary.failures)} failed, {each_s:.3f} s each")
    click.echo(summary)
    sys.exit(1 if summary.failures else 0)


if __name__ == "__main__":
    main()
