"""Which ops of a batch are one thing with others, because they read what those write."""

from __future__ import annotations

from collections.abc import Sequence

from longtake.core.work import PageId
from workers.messages import Forward


def apart(batch: Sequence[Forward]) -> list[list[int]]:
    """The parts of a batch, each with the numbers of its ops, of which no op reads what one of another part writes."""
    parts: list[tuple[set[PageId], set[PageId], list[int]]] = []
    for item, forward in enumerate(batch):
        reads, writes, ops = set(forward.work.pages.reads), set(forward.work.pages.writes), [item]
        bound = [part for part in parts if not (part[0].isdisjoint(writes) and part[1].isdisjoint(reads))]
        for part in bound:
            reads, writes, ops = reads | part[0], writes | part[1], [*part[2], *ops]
            parts.remove(part)
        parts.append((reads, writes, sorted(ops)))
    return [ops for _, _, ops in parts]
