"""When the reference of a stream may be committed once more though nothing was lost."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.work import DecodeWork, ForwardWork, SessionId


def is_unbegun(work: ForwardWork | DecodeWork, graph: Graph, sent: AbstractSet[tuple[SessionId, Op]]) -> bool:
    """Whether it commits the reference to a lane that has begun no block: parked, a stream leaves nothing there."""
    if work.block >= 0 or isinstance(work, DecodeWork):
        return False
    return not any((work.session, graph.op(chain, 0)) in sent for chain in graph.in_lane[work.lane])
