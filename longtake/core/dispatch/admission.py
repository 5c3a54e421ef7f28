"""Admission: the recipe that an Open asks for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from longtake.core.cell import Cell
from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.fleet.load import Demand
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Ask
from longtake.core.fleet.worker import Worker
from longtake.core.pages import PageTable
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.place import Classes, Homes, Place
from longtake.core.sessions.session import Session
from longtake.core.work import Role, SlotId, WorkerId

_RETRY_S = 5.0
"""Retry delay when nobody can say which stream ends first."""


def graph_for(request: Open, cell: Cell, parent: Session | None) -> Graph:
    """The recipe that the request asks for; InvalidField if there is none, or the stream is too long for it.

    A fork goes on with the recipe of its parent.
    """
    graph = cell.graphs.get(request.recipe)
    if parent is not None and (not request.recipe or graph is cell.graphs.get(parent.request.recipe)):
        return _long_enough(parent.graph, request, cell)
    if parent is not None:
        raise InvalidField("open.recipe", request.recipe, f"{parent.request.recipe!r}, the recipe that is forked")
    if graph is None:
        allowed = ", ".join(sorted(name for name in cell.graphs if name)) or "none, for the one recipe of this cell"
        raise InvalidField("open.recipe", request.recipe, allowed)
    return _long_enough(cell.graph_with(graph, request.given_frames), request, cell)


def _long_enough(graph: Graph, request: Open, cell: Cell) -> Graph:
    """The same graph; InvalidField if the stream is too long for it, or ends before it begins."""
    longest, asked = graph.recipe.block_limit, request.picture_limit
    geometry = cell.geometry.divided(graph.blocks)
    if longest is not None and asked is not None and geometry.blocks_for(asked) > longest:
        raise InvalidField("open.length", f"{asked} pictures", f"at most {geometry.first_picture(longest)} pictures")
    given = geometry.first_picture(graph.given_blocks)
    if request.fork is None and given and asked is not None and asked <= given:
        raise InvalidField("open.length", f"{asked} pictures", f"more than {given} pictures, which are given")
    return graph


def take_place(
    cell: Cell, session: Session, homes: Homes | None = None, *, now_s: float, limit: float | None = None
) -> Place:
    """Take pages, a decoder slot and, if REALTIME, time; NoCapacity or Unavailable if it cannot be.

    The place is at `homes` if there is room for all of it there, because then nothing has to be moved, and else with
    workers of the same classes as before: for a while also if none is up, because it may come back. `limit` is the
    share of a worker's time that may be reserved, if it is not `Limits.load_limit`.
    """
    if homes is not None:
        try:
            return take_place_at(cell, session, homes)
        except NoCapacity:
            pass
    denoisers, decoders = _rankings(cell)
    lanes, slot = _asks(cell, session, limit)
    lanes = replace(lanes, numerics=_still(cell, Role.DENOISE, session.classes.lanes, now_s))
    slot = replace(slot, numerics=_still(cell, Role.DECODE, session.classes.decoder, now_s))
    place = denoisers.place_together if session.request.pace in cell.limits.packed else denoisers.place
    chosen = place(lanes)
    (decoder,) = decoders.place(slot)
    return _take(cell, session, Homes(lanes=chosen, decoder=decoder))


def take_place_at(cell: Cell, session: Session, homes: Homes, *, limit: float | None = None) -> Place:
    """The same at these workers and nowhere else."""
    denoisers, decoders = _rankings(cell)
    lanes, slot = _asks(cell, session, limit)
    for ranking, chosen, ask in ((denoisers, homes.lanes, lanes), (decoders, (homes.decoder,), slot)):
        refusal = ranking.shortage(chosen, ask)
        if refusal is not None:
            raise refusal
    return _take(cell, session, homes)


def take_again(cell: Cell, session: Session) -> None:
    """Take a place for each part of a session that was with a lost worker, at others of the same class.

    NoCapacity or Unavailable if there is no room for all of them; then nothing is taken.
    """
    place = session.place
    lost = place.lost_lanes
    denoisers, decoders = _rankings(cell)
    lanes, slot = _asks(cell, session)
    together = session.request.pace in cell.limits.packed
    put = denoisers.place_together if together else denoisers.place
    chosen = put(replace(lanes, count=len(lost), numerics=session.classes.lanes)) if lost else ()
    (decoder,) = decoders.place(replace(slot, numerics=session.classes.decoder)) if place.has_lost_slot else (None,)
    for lane, worker in zip(lost, chosen, strict=True):
        place = place.with_lane(lane, worker, _take_lane(cell, session, worker))
    if decoder is not None:
        place = replace(place, decoder=decoder, slot=_take_slot(cell, session, decoder))
    session.place = place


def _rankings(cell: Cell) -> tuple[Ranking, Ranking]:
    """Denoise and decode workers; Unavailable if there are none of either."""
    denoisers, decoders = cell.fleet.ranking(Role.DENOISE), cell.fleet.ranking(Role.DECODE)
    if not len(denoisers) or not len(decoders):
        missing = "decode" if len(denoisers) else "denoise"
        raise Unavailable(f"no {missing} worker is up yet")
    return denoisers, decoders


def _still(cell: Cell, role: Role, numerics: str | None, now_s: float) -> str | None:
    """The class, if any worker is of it still, or was a while ago."""
    return numerics if numerics is not None and cell.fleet.expects(role, numerics, now_s=now_s) else None


def _asks(cell: Cell, session: Session, limit: float | None = None) -> tuple[Ask, Ask]:
    """What a session asks of denoise workers, and of a decode worker."""
    demands = cell.fleet.demands(session)
    lanes = Ask(
        count=session.graph.lane_count,
        demand=demands.lane,
        realtime=session.is_realtime,
        limit=cell.limits.load_limit if limit is None else limit,
        avoids=session.avoids,
    )
    return lanes, replace(lanes, count=1, demand=demands.slot)


def _take(cell: Cell, session: Session, homes: Homes) -> Place:
    tables = tuple(_take_lane(cell, session, worker) for worker in homes.lanes)
    slot = _take_slot(cell, session, homes.decoder)
    lanes, decoder = cell.workers[homes.lanes[0]], cell.workers[homes.decoder]
    session.classes = Classes(lanes=lanes.numerics, decoder=decoder.numerics)
    return Place(lanes=homes.lanes, tables=tables, decoder=homes.decoder, slot=slot)


def _take_lane(cell: Cell, session: Session, at: WorkerId) -> PageTable:
    demand, worker = cell.fleet.demands(session).lane, cell.workers[at]
    table = worker.new_table(session, demand)
    if session.progress.riding is not None:
        session.progress.riding.ride(worker.joined.ability)
    _count(cell, session, worker, demand)
    return table


def _take_slot(cell: Cell, session: Session, at: WorkerId) -> SlotId:
    worker = cell.workers[at]
    slot = SlotId(worker.free_slots.take())
    _count(cell, session, worker, cell.fleet.demands(session).slot)
    return slot


def _count(cell: Cell, session: Session, worker: Worker, demand: Demand) -> None:
    worker.load.count(1, demand, realtime=session.is_realtime)
    worker.sessions.add(session.id)
    cell.fleet.changed(worker)


def fits_at_all(cell: Cell, session: Session) -> bool:
    """Whether the session could have a place if it were alone: all lanes with workers of one class."""
    lanes, slot = _asks(cell, session)
    room: Counter[str] = Counter()
    for worker in cell.workers.values():
        if worker.role is Role.DENOISE:
            room[worker.numerics] += worker.capacity // lanes.demand.units
    denoisers, decoders = (cell.fleet.ranking(role) for role in (Role.DENOISE, Role.DECODE))
    in_time = denoisers.could_hold(lanes) and decoders.could_hold(slot)
    return in_time and max(room.values(), default=0) >= lanes.count


def first_end_s(sessions: Iterable[Session]) -> float:
    """When trying again may help: when the first of the REALTIME streams that have a length ends, 1 to 60 s."""
    rests = [
        (session.last_block + 1 - session.emitted) * session.geometry.block_s
        for session in sessions
        if session.last_block is not None and session.is_realtime
    ]
    return round(min(max(min(rests, default=_RETRY_S), 1.0), 60.0), 1)
