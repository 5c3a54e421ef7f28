"""Renewing: which renewals of a session are due, which it has behind it, and what a lane is rebuilt from after them.

Theory of operation. A cue that recaches at block n has every lane renewed between its last op of block n - 1 and its
first of block n, when that comes to it: the steps of a pipeline are renewed one after the other, with the new prompt
coming down behind them, so no block mixes prompts. It begins when the lane is at that boundary, nothing holds it, and
all else that its next op waits for was sent; the ops are those that seal the lane's pages, as in a rebuild.

What a lane holds after a renewal depends on nothing before, sinks that it has kept apart. So a rebuild goes back to the
last renewal, if that is nearer than what the pages remember; before that come the sinks: as the renewal made them that
wrote them last, or as they were first. Going back to a shot of a story is a renewal, too; what the lanes of a story
are rebuilt from is a matter of its own (sessions/scenes.py). Before all of it comes the reference, if the
recipe has one: every lane begins with it, when the stream begins and when it is rebuilt (recipe/references.py).
"""

from __future__ import annotations

from longtake.core.recipe.cues import Back, CueChange
from longtake.core.recipe.references import placing
from longtake.core.recipe.renewals import Renewal
from longtake.core.recipe.window import Window
from longtake.core.sessions import scenes
from longtake.core.sessions.prompts import Turn, recaches
from longtake.core.sessions.replay import Stretch
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.scenes import Rebuild
from longtake.core.sessions.session import Session


def due(session: Session, lane: int, block: int) -> Renewal | None:
    """The renewal that the lane needs before it begins `block`, and that has not begun."""
    turn = session.prompts.turn_at(block)
    if turn.block != block or session.progress.again.renewed.get(lane) == block:
        return None
    if isinstance(turn.change, Back):
        return scenes.renewal(session, block)
    if turn.change is not CueChange.RECACHE:
        return None
    renewal = session.graph.renewing.renewal(block, turn.version)
    return renewal if renewal.blocks else None


def begin(session: Session, lane: int, renewal: Renewal) -> None:
    """Have the ops of a renewal run, of a lane that is at the boundary before it."""
    session.progress.again.renewed[lane] = renewal.block
    session.progress.run_again(session.graph.sealing[lane], (Stretch(renewal.blocks, renewal),), is_renewal=True)


def place(session: Session) -> None:
    """Have every lane of a session that is about to begin commit the reference first, if the recipe has one."""
    for lane, sealing in enumerate(session.graph.sealing):
        if begins := reference(session):
            session.progress.again.renewed[lane] = 0  # from now on no cue changes the prompt of block 0
            session.progress.run_again(sealing, begins, is_renewal=True)


def reference(session: Session) -> tuple[Stretch, ...]:
    """The ops that commit the reference; none while what was given is not here yet."""
    if not session.graph.window.references or not (session.is_opened or session.request.fork):
        return ()
    made = placing(session.graph.window, session.prompts.turn_at(0).version)
    return (Stretch(made.blocks, made),)


def passed(session: Session, lane: int) -> list[Turn]:
    """The recaches behind which a lane is, or is to be once it is rebuilt, oldest first, as far as they are known."""
    block = session.progress.done[session.graph.sealing[lane]]
    is_renewed = session.progress.again.renewed.get(lane) == block
    return [turn for turn in recaches(session.prompts.turns) if turn.block < block + is_renewed]


def window(session: Session, lane: int) -> Window:
    """The window of a lane as it is now: its sinks may have moved, or it is in another shot."""
    graph = session.graph
    if graph.shots.can_cut:
        block = session.progress.done[graph.sealing[lane]]
        return scenes.window(session, max(0, block - (session.progress.again.renewed.get(lane) != block)))
    turns = passed(session, lane) if graph.can_renew else []
    return graph.renewing.moved(turns[-1].block) if turns else graph.window


def rebuild(session: Session, lane: int, retention: Retention) -> Rebuild:
    """What a lane is rebuilt by, from what is kept, behind its reference."""
    graph, until, reach = session.graph, session.progress.done[session.graph.sealing[lane]], retention.lane_blocks
    if graph.shots.can_cut:
        return scenes.rebuild(session, lane, retention)
    renewing, turns = graph.renewing, passed(session, lane)
    start, sinks = max(0, until - reach), range(graph.sink_blocks)
    last = next((turn for turn in reversed(turns) if turn.block > start), None)
    writer = next((turn for turn in reversed(turns) if renewing.writes_sinks(turn.block)), None)
    body: tuple[Stretch, ...] = (Stretch(range(start, until)),)
    if last is not None:
        renewal = renewing.renewal(last.block, last.version)
        body = (Stretch(renewal.blocks, renewal), Stretch(range(last.block, until)))
        if not renewal.kept:
            return Rebuild((), body)
    elif writer is None and start <= sinks.stop:
        return Rebuild((), (Stretch(range(until)),))
    if writer is None:
        return Rebuild((Stretch(sinks),), body)
    made = renewing.renewal(writer.block, writer.version)
    blocks = made.blocks if made.is_joint else made.blocks[: len(sinks)]
    later = range(writer.block, min(sinks.stop, body[0].blocks.start))  # sinks that were not there yet
    return Rebuild((Stretch(blocks, made), *([Stretch(later)] if later else [])), body)
