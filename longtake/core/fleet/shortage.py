"""What is said where workers have no room: who is nearest to having it, how much that is, and how much is needed."""

from __future__ import annotations

from collections.abc import Mapping

from longtake.core.errors import Lack, NoCapacity
from longtake.core.fleet.room import Ask, Room
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.work import WorkerId


def no_memory(rooms: Mapping[WorkerId, Room], ask: Ask, lack: Lack, *, placed: int = 0, at_once: int = 1) -> NoCapacity:
    """No worker has pages (or a slot) for the next lanes, with `placed` of them placed."""
    here = {worker: room for worker, room in rooms.items() if ask.numerics in (None, room.numerics)}
    if not here:
        return NoCapacity("no worker is here that gives the same bits as its own did", Scarcity(), lack)
    most = max(here, key=lambda worker: here[worker].free)
    free = here[most].free
    needed = at_once * ask.demand.units
    shortage = Shortage(of=most, unit=lack.value, needed=needed, free=free)
    if lack is Lack.SLOTS:
        who = f"{most} has no" if len(here) == 1 else f"none of {len(here)} decode workers has a"
        return NoCapacity(f"{who} decoder slot free", Scarcity(shortage=shortage), lack)
    facts = f"{_most(most, here, ask, placed)} has {free} pages free, {_takes(ask, at_once)} {needed}"
    return NoCapacity(facts, Scarcity(shortage=shortage), lack)


def no_time(rooms: Mapping[WorkerId, Room], ask: Ask, *, placed: int = 0, at_once: int = 1) -> NoCapacity:
    """No worker has time for the next lanes (or the slot) of a stream that reserves it, with `placed` placed."""
    here = {worker: room for worker, room in rooms.items() if room.fits(ask)}
    takes = {worker: at_once * room.lane_share * ask.demand.time for worker, room in here.items()}
    left = {worker: max(0.0, ask.limit - room.taken) for worker, room in here.items()}
    most = max(here, key=lambda worker: left[worker] - takes[worker])
    shortage = Shortage(of=most, unit="share of time", needed=takes[most], free=left[most], limit=ask.limit)
    facts = (
        f"{_most(most, here, ask, placed)} has {_percent(left[most])} of its time free, "
        f"{_takes(ask, at_once)} {_percent(takes[most])}"
    )
    return NoCapacity(facts, Scarcity(shortage=shortage), Lack.TIME)


def _most(worker: WorkerId, here: Mapping[WorkerId, Room], ask: Ask, placed: int) -> str:
    who = worker if len(here) == 1 else f"{worker}, the best of {len(here)},"
    return f"with {placed} of its {ask.count} lanes {who}" if placed else who


def _takes(ask: Ask, at_once: int) -> str:
    if at_once > 1:
        return f"{at_once} of its {ask.count} lanes take" if at_once < ask.count else f"its {ask.count} lanes take"
    return f"each of its {ask.count} lanes takes" if ask.count > 1 else "one takes"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
