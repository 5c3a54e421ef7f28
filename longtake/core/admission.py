"""Admission: what an Open may ask for, and the place it gets or the reason it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.fleet import Fleet
from longtake.core.flow import Flow, Pace
from longtake.core.geometry import Geometry
from longtake.core.recipe import Recipe
from longtake.core.session import Place, Session
from longtake.core.work import Role, SessionId, WorkerId
from longtake.core.workers import Worker

_RETRY_S = 5.0
"""Retry delay when nobody can say which stream ends first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may have."""

    max_sessions: int = 64
    default_window: int = 4
    max_window: int = 32
    max_pending_cues: int = 64
    load_limit: float = 0.95
    """Share of every worker's time that REALTIME sessions may reserve; above it nobody would be on time."""

    fused_passes: bool = False
    """Whether every lane has a spare block of pages, so that a commit and the next denoise op can be one pass."""

    def spare_pages(self, recipe: Recipe) -> int:
        """Pages that a lane has beside its window."""
        return recipe.frames_per_block if self.fused_passes else 0

    def flow_for(self, request: Open) -> Flow:
        """The flow of a fresh session."""
        return Flow(window=request.window, pace=request.pace)


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
    _check(request, recipe, geometry, limits)
    if len(sessions) >= limits.max_sessions:
        raise NoCapacity(
            f"{len(sessions)} sessions are open and the limit is {limits.max_sessions}", _retry_s(sessions, geometry)
        )
    denoisers, decoders = fleet.ranking(Role.DENOISE), fleet.ranking(Role.DECODE)
    if not len(denoisers) or not len(decoders):
        missing = "decode" if len(denoisers) else "denoise"
        raise Unavailable(f"no {missing} worker is up yet")
    live = request.pace is Pace.REALTIME
    try:
        lanes = denoisers.place(recipe.lane_count, live=live, limit=limits.load_limit)
        (decoder,) = decoders.place(1, live=live, limit=limits.load_limit, what="decoder slots")
    except NoCapacity as refusal:
        raise NoCapacity(str(refusal), _retry_s(sessions, geometry)) from None
    tables = tuple(workers[worker].new_table() for worker in lanes)
    for worker in lanes:
        workers[worker].count_lane(live=live)
    workers[decoder].live_slots += live
    return Place(lanes=lanes, tables=tables, decoder=decoder, slot=workers[decoder].free_slots.pop())


def _retry_s(sessions: Mapping[SessionId, Session], geometry: Geometry) -> float:
    """When trying again may help: when the first of the live streams that have a length ends, 1 to 60 s."""
    rests = [
        (session.last_block + 1 - session.emitted) * geometry.block_s
        for session in sessions.values()
        if session.last_block is not None and session.is_live
    ]
    return round(min(max(min(rests, default=_RETRY_S), 1.0), 60.0), 1)


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
