"""Admission: what an Open may ask for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.flow import Flow, Pace
from longtake.core.geometry import Geometry
from longtake.core.placement import Room, holds, place_lanes
from longtake.core.recipe import Recipe
from longtake.core.schedule import Kind, chains
from longtake.core.session import Place, Session
from longtake.core.work import Role, SessionId, WorkerId
from longtake.core.workers import Worker

_RETRY_S = 5.0
"""Retry delay when nobody can say which stream ends first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Where the state of a parked session lies."""

    lanes: tuple[WorkerId, ...]
    decoder: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = 64
    default_window: int = 4
    max_window: int = 32
    max_pending_cues: int = 64
    load_limit: float = 0.95
    """Share of every worker's time that REALTIME sessions may reserve; above it nobody would be on time."""
    park_after_s: float = 30.0
    """A session that generates nothing for this long, paused or without credit, gives up its place until it goes on."""
    max_parked: int = 64
    """Parked sessions whose state may lie in host memory; further ones keep their place."""
    max_queued: int = 64
    """FAST sessions that may wait for a place; 0: they are refused, as REALTIME ones always are."""

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)


def check_open(request: Open, limits: Limits) -> None:
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


def admit(
    request: Open,
    recipe: Recipe,
    geometry: Geometry,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    sessions: Mapping[SessionId, Session],
) -> Place:
    """Take pages, a decoder slot and, if REALTIME, time; InvalidField, NoCapacity or Unavailable if it cannot be."""
    check_open(request, limits)
    try:
        return take_place(request, recipe, geometry, limits, workers)
    except NoCapacity as refusal:
        raise NoCapacity(str(refusal), retry_s(sessions, geometry)) from None


def take_place(
    request: Open,
    recipe: Recipe,
    geometry: Geometry,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    homes: Homes | None = None,
) -> Place:
    """Pages, a decoder slot and, if REALTIME, time; NoCapacity or Unavailable if it cannot be.

    At `homes` if there is room for all of it there, because nothing has to be moved then.
    """
    if homes is not None:
        try:
            return take_place_at(request, recipe, geometry, limits, workers, homes)
        except NoCapacity:
            pass
    lane_rooms, slot_rooms = _all_rooms(request, recipe, geometry, workers)
    lanes = place_lanes(recipe.lane_count, lane_rooms, limit=limits.load_limit)
    (decoder,) = place_lanes(1, slot_rooms, limit=limits.load_limit, what="decoder slots")
    return _take(request, recipe, workers, Homes(lanes=lanes, decoder=decoder))


def take_place_at(
    request: Open,
    recipe: Recipe,
    geometry: Geometry,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    homes: Homes,
) -> Place:
    """The same at these workers and nowhere else."""
    lane_rooms, slot_rooms = _all_rooms(request, recipe, geometry, workers)
    for what, rooms, chosen in (("lanes", lane_rooms, homes.lanes), ("a decoder slot", slot_rooms, (homes.decoder,))):
        if not holds(rooms, chosen, limits.load_limit):
            raise NoCapacity(f"there is no room for {what} on {', '.join(dict.fromkeys(chosen))}", 1.0)
    return _take(request, recipe, workers, homes)


def _all_rooms(
    request: Open, recipe: Recipe, geometry: Geometry, workers: Mapping[WorkerId, Worker]
) -> tuple[dict[WorkerId, Room], dict[WorkerId, Room]]:
    """What is left for lanes, and for decoder slots; Unavailable without workers."""
    denoisers = {worker.id: worker for worker in workers.values() if worker.role is Role.DENOISE}
    decoders = {worker.id: worker for worker in workers.values() if worker.role is Role.DECODE}
    if not denoisers or not decoders:
        missing = "denoise" if not denoisers else "decode"
        raise Unavailable(f"no {missing} worker is up yet")
    live = request.pace is Pace.REALTIME
    forwards = forwards_per_block(recipe) // recipe.lane_count
    return _rooms(denoisers, forwards, geometry, live=live), _rooms(decoders, 1, geometry, live=live)


def _take(request: Open, recipe: Recipe, workers: Mapping[WorkerId, Worker], homes: Homes) -> Place:
    live = request.pace is Pace.REALTIME
    tables = []
    for name in homes.lanes:
        worker = workers[name]
        tables.append(worker.pool.allocate(recipe.page_count))
        worker.lanes += 1
        worker.live_lanes += live
    decoder = workers[homes.decoder]
    decoder.live_slots += live
    for name in {*homes.lanes, homes.decoder}:
        workers[name].sessions.add(request.session)
    return Place(lanes=homes.lanes, tables=tuple(tables), decoder=homes.decoder, slot=decoder.free_slots.pop())


def fits_at_all(recipe: Recipe, workers: Mapping[WorkerId, Worker]) -> bool:
    """Whether a session could have a place if it were alone."""
    lanes = sum(worker.capacity // recipe.page_count for worker in workers.values() if worker.role is Role.DENOISE)
    return lanes >= recipe.lane_count and any(worker.role is Role.DECODE for worker in workers.values())


def forwards_per_block(recipe: Recipe) -> int:
    """Forwards that one block costs: 2 S at level OUTPUT, S + 1 at CLEAN, S at INPUT."""
    return sum(1 for kind, _ in chains(recipe) if kind is not Kind.DECODE)


def _rooms(
    workers: Mapping[WorkerId, Worker], ops_per_block: int, geometry: Geometry, *, live: bool
) -> dict[WorkerId, Room]:
    """What each worker has left, for lanes (or slots) that cost `ops_per_block` of its ops.

    A worker of which nothing is known yet is taken to be like the others; if nothing is known of any, time counts for
    nothing and pages alone decide.
    """
    known = [worker.op_s for worker in workers.values() if worker.op_s]
    usual_s = sum(known) / len(known) if known else 0.0
    rooms = {}
    for worker in workers.values():
        share = ops_per_block * (worker.op_s or usual_s) / geometry.block_s
        denoises = worker.role is Role.DENOISE
        live_here = worker.live_lanes if denoises else worker.live_slots
        rooms[worker.id] = Room(
            lanes=worker.lane_room if denoises else len(worker.free_slots),
            load=worker.lanes if denoises else worker.capacity - len(worker.free_slots),
            share=share * live_here,
            reserving=live_here if share else 0,
            lane_share=share if live else 0.0,
        )
    return rooms


def retry_s(sessions: Mapping[SessionId, Session], geometry: Geometry) -> float:
    """When trying again may help: when the first of the live streams that have a length ends, 1 to 60 s."""
    rests = [
        (session.last_block + 1 - session.emitted) * geometry.block_s
        for session in sessions.values()
        if session.last_block is not None and session.is_live
    ]
    return round(min(max(min(rests, default=_RETRY_S), 1.0), 60.0), 1)
