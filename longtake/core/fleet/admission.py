"""Admission: what an Open may ask for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.session import Place, Session
from longtake.core.work import Role, SessionId, WorkerId

_RETRY_S = 5.0
"""Retry delay when nobody can say which stream ends first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Where the state of a parked session lies."""

    lanes: tuple[WorkerId, ...]
    decoder: WorkerId


def check_open(request: Open, recipe: Recipe, geometry: Geometry, limits: Limits) -> None:
    """InvalidField if the request asks for what nobody can have."""
    if not request.prompt.strip():
        raise InvalidField("open.prompt", request.prompt, "a text that is not empty")
    if not 1 <= request.window <= limits.max_window:
        raise InvalidField("open.window", request.window, f"1 to {limits.max_window} segments")
    if not 0 <= request.seed < 2**64:
        raise InvalidField("open.seed", request.seed, "0 to 2^64 - 1")
    if request.picture_limit is not None and request.picture_limit < 1:
        raise InvalidField("open.picture_limit", request.picture_limit, "1 or more pictures")
    if len(request.cues) > limits.max_pending_cues:
        raise InvalidField("open.cues", len(request.cues), f"at most {limits.max_pending_cues} cues")
    longest = recipe.block_limit
    if (
        longest is not None
        and request.picture_limit is not None
        and geometry.blocks_for(request.picture_limit) > longest
    ):
        raise InvalidField("open.picture_limit", request.picture_limit, f"at most {geometry.first_picture(longest)}")


def admit(
    request: Open,
    recipe: Recipe,
    geometry: Geometry,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    sessions: Mapping[SessionId, Session],
    fleet: Fleet,
) -> Place:
    """Take pages, a decoder slot and, if REALTIME, time; InvalidField, NoCapacity or Unavailable if it cannot be."""
    check_open(request, recipe, geometry, limits)
    try:
        return take_place(request, recipe, limits, workers, fleet)
    except NoCapacity as refusal:
        raise NoCapacity(str(refusal), retry_s(sessions, geometry), refusal.lack) from None


def take_place(
    request: Open,
    recipe: Recipe,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    fleet: Fleet,
    homes: Homes | None = None,
) -> Place:
    """Pages, a decoder slot and, if REALTIME, time; NoCapacity or Unavailable if it cannot be.

    At `homes` if there is room for all of it there, because nothing has to be moved then.
    """
    if homes is not None:
        try:
            return take_place_at(request, limits, workers, fleet, homes)
        except NoCapacity:
            pass
    denoisers, decoders = _rankings(fleet)
    live, limit = request.pace is Pace.REALTIME, limits.load_limit
    place = denoisers.place_together if request.pace in limits.packed else denoisers.place
    lanes = place(recipe.lane_count, live=live, limit=limit)
    (decoder,) = decoders.place(1, live=live, limit=limit)
    return _take(request, workers, fleet, Homes(lanes=lanes, decoder=decoder))


def take_place_at(
    request: Open, limits: Limits, workers: Mapping[WorkerId, Worker], fleet: Fleet, homes: Homes
) -> Place:
    """The same at these workers and nowhere else."""
    denoisers, decoders = _rankings(fleet)
    live, limit = request.pace is Pace.REALTIME, limits.load_limit
    for what, ranking, chosen in (("lanes", denoisers, homes.lanes), ("a slot", decoders, (homes.decoder,))):
        lack = ranking.lacks(chosen, live=live, limit=limit)
        if lack is not None:
            raise NoCapacity(f"there is no room for {what} on {', '.join(dict.fromkeys(chosen))}", 1.0, lack)
    return _take(request, workers, fleet, homes)


def _rankings(fleet: Fleet) -> tuple[Ranking, Ranking]:
    """Denoise and decode workers; Unavailable if there are none of either."""
    denoisers, decoders = fleet.ranking(Role.DENOISE), fleet.ranking(Role.DECODE)
    if not len(denoisers) or not len(decoders):
        missing = "decode" if len(denoisers) else "denoise"
        raise Unavailable(f"no {missing} worker is up yet")
    return denoisers, decoders


def _take(request: Open, workers: Mapping[WorkerId, Worker], fleet: Fleet, homes: Homes) -> Place:
    live = request.pace is Pace.REALTIME
    tables = tuple(workers[worker].new_table() for worker in homes.lanes)
    for worker in homes.lanes:
        workers[worker].count_lane(live=live)
    decoder = workers[homes.decoder]
    decoder.live_slots += live
    slot = decoder.free_slots.pop()
    used = [workers[worker] for worker in dict.fromkeys((*homes.lanes, homes.decoder))]
    for holder in used:
        holder.sessions.add(request.session)
    fleet.changed(*used)
    return Place(lanes=homes.lanes, tables=tables, decoder=homes.decoder, slot=slot)


def fits_at_all(recipe: Recipe, workers: Mapping[WorkerId, Worker]) -> bool:
    """Whether a session could have a place if it were alone."""
    denoisers = [worker for worker in workers.values() if worker.role is Role.DENOISE]
    lanes = sum(worker.capacity // worker.pages_per_lane for worker in denoisers)
    return lanes >= recipe.lane_count and len(denoisers) < len(workers)


def retry_s(sessions: Mapping[SessionId, Session], geometry: Geometry) -> float:
    """When trying again may help: when the first of the live streams that have a length ends, 1 to 60 s."""
    rests = [
        (session.last_block + 1 - session.emitted) * geometry.block_s
        for session in sessions.values()
        if session.last_block is not None and session.is_live
    ]
    return round(min(max(min(rests, default=_RETRY_S), 1.0), 60.0), 1)
