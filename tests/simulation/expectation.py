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

    def allows(self, ending: Ending, *, asked: bool, drained: bool, orphaned: bool, mishaps: int) -> bool:
        """Whether a stream that is not complete may end so.

        `asked`: its client closed it; `drained`: the server shuts down; `orphaned`: it is a fork, and its parent has
        ended; `mishaps`: how many faults have struck in this run.
        """
        match ending:
            case Ending.CLIENT:
                return asked
            case Ending.DRAINED:
                return drained
            case Ending.LOST:  # a server that shuts down waits for no room
                return mishaps > 0 and (drained or not self.streams_survive)
            case Ending.FAILED:
                return orphaned or (not self.streams_survive and mishaps > 0)
            case _:
                return False

    def journal_entries(self, model: Model, window: int) -> int:
        """The most latents that the journal may hold of one stream whose client lets it run `window` blocks ahead.

        For each step those that a lane remembers, of the last step those that a decoder does, those of the sinks, and
        what lies between the last segment that was acknowledged and the newest block.
        """
        recipe, ahead = model.recipe, window + 3
        if not self.streams_survive:
            return (recipe.step_count + 1) * ahead
        lane = recipe.history_blocks * model.reach.layers
        slot = -(-model.reach.latents // recipe.blocks.frames)
        sinks = -(-recipe.sink_frames // recipe.blocks.frames)
        return recipe.step_count * (sinks + ahead + lane) + max(0, slot - lane)


TODAY = Expectation(streams_survive=False)
SURVIVAL = Expectation(streams_survive=True)
