"""What one operation of the page manager costs: random use, with forks, swaps and spare blocks.

python -m benchmarks.pages --operations 100000 --json
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import TypeVar

import click

from longtake.core.pages import PagePool, PageTable
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan

T = TypeVar("T")


class RandomUse:
    """Lanes that open, advance, fork, swap and end at random; times what they ask of the pool."""

    def __init__(self, recipe: Recipe, *, lanes: int, spare: bool, seed: int = 1) -> None:
        self.pool = PagePool(lanes * recipe.page_count)
        self.spent_s = 0.0
        self.operations = 0
        self._recipe = recipe
        self._spare = recipe.blocks.frames * spare
        self._lanes: list[tuple[PageTable, int]] = []
        """Tables with the number of their next block."""
        self._draw = random.Random(seed)

    def step(self) -> None:
        """One operation; advances are as frequent as all others together."""
        kind = self._draw.choice(("advance", "advance", "advance", "open", "fork", "release"))
        room = self.pool.free_count >= self._recipe.page_count + self._spare
        if kind == "open" and room:
            self._lanes.append((self._timed(self._open), 0))
        elif self._lanes:
            number = self._draw.randrange(len(self._lanes))
            table, block = self._lanes[number]
            if kind == "advance":
                self._timed(lambda: self._advance(table, block))
                self._lanes[number] = (table, block + 1)
            elif kind == "fork" and room:
                self._lanes.append((self._timed(lambda: self._fork(table, block)), block))
            elif kind == "release":
                self._lanes.pop(number)
                self._timed(lambda: self.pool.release(table))

    def _open(self) -> PageTable:
        return self.pool.allocate(self._recipe.window, spare=self._spare)

    def _advance(self, table: PageTable, block: int) -> None:
        self.pool.claim(table, block)
        table.reads(block)
        table.writes(block)

    def _fork(self, table: PageTable, block: int) -> PageTable:
        return self.pool.fork(table, block)

    def _timed(self, operation: Callable[[], T]) -> T:
        began_s = time.thread_time()
        result = operation()
        self.spent_s += time.thread_time() - began_s
        self.operations += 1
        return result


@click.command()
@click.option("--operations", default=100_000, show_default=True, type=click.IntRange(1))
@click.option("--window", default=21, show_default=True, type=click.IntRange(1), help="Latent frames of the window.")
@click.option("--sinks", default=0, show_default=True, type=click.IntRange(0))
@click.option("--frames", default=3, show_default=True, type=click.IntRange(1), help="Latent frames of a block.")
@click.option("--json", "as_json", is_flag=True)
def main(operations: int, window: int, sinks: int, frames: int, as_json: bool) -> None:
    """Measure the CPU time of one operation: the reads and writes of a block, a fork, an opening or an end."""
    recipe = Recipe(
        steps=StepPlan(ladder=(1000,), shift=5.0),
        blocks=BlockPlan(frames=frames),
        context=Context(level=Level.OUTPUT, window_frames=window, sink_frames=sinks),
    )
    result: dict[str, float] = {"operations": operations}
    for name, spare in (("plain", False), ("spare_block", True)):
        use = RandomUse(recipe, lanes=40, spare=spare)
        while use.operations < operations:
            use.step()
        result[f"{name}_us"] = round(1e6 * use.spent_s / use.operations, 2)
    if as_json:
        click.echo(json.dumps(result))
    else:
        for key, value in result.items():
            click.echo(f"{key:16s} {value}")


if __name__ == "__main__":
    main()
