"""A stream in a cell without devices that remembers a part of its past, to be forked there."""

from __future__ import annotations

from longtake.core.effects import Refused
from longtake.core.endings import Ending
from longtake.core.errors import Problem
from longtake.core.events import Cue, Pause, Play
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.world import effects_of
from workers.simulated.arithmetic import REACH

P = SessionId("parent")
LAST = 20
REWIND = 5


def picture(block: int) -> int:
    return geometry().first_picture(block)


def running(level: Level = Level.OUTPUT, emitted: int = 13, *, sinks: int = 0, **changes: object) -> ImageCell:
    """A session in the middle of several blocks, of which so many are shown; it remembers a part of its past."""
    limits = Limits(rewind_blocks=REWIND, park_after_s=1.0)
    values = {"denoisers": 3, "pages": 4000, "slots": 64, "limits": limits} | changes
    cell = ImageCell(recipe(level, sinks=sinks), **values)  # type: ignore[arg-type]
    cell.open("parent", window=3, pictures=picture(LAST))
    cell.answer()
    cell.send(Cue(now_s=0.0, session=P, request=cue("early", block=2, prompt="q2")))
    cell.send(Cue(now_s=0.0, session=P, request=cue("late", block=9, prompt="q9")))
    cell.answer()
    while cell.session(P).emitted < emitted:
        cell.steps(1)
    return cell


def reach(cell: ImageCell) -> int:
    """H L: the blocks that a lane depends on."""
    return cell.recipe.history_blocks * REACH.layers


def parked(level: Level = Level.OUTPUT, *, sinks: int = 0) -> tuple[ImageCell, int]:
    """The same, parked; and the block that it begins next."""
    cell = running(level, sinks=sinks)
    cell.send(Pause(now_s=0.0, session=P))
    cell.settle()
    cell.later(1.0)
    cell.settle()
    assert cell.session(P).state is State.PARKED
    return cell, cell.session(P).next_block


def refusal(cell: ImageCell) -> Problem:
    return effects_of(cell, Refused)[-1].problem


def is_kept(cell: ImageCell, parent: Session, block: int) -> bool:
    """Whether the journal of the cell holds all that a rebuild at this block starts from; sinks are not looked for."""
    graph = parent.graph
    for step in range(1, graph.step_count + 1):
        readers = graph.readers(step)
        assert readers is not None
        depth = reach(cell) if any(chain in graph.sealing for chain in readers) else 0
        if readers.further == graph.decodes:
            depth = max(depth, -(-REACH.latents // 3))
        wanted = range(max(0, block - depth), block)
        if not all((parent.id, needed, step) in cell.kept.latents for needed in wanted):
            return False
    return True


def complete(cell: ImageCell) -> None:
    for name in cell.there:
        cell.send(Play(now_s=cell.now_s, session=name))
    for _ in range(10):
        cell.settle()
    assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values()), cell.closed
    cell.check_empty()
