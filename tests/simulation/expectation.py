"""What a cell promises its clients, in one place: what may end a stream, and how much the journal may hold."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.events import Ending
from tests.simulation.oracle import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The promise."""

    streams_survive: bool
    """Whether no stream ends with a worker."""

    def allows(self, ending: Ending, *, asked: bool, orphaned: bool, faults: int) -> bool:
        """Whether a stream that is not complete may end so.

        `asked`: its client closed it; `orphaned`: it is a fork, and its parent has ended; `faults`: how many have
        struck in this run.
        """
        match ending:
            case Ending.CLIENT:
                return asked
            case Ending.LOST:
                return not self.streams_survive and faults > 0
            case Ending.FAILED:
                return orphaned or (not self.streams_survive and faults > 0)
            case _:
                return False

    def journal_entries(self, model: Model, window: int) -> int:
        """The most latents that the journal may hold of one stream whose client lets it run `window` blocks ahead."""
        recipe, reach = model.recipe, model.reach
        blocks = window + 2  # in flight, between the first and the last step
        if self.streams_survive:
            decoded = -(-reach.latents // recipe.blocks.frames)
            sinks = -(-recipe.sink_frames // recipe.blocks.frames)
            blocks += max(recipe.history_blocks * reach.layers, window + decoded) + sinks + 1
        return (recipe.step_count + 1) * blocks


TODAY = Expectation(streams_survive=False)
