"""Rebuilding: the state of a lane or of a decoder slot is computed again from the journal, by ordinary ops.

Theory of operation. A rebuild needs no ops of its own: the counters of one chain go back. A lane gets fresh pages, and
the ops that seal its pages run once more over the blocks that it remembers (sessions/retention.py), those of the sinks
before them; a slot starts with zeros, and its decodes run once more without making pictures. What an op of the lane
waits for does the rest: its next denoise op needs the last of the ops that seal, so it begins when the lane is whole.
A lane that was renewed is rebuilt from what the renewal did (sessions/renewing.py).
A memory (recipe/memory.py) is folded again from the blocks of its own frames, as at the beginning of the stream, and
those that are remembered; what lay between is missing in it, and the client is told.
Each replayed op starts from latents that travel, reads only pages that were written since the rebuild began, and is
done wherever there is room; with what the stream needs anyway it shares forwards as any op does.
"""

from __future__ import annotations

from dataclasses import replace

from longtake.core.cell import Cell
from longtake.core.effects import Effect, Notice, PrepareStream
from longtake.core.sessions import renewing
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity

_FORGOTTEN = (
    "what has left the window was folded into a memory, which is made again from the first blocks and the last {}: "
    "what lay between is not kept, so from here on pictures are alike, not the same"
)


def rebuild_lane(cell: Cell, session: Session, lane: int, *, now_s: float) -> list[Effect]:
    """Have a lane, whose pages at its present place were never written, built again; none of its ops is in flight.

    Returns what its client is told of it.
    """
    graph, table, retention = session.graph, session.place.tables[lane], _begin(cell, session, now_s)
    session.progress.lose(graph.in_lane[lane])
    plan = renewing.rebuild(session, lane, retention)
    if not graph.shots.can_cut:
        table.move_sinks(renewing.window(session, lane))
    reference = renewing.reference(session)
    if reference and not session.progress.done[graph.sealing[lane]]:
        session.progress.again.renewed[lane] = 0
    if session.progress.run_again(graph.sealing[lane], (*reference, *plan.lead, *plan.body)) is not None:
        if graph.shots.can_cut:
            table.written = frozenset()
        else:
            table.rebuilt_from, table.rebuilt_lead = plan.body[0].blocks.start, graph.sink_blocks if plan.lead else 0
        continuity, before = retention.continuity(plan.body[0]), session.continuity
        if continuity is not Continuity.EXACT:
            session.continuity = continuity
            session.struck(now_s)  # so that it is told when it goes on, though only an image of it was lost
            if graph.recipe.memory.folds and before is Continuity.EXACT:  # once, however many lanes are lost
                return [Notice(session=session.id, text=_FORGOTTEN.format(retention.lane_blocks))]
    return []


def rebuild_slot(cell: Cell, session: Session, *, now_s: float) -> PrepareStream:
    """Have a slot at its present place hold the session's decoder state again; none of its decodes is in flight.

    What the session was given is encoded there too, if it is not.
    """
    cell.encode(session)
    decodes, place, retention = session.graph.decodes, session.place, _begin(cell, session, now_s)
    session.progress.lose((decodes,))
    replay = session.progress.replay(decodes, retention.slot_blocks)
    return PrepareStream(
        worker=place.decoder,
        session=session.id,
        slot=place.slot,
        settings=session.request.settings,
        started=replay is not None and replay.next > 0,
    )


def _begin(cell: Cell, session: Session, now_s: float) -> Retention:
    """Set when the session is to be whole again; returns what is kept of it."""
    session.whole_by_s = now_s + cell.limits.recover_within_s
    return cell.fleet.retention(session.graph)


def forsake(session: Session) -> None:
    """Forget what a session, which has no place any more, began while it depended on the one that it forks."""
    kin = session.kin
    session.lane_holds.clear()
    session.kin = replace(kin, unprepared=False)
    session.progress.begin_at(kin.first_block)
