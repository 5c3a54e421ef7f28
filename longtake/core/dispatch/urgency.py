"""Urgency: which of the ready ops of a worker goes first.

Theory of operation. Urgency is the latest time at which the op may end without making its block late (slack; sessions
without a playback clock have none and come last), then the service received so far: equal sessions get equal shares,
and one that was idle gets no credit for it. Within a session older blocks go first, and a denoise op goes before a
commit of the same block, because the next step waits for it. Due times alone would not do: of two blocks due at the
same time, the one that has four forwards to go is in greater haste than the one that has only its last.

What is done once more, to rebuild what a worker took along, has no due time of its own: those of its blocks are past.
It is to be done within a time (`Limits.recover_within_s`), less what is still to be done of it. So whoever is not
touched by a loss comes first where his own time is nearer, and a stream without due times does not wait for all others.
"""

from __future__ import annotations

from longtake.core.cell import Cell
from longtake.core.fleet.ready import Urgency
from longtake.core.recipe.block_steps import BlockSteps
from longtake.core.recipe.ops import Chain, Kind, Op
from longtake.core.sessions.session import Session
from longtake.core.work import Ticket


def slack_first(cell: Cell, ticket: Ticket) -> Urgency:
    """Slack first, then fairness, then the order of ops."""
    session, op = cell.sessions[ticket.session], ticket.op
    commits = op.kind is Kind.COMMIT
    if not session.progress.is_whole:
        chain = session.graph.chain_of(op)
        if session.progress.again.renews(chain.number) and session.progress.is_replay(chain.number, op.block):
            return _renewal(cell, session, chain, op)
        if session.progress.is_replay(chain.number, op.block):
            again_s = session.progress.left_to_replay(chain.number) * _op_s(cell, session, chain)
            return Urgency(session.whole_by_s - again_s, session.virtual_time, op.block, commits, op.step)
    if not session.is_realtime:
        return Urgency(_NEVER_S, session.virtual_time, op.block, commits, op.step)
    # A commit is in time if the next block's denoise op in its lane, which waits for it, is.
    due_s = session.flow.due_s(op.block + commits, geometry=session.geometry)
    steps = session.steps(op.block + commits)
    deadline_s = due_s - rest_s(cell, session, session.graph.chain_of(op), steps)
    return Urgency(deadline_s, session.virtual_time, op.block, commits, op.step)


_NEVER_S = float("inf")


def _renewal(cell: Cell, session: Session, chain: Chain, op: Op) -> Urgency:
    """That of the denoise op behind it, and what is still to be done before."""
    lane, progress = chain.lane or 0, session.progress
    begins, block = session.graph.chains[session.graph.begins[lane]], progress.again.renewed[lane]
    deadline_s = _NEVER_S
    if session.is_realtime:
        left_s = progress.left_to_replay(chain.number) * _op_s(cell, session, chain)
        left_s += rest_s(cell, session, begins, session.steps(block))
        deadline_s = session.flow.due_s(block, geometry=session.geometry) - left_s
    return Urgency(deadline_s, session.virtual_time, op.block, op.kind is Kind.COMMIT, op.step)


def _op_s(cell: Cell, session: Session, chain: Chain) -> float:
    """The time of one op of this chain where it is done."""
    place, (forward, decode) = session.place, cell.fleet.op_costs(session.graph)
    if chain.lane is None:
        return decode * cell.workers[place.decoder].timing.passage_s
    return forward * cell.workers[place.lanes[chain.lane]].timing.passage_s


def least_latency_s(cell: Cell, session: Session) -> float:
    """How long a block of a session that has a place takes, if nothing comes between."""
    first = session.graph.chains[session.graph.first]
    return _op_s(cell, session, first) + rest_s(cell, session, first, session.graph.usual)


def rest_s(cell: Cell, session: Session, chain: Chain, steps: BlockSteps) -> float:
    """Time from the end of an op to the segment that waits for it, if nothing comes between: the critical path."""
    if chain.lane is None:
        return 0.0
    workers, place, (forward, decode) = cell.workers, session.place, cell.fleet.op_costs(session.graph)
    lanes, rest_s = place.lanes, decode * workers[place.decoder].timing.passage_s
    for lane in steps.lanes_left[chain.number]:
        rest_s += forward * workers[lanes[lane]].timing.passage_s
    return rest_s
