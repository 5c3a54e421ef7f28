"""What a cell promises its clients, in one place: what may end a stream, and how much the journal may hold."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.core.endings import Ending
from longtake.core.events import Event, Open
from longtake.core.flow import Pace
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.shots import REMEMBERED_SHOTS
from longtake.core.scheduler import Scheduler
from tests.simulation.calls import Violation
from tests.simulation.oracle import Script
from tests.simulation.wishes import Wish
from workers.simulated.arithmetic import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What may have ended a stream that is not complete; the loss of workers is none of it."""

    asked: bool
    """Its client closed it, or went away."""
    drained: bool
    """The server shuts down."""
    orphaned: bool
    """It is a fork that was let in before its parent had come to it, and that has ended."""
    unkept: bool
    """Its record could not be written to disk."""

    def allow(self, ending: Ending) -> bool:
        """Whether it may end so."""
        match ending:
            case Ending.CLIENT:
                return self.asked
            case Ending.DRAINED | Ending.LOST:  # a server that shuts down waits for no room, and tries nothing again
                return self.drained
            case Ending.FAILED:
                return self.drained or self.orphaned or self.unkept
            case _:
                return False


def journal_entries(recipe: Recipe, reach: Reach, *, window: int, rewind_blocks: int, given_blocks: int) -> int:
    """The most latents that the journal may hold of one stream whose client lets it run `window` blocks ahead.

    So many blocks of the past are kept beside, for forks. For each step those that a lane remembers, of the last step
    those that a decoder does, those of the sinks, and what lies between the last segment that was acknowledged and the
    newest block. A recache goes back by a window, from where a lane has it; where it moves the sinks, what they were
    made of at their last move is kept, too. What was given is kept for ever, and what is read as it is when finished
    as long as a lane remembers it. Of a story the first blocks are kept of the shots that it may go back to, and of
    those from whose first blocks a lane is rebuilt. The reference is one more latent.
    """
    size, frames = recipe.window.size, recipe.blocks.frames
    ahead, lane = window + 3 + rewind_blocks, recipe.history_blocks * reach.layers
    slot = -(-reach.latents // frames)
    sinks = -(-recipe.sink_frames // frames)
    if recipe.cues.change is not CueRule.SWAP:
        renewal = 1 + size // frames if recipe.block_limit is None else recipe.block_limit
        lane += renewal
        if sinks:
            sinks = renewal * (1 + (recipe.cues.keep_sinks is False))
    live = 0 if recipe.joint is None else recipe.joint.live
    clean = given_blocks + recipe.context.start_blocks
    shots = REMEMBERED_SHOTS + 1 + recipe.context.shot_frames // frames * reach.layers if recipe.cues.cut else 0
    image = min(1, recipe.context.reference_frames)
    return recipe.step_count * (sinks + shots + ahead + lane + live) + max(0, slot - lane) + clean + image


def journal_bytes(script: Script, wish: Wish, rewind_blocks: int) -> int:
    """The same in bytes."""
    model, window = script.model, wish.window
    entries = journal_entries(
        model.recipe, model.reach, window=window, rewind_blocks=rewind_blocks, given_blocks=script.given_blocks
    )
    return entries * model.geometry.divided(BlockPlan(frames=script.plan.most)).latent_bytes


def check_admitted(event: Event, scheduler: Scheduler) -> None:
    """Violation if this event, which was handled just now, let in a REALTIME stream while others were late."""
    late = scheduler.cell.load_limit.late
    if (
        late
        and isinstance(event, Open)
        and event.pace is Pace.REALTIME
        and scheduler.session(event.session) is not None
    ):
        raise Violation(f"{event.session} was let in while {late} streams were late")
