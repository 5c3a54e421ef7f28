"""Shedding: how many steps a block takes, which is settled when its first op is dispatched.

Theory of operation. A live block takes the usual steps of its recipe if they can be done before it is due, else the
next shorter list that the recipe allows, and at last the shortest. What is done before that on its worker is known: of
every other stream that plays what is due earlier, and while this block is made each of them makes one, too; then this
block's own ops; all at what an op costs the worker now. A margin (`_SPARE`) is for what varies. All streams of a worker
are in the same place, so each asks what fits if all are under the same load: so they shed alike, and no more than is
needed. A block takes more steps than the one before only with a larger margin (`_SPARE_FOR_MORE`), and its load differs
from that of the block before by one at most, so that steps do not change with every hiccup.

Streams without due times never shed: they take longer. Nor does a stream whose playback clock does not run yet, nor
one of its first blocks, if those have a list of their own.
"""

from __future__ import annotations

from longtake.core.adoption import StepsSettled
from longtake.core.cell import Cell
from longtake.core.dispatch.urgency import rest_s
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Kind
from longtake.core.sessions.life import GENERATING
from longtake.core.sessions.session import Session

_SPARE = 0.5
"""By so many blocks' playing times a block must be in time."""
_SPARE_FOR_MORE = 1.0
"""By so many if it takes more steps than the one before."""


def begin_block(cell: Cell, session: Session, block: int, *, now_s: float) -> StepsSettled | None:
    """Settle the steps of a block whose first op is about to be dispatched, for the first time or once more.

    Returns the load that holds from this block on, if it is another one than before.
    """
    changed = None
    if block >= session.loads.settled:
        load, before = cell.load_rule(cell, session, block, now_s), session.loads.newest
        if session.loads.settle(block, load):
            after = 0 if before is None else before + 1
            changed = StepsSettled(session=session.id, block=block, load=load, after=after)
    skipped = session.steps(block).skipped
    if skipped != session.progress.skipped(block):
        session.progress.skip(block, skipped)
    return changed


def least_load(cell: Cell, session: Session, block: int, now_s: float) -> int:
    """The least load under which a block, that begins now, is in time; 0 for a stream that has no due times."""
    graph, flow, before = session.graph, session.flow, session.loads.at(block)
    most = graph.recipe.steps.most_load
    if not most or not session.is_realtime:
        return 0
    if flow.playing_since_s is None or graph.steps_of(block, 0) is graph.steps_of(block, most):
        return before
    first = graph.chains[graph.first]
    worker, due_s = cell.workers[session.place.lanes[first.lane or 0]], flow.due_s(block, geometry=session.geometry)
    busy_s = now_s + worker.timing.pass_s
    op_s = cell.fleet.op_costs(graph)[0] * worker.timing.passage_s

    def is_in_time(load: int) -> bool:
        spare_s = (_SPARE_FOR_MORE if load < before else _SPARE) * session.geometry.block_s
        own_s = op_s + rest_s(cell, session, first, graph.steps_of(block, load))
        return busy_s + _others_s(cell, session, worker, due_s, load) + own_s + spare_s <= due_s

    least = next((load for load in range(most) if is_in_time(load)), most)
    return max(before - 1, min(before + 1, least))


def _others_s(cell: Cell, session: Session, worker: Worker, due_s: float, load: int) -> float:
    """The time that a worker takes for what other streams have due by then, if they come to be under this load."""
    others = (cell.sessions[name] for name in worker.sessions if name in cell.sessions and name != session.id)
    playing = (each for each in others if each.flow.playing_since_s is not None and each.state in GENERATING)
    return worker.timing.op_s * sum(
        _ops_before(each, worker, due_s, load) * cell.fleet.op_costs(each.graph)[0] for each in playing
    )


def _ops_before(session: Session, worker: Worker, due_s: float, load: int) -> int:
    """How many ops of a stream a worker does before something of another one is due, if all are under this load.

    They are those of its blocks that are due by then and not done, and no less than those of one block.
    """
    graph, progress, flow = session.graph, session.progress, session.flow
    assert flow.playing_since_s is not None
    shown_s = due_s - flow.playing_since_s
    end = session.geometry.block_of_picture(max(0, int(shown_s * session.geometry.pictures_per_s))) + 1
    end = min(end, flow.acknowledged + flow.window + 1)
    begun, due, one = progress.next_block, 0, 0
    now, then = session.steps(begun - 1), graph.under(load)
    for lane, place in enumerate(session.place.lanes):
        for number in graph.in_lane[lane] if place == worker.id else ():
            until, done = end - (graph.chains[number].kind is Kind.COMMIT), progress.done[number]
            if number not in now.skipped:  # a commit is due with the next block
                due += max(0, min(until, begun) - done)
            if number not in then.skipped:
                due += max(0, until - max(begun, done))
                one += 1
    return max(due, one)
