"""Encoding: when a decode worker is given a part of what a client gave (fleet/clips.py).

Theory of operation. A stream that has not begun has no due time, so the parts of its clip are served as ops without one
are: behind all ops that have one, but for the share of a worker's time that is never reserved (`Limits.load_limit`). So
a clip, however long, takes no more from streams that were let in than those were promised to do without; and it comes
to its end whatever they want. Where nothing has a due time a part goes as soon as there is room: since a worker has one
at most, and room for two orders, an op that is ready goes between any two.
"""

from __future__ import annotations

import math

from longtake.core.cell import Cell
from longtake.core.fleet.worker import Worker
from longtake.core.parts import EncodePictures


def next_part(cell: Cell, worker: Worker, *, now_s: float) -> EncodePictures | None:
    """The part that goes before everything that is ready for a worker which has room; None if none does."""
    clips, ready = worker.clips, worker.ready
    if not clips.has_turn:
        return None
    if ready and not _owes(cell, worker, now_s=now_s):
        first = ready.most_urgent(lambda ticket: cell.urgency(cell, ticket))
        if ready[first].deadline_s < math.inf:
            return None
    worker.shared_s = now_s
    return clips.order(worker.id)


def _owes(cell: Cell, worker: Worker, *, now_s: float) -> bool:
    """Whether what has no due time has waited for its share of the worker."""
    part_s = max(worker.errands.mean_s(EncodePictures), worker.timing.pass_s)
    return (now_s - worker.shared_s) * (1 - cell.limits.load_limit) >= part_s
