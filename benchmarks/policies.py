"""Dispatch orders that the server does not use, to show what its own order is worth."""

from __future__ import annotations

from longtake.core.cell import Cell
from longtake.core.fleet.ready import Urgency
from longtake.core.recipe.ops import Kind
from longtake.core.work import Ticket


def first_in_first_out(cell: Cell, ticket: Ticket) -> Urgency:
    """What became ready first runs first: ties are broken so, and all are equal; blind to deadlines."""
    return Urgency(0.0, 0.0, 0, False, 0)


def earliest_due_first(cell: Cell, ticket: Ticket) -> Urgency:
    """Plain EDF: the due time of the op's own block alone, blind to what is still to be done for it."""
    session, op = cell.sessions[ticket.session], ticket.op
    due_s = session.flow.due_s(op.block, geometry=session.geometry)
    return Urgency(due_s, session.virtual_time, op.block, op.kind is Kind.COMMIT, op.step)
