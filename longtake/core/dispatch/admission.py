"""Admission: the recipe that an Open asks for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from longtake.core.cell import Cell
from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.fleet.load import Demands
from longtake.core.fleet.placement import Ask, Ranking
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.place import Classes, Homes, Place
from longtake.core.sessions.session import Session
from longtake.core.work import Role

_RETRY_S = 5.0
"""Retry delay when nobody can say which stream ends first."""


def graph_for(request: Open, cell: Cell, parent: Session | None) -> Graph:
    """The recipe that the request asks for; InvalidField if there is none, or the stream is too long for it.

    A fork goes on with the recipe of its parent.
    """
    graph = cell.graphs.get(request.recipe)
    if parent is not None and not request.recipe:
        graph = parent.graph
    if parent is not None and graph is not parent.graph:
        raise InvalidField("open.recipe", request.recipe, f"{parent.request.recipe!r}, the recipe that is forked")
    if graph is None:
        allowed = ", ".join(sorted(name for name in cell.graphs if name)) or "none, for the one recipe of this cell"
        raise InvalidField("open.recipe", request.recipe, allowed)
    longest, asked = graph.recipe.block_limit, request.picture_limit
    geometry = cell.geometry.divided(graph.blocks)
    if longest is not None and asked is not None and geometry.blocks_for(asked) > longest:
        raise InvalidField("open.picture_limit", asked, f"at most {geometry.first_picture(longest)}")
    return graph


def take_place(cell: Cell, session: Session, homes: Homes | None = None) -> Place:
    """Take pages, a decoder slot and, if REALTIME, time; NoCapacity or Unavailable if it cannot be.

    The place is at `homes` if there is room for all of it there, because then nothing has to be moved, and else with
    workers of the same classes as before.
    """
    if homes is not None:
        try:
            return take_place_at(cell, session, homes)
        except NoCapacity:
            pass
    denoisers, decoders = _rankings(cell)
    lanes, slot = _asks(cell, session)
    lanes = replace(lanes, numerics=_still(session.classes.lanes, denoisers))
    slot = replace(slot, numerics=_still(session.classes.decoder, decoders))
    place = denoisers.place_together if session.request.pace in cell.limits.packed else denoisers.place
    chosen = place(lanes)
    (decoder,) = decoders.place(slot)
    return _take(cell, session, Homes(lanes=chosen, decoder=decoder))


def take_place_at(cell: Cell, session: Session, homes: Homes) -> Place:
    """The same at these workers and nowhere else."""
    denoisers, decoders = _rankings(cell)
    lanes, slot = _asks(cell, session)
    for what, ranking, chosen, ask in (
        ("lanes", denoisers, homes.lanes, lanes),
        ("a slot", decoders, (homes.decoder,), slot),
    ):
        lack = ranking.lacks(chosen, ask)
        if lack is not None:
            raise NoCapacity(f"there is no room for {what} on {', '.join(dict.fromkeys(chosen))}", 1.0, lack)
    return _take(cell, session, homes)


def _rankings(cell: Cell) -> tuple[Ranking, Ranking]:
    """Denoise and decode workers; Unavailable if there are none of either."""
    denoisers, decoders = cell.fleet.ranking(Role.DENOISE), cell.fleet.ranking(Role.DECODE)
    if not len(denoisers) or not len(decoders):
        missing = "decode" if len(denoisers) else "denoise"
        raise Unavailable(f"no {missing} worker is up yet")
    return denoisers, decoders


def _still(numerics: str | None, ranking: Ranking) -> str | None:
    """The class, if any worker is of it still: what there is no worker for cannot be waited for."""
    return numerics if numerics in ranking.classes else None


def _asks(cell: Cell, session: Session) -> tuple[Ask, Ask]:
    """What a session asks of denoise workers, and of a decode worker."""
    demands, live, limit = cell.fleet.demands(session), session.is_live, cell.limits.load_limit
    lanes = Ask(count=session.graph.lane_count, demand=demands.lane, live=live, limit=limit)
    return lanes, Ask(count=1, demand=demands.slot, live=live, limit=limit)


def _take(cell: Cell, session: Session, homes: Homes) -> Place:
    demands: Demands = cell.fleet.demands(session)
    tables = tuple(cell.workers[worker].new_table(session, demands.lane) for worker in homes.lanes)
    for worker in homes.lanes:
        cell.workers[worker].load.count(1, demands.lane, live=session.is_live)
    decoder = cell.workers[homes.decoder]
    decoder.load.count(1, demands.slot, live=session.is_live)
    slot = decoder.free_slots.pop()
    used = [cell.workers[worker] for worker in dict.fromkeys((*homes.lanes, homes.decoder))]
    for holder in used:
        holder.sessions.add(session.id)
    cell.fleet.changed(*used)
    session.classes = Classes(lanes=cell.workers[homes.lanes[0]].numerics, decoder=decoder.numerics)
    return Place(lanes=homes.lanes, tables=tables, decoder=homes.decoder, slot=slot)


def fits_at_all(cell: Cell, session: Session) -> bool:
    """Whether the session could have a place if it were alone: all lanes with workers of one class."""
    units = cell.fleet.demands(session).lane.units
    lanes: Counter[str] = Counter()
    for worker in cell.workers.values():
        if worker.role is Role.DENOISE:
            lanes[worker.numerics] += worker.capacity // units
    decodes = any(worker.role is Role.DECODE for worker in cell.workers.values())
    return decodes and max(lanes.values(), default=0) >= session.graph.lane_count


def retry_s(sessions: Iterable[Session]) -> float:
    """When trying again may help: when the first of the live streams that have a length ends, 1 to 60 s."""
    rests = [
        (session.last_block + 1 - session.emitted) * session.geometry.block_s
        for session in sessions
        if session.last_block is not None and session.is_live
    ]
    return round(min(max(min(rests, default=_RETRY_S), 1.0), 60.0), 1)
