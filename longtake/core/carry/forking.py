"""Forks: a stream that goes on from the state of another one, at the block which that has not begun yet.

Forks that begin earlier share nothing that a worker holds (carry/rewinding.py).

Theory of operation. A fork of block n has everything of its parent before n and nothing after. Its lanes lie on its
parent's workers, because it shares the parent's sealed pages there; the pages that it may need in the end are taken
when it opens, like those of any other session, and given up lane by lane for the shared ones. At that moment the lanes
of the parent may be at different blocks, since its steps are pipelined, and none of them waits: a lane is shared right
after the parent's op that seals block n - 1 in it was dispatched, which is before its first op of block n can be. The
fork's own ops of that lane follow on the same link, so they find the pages written. Likewise its decoder slot is filled
from the parent's right behind V(n-1).

Until all ops of the parent before block n are done the fork depends on them: if the parent ends before, so does it.
Then the journal shares with it what it may be rebuilt from: the latents of the blocks before n, and their prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from longtake.core.effects import Inherit, PrepareStream
from longtake.core.errors import InvalidField, Lack, NoCapacity, UnknownSession, WrongState
from longtake.core.events import Open
from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Kind, Op
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId, WorkerId


@dataclass(frozen=True, slots=True)
class Gift:
    """A session that has got something of its parent, and the order that fills its slot, if that is it."""

    child: Session
    prepare: PrepareStream | None


_ALLOWED = (State.RUNNING, State.PAUSED)


def parent_of(request: Open, sessions: Mapping[SessionId, Session]) -> Session | None:
    """The session that `request` forks; UnknownSession if it is not open."""
    if request.fork is None:
        return None
    parent = sessions.get(request.fork.session)
    if parent is None or parent.state in (State.CLOSING, State.CLOSED):
        raise UnknownSession(request.fork.session)
    return parent


def check_apart(parent: Session) -> None:
    """InvalidField if no stream can go on from the middle of this one, because its blocks step together."""
    if parent.graph.joint is not None:
        allowed = "a session whose blocks are denoised one after the other: those of this recipe step together, so the "
        allowed += "first ones of a fork would read the past at other steps than they do here"
        raise InvalidField("open.fork.session", parent.id, allowed)


def check_place(block: int | None, parent: Session) -> None:
    """InvalidField or NoCapacity if a stream cannot go on at this block because only a reference comes before it."""
    if not parent.graph.window.references or (parent.next_block if block is None else block) > 0:
        return
    if block is None:
        raise NoCapacity(f"open.fork: {parent.id} has not begun a block yet", 1.0, Lack.TURN)
    allowed = "1 or more: before block 0 there is nothing but the reference, so open a stream of your own with it"
    raise InvalidField("open.fork.block", block, allowed)


def is_present(block: int, parent: Session) -> bool:
    """Whether a fork at this block is one of the parent where it is."""
    return block == parent.next_block and parent.state in _ALLOWED


def check(request: Open, parent: Session) -> None:
    """WrongState, NoCapacity or InvalidField if the parent cannot be forked where it is."""
    if parent.state not in _ALLOWED:
        allowed = " or ".join(state.value for state in _ALLOWED)
        raise WrongState(f"open.fork: the session is {parent.state.value}; it can be forked while it is {allowed}")
    if parent.is_frozen:
        raise WrongState("open.fork: the session may be about to go on at another server")
    if any(hold is Hold.MOVING for _, hold in parent.lane_holds):
        raise NoCapacity(f"open.fork: a lane of {parent.id} is on its way to another worker", 1.0, Lack.TURN)
    block = parent.next_block
    if parent.progress.again.has_renewed(block):
        raise NoCapacity(f"open.fork: {parent.id} is being renewed with another prompt", 1.0, Lack.TURN)
    if block < parent.shown_from:  # what only pictures of earlier blocks depend on is not in its slot
        raise NoCapacity(f"open.fork: {parent.id} makes again what its client has", 1.0, Lack.TURN)
    if parent.last_block is not None and block > parent.last_block:
        raise WrongState(f"open.fork: block {parent.last_block}, the last of the session, has begun")
    check_length(request, parent, block)


def check_length(request: Open, parent: Session, block: int) -> None:
    """InvalidField if a fork of `parent` at this block ends before it begins."""
    first = parent.geometry.first_picture(block)
    if request.picture_limit is not None and request.picture_limit <= first:
        where = f"{first} pictures ({float(parent.geometry.time_s(first)):.2f} s), where the fork begins"
        allowed = f"more than {where}; lengths count from the start of the session that is forked"
        raise InvalidField("open.length", f"{request.picture_limit} pictures", allowed)


def begin(child: Session, parent: Session) -> None:
    """Note that `child`, which has its place now, waits for its share in every lane and for its slot."""
    block = parent.next_block
    child.begin_at(block, parent.seeds_before(block))
    child.loads = parent.loads.before(block)
    child.story.inherit(parent.story, block)
    child.kin.unprepared = child.kin.depends = True
    child.lane_holds = {(lane, Hold.SHARING) for lane in range(child.graph.lane_count)}
    parent.kin.forks.append((child.id, block))


def share(parent: Session, sessions: Mapping[SessionId, Session], workers: Mapping[WorkerId, Worker]) -> list[Gift]:
    """Give every fork of `parent` what it can have by now; returns what was given, in order."""
    given = []
    for child_id, block in parent.kin.forks:
        child = sessions.get(child_id)
        if child is None or child.state is State.CLOSING:
            continue
        unshared = sorted(lane for lane, hold in child.lane_holds if hold is Hold.SHARING)
        shared = [lane for lane in unshared if _is_sealed(parent, lane, block)]
        for lane in shared:
            _share_lane(child, parent, lane, workers[child.place.lanes[lane]])
        prepare = None
        if child.kin.unprepared and (block == 0 or parent.progress.is_sent(Op(Kind.DECODE, 0, block - 1))):
            child.kin.unprepared = False
            prepare = PrepareStream(
                worker=child.place.decoder,
                session=child.id,
                slot=child.place.slot,
                settings=child.request.settings,
                origin=parent.place.slot,
            )
        if shared or prepare is not None:
            given.append(Gift(child, prepare))
    return given


def _is_sealed(parent: Session, lane: int, block: int) -> bool:
    """Whether the last op that writes what the lane holds at the boundary before `block` was dispatched."""
    return block == 0 or parent.progress.is_sent(parent.graph.sealing_op(lane, block - 1))


def _share_lane(child: Session, parent: Session, lane: int, worker: Worker) -> None:
    """Give up the pages that were kept for the lane, for a table that shares the parent's: it takes no more of them."""
    tables = list(child.place.tables)
    worker.pool.release(tables[lane])
    tables[lane] = worker.pool.fork(parent.place.tables[lane], child.kin.first_block)
    child.place = replace(child.place, tables=tuple(tables))
    child.lane_holds.discard((lane, Hold.SHARING))


def set_free(parent: Session, sessions: Mapping[SessionId, Session]) -> list[Inherit]:
    """Forget the forks for which all needed ops of `parent` are done; returns what those that are open inherit.

    From now on a fork is rebuilt from a journal of its own.
    """
    if not parent.progress.is_whole:  # what was shared may still be written by ops that are done once more
        return []
    oldest = min(parent.progress.done)
    free = [(child, block) for child, block in parent.kin.forks if oldest >= block and child in sessions]
    parent.kin.forks = [(child, block) for child, block in parent.kin.forks if oldest < block]
    for child, _ in free:
        sessions[child].kin.depends = False
    return [inherit(sessions[child], parent, block) for child, block in free]


def inherit(child: Session, parent: Session, block: int) -> Inherit:
    """Have `child` stand on its own: what is kept of the parent's blocks before this one is kept of it, too."""
    child.kept = child.kept.raised(parent.kept)
    child.story.inherit(parent.story, block)
    child.kin.known_from = max(parent.kin.known_from, parent.prompts.known_from)
    versions = child.prompts.inherit(parent.prompts, parent.prompt_texts(), block)
    return Inherit(session=child.id, parent=parent.id, before=block, versions=tuple(versions))
