"""Admission: what an Open may ask for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.flow import Flow
from longtake.core.geometry import Geometry
from longtake.core.placement import Room, place_lanes, place_slot
from longtake.core.recipe import Recipe
from longtake.core.session import Place
from longtake.core.work import Role, WorkerId
from longtake.core.workers import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = 64
    default_window: int = 4
    max_window: int = 32
    max_pending_cues: int = 64

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)


def admit(
    request: Open,
    recipe: Recipe,
    geometry: Geometry,
    limits: Limits,
    workers: Mapping[WorkerId, Worker],
    open_count: int,
) -> Place:
    """Take pages and a decoder slot for the session; InvalidField, NoCapacity or Unavailable if it cannot be."""
    _check(request, recipe, geometry, limits)
    if open_count >= limits.max_sessions:
        raise NoCapacity(f"{open_count} sessions are open and the limit is {limits.max_sessions}", 1.0)
    denoisers = {worker.id: worker for worker in workers.values() if worker.role is Role.DENOISE}
    decoders = {worker.id: worker for worker in workers.values() if worker.role is Role.DECODE}
    if not denoisers or not decoders:
        missing = "denoise" if not denoisers else "decode"
        raise Unavailable(f"no {missing} worker is up yet")
    rooms = {worker.id: Room(lanes=worker.lane_room, load=worker.lanes) for worker in denoisers.values()}
    lanes = place_lanes(recipe.lane_count, rooms)
    decoder = place_slot({worker.id: worker.free_slots for worker in decoders.values()})
    tables = []
    for worker in lanes:
        tables.append(denoisers[worker].pool.allocate(recipe.page_count))
        denoisers[worker].lanes += 1
    return Place(lanes=lanes, tables=tuple(tables), decoder=decoder, slot=decoders[decoder].free_slots.pop())


def _check(request: Open, recipe: Recipe, geometry: Geometry, limits: Limits) -> None:
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
