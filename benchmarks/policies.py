"""Dispatch orders that the server does not use, to show what its own order is worth."""

from __future__ import annotations

from longtake.core.dispatch.dispatcher import Dispatcher
from longtake.core.fleet.worker import Urgency
from longtake.core.recipe.graph import Kind, Op
from longtake.core.work import SessionId


class FirstInFirstOut(Dispatcher):
    """What became ready first runs first: fair between ops, blind to deadlines."""

    def urgency(self, ready: tuple[SessionId, Op]) -> Urgency:
        """The same for all: ties are broken by the order in which ops became ready."""
        return Urgency(0.0, 0.0, 0, False, 0)


class EarliestDueFirst(Dispatcher):
    """Plain EDF: the due time of the block alone, blind to what is still to be done for it."""

    def urgency(self, ready: tuple[SessionId, Op]) -> Urgency:
        """The due time of the op's own block."""
        session, op = self._sessions[ready[0]], ready[1]
        due_s = session.flow.due_s(op.block, geometry=self._geometry)
        return Urgency(due_s, session.virtual_time, op.block, op.kind is Kind.COMMIT, op.step)
