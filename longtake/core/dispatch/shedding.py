"""Shedding: how many steps a block takes, which is settled when its first op is dispatched."""

from __future__ import annotations

from longtake.core.sessions.session import Session


def begin_block(session: Session, block: int) -> None:
    """Settle the steps of a block whose first op is about to be dispatched, for the first time or once more."""
    session.loads.settle(block, session.loads.at(block))
    skipped = session.steps(block).skipped
    if skipped != session.progress.skipped(block):
        session.progress.skip(block, skipped)
