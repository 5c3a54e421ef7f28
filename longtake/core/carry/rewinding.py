"""Forks of the past: a stream that goes on from another one at a block which that has long made.

Theory of operation. The latents of a stream are checkpoints: at a block n before which all of them are kept that a
rebuild starts from, there can be another stream with the same past. It shares nothing that a worker holds. The journal
shares with it the latents and the prompts of the blocks before n (the same bytes, freed with the last session that has
them), and it is then as a session that was adopted: parked, without images, with everything before n done. It gets a
place of its own, anywhere, and comes back to it by the one way there is (carry/parking.py), though it was never away.

Nothing of its parent changes, and nothing of it is asked for, so the parent may be parked, without its client, or be
rebuilt itself; it may end right after. How far back n may be is what the journal happens to hold, at least
`Limits.rewind_blocks` behind the newest block; n may be as late as the first block of which the parent has no latents.
"""

from __future__ import annotations

from longtake.core.carry.forking import check_length, inherit
from longtake.core.effects import Inherit, Trim
from longtake.core.errors import InvalidField, Lack, NoCapacity, PastGone, WrongState
from longtake.core.events import Open
from longtake.core.sessions.life import State
from longtake.core.sessions.retention import Retention
from longtake.core.sessions.session import Session

_ALLOWED = (State.RUNNING, State.PAUSED, State.PARKING, State.PARKED, State.RESTORING)


def check(request: Open, parent: Session, block: int, retention: Retention) -> None:
    """WrongState, NoCapacity, InvalidField or PastGone if the parent cannot be forked at this block of its past."""
    if parent.state not in _ALLOWED:
        raise WrongState(f"open.fork: the session is {parent.state.value}; its past can be forked once it has begun")
    if parent.kin.depends:
        raise NoCapacity(f"open.fork: {parent.id} has not got all of its own past yet", 1.0, Lack.TURN)
    oldest, newest = retention.oldest_fork(parent.kept), _newest(parent)
    if block > newest:
        made = f"{oldest} to {newest}" if oldest <= newest else f"from {oldest} on, once that is made"
        raise InvalidField("open.fork.block", block, f"{made}, or {parent.next_block}, which the session begins next")
    if block < oldest:
        raise PastGone(block, oldest)
    check_length(request, parent, block)


def begin(child: Session, parent: Session, block: int, retention: Retention) -> list[Inherit | Trim]:
    """Give `child`, which has no place yet, the past of `parent`; returns what is to be kept once it is let in."""
    child.begin_at(block, parent.seeds_before(block))
    child.loads = parent.loads.before(block)
    child.state, child.classes = State.PARKED, parent.classes
    inherited = inherit(child, parent, block)
    return [inherited, child.trim(retention)]


def _newest(parent: Session) -> int:
    """The first block that is not made: all latents before it are in the journal."""
    made, last = parent.progress.done[parent.graph.last], parent.last_block
    return made if last is None else min(made, last)
