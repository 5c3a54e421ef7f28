"""The waiting room: who gets a place when one becomes free.

Theory of operation. Parked sessions that want to go on are served first, in the order in which they asked: they were
admitted once and are never refused. Then come the FAST opens that found no room, in the order of their arrival. Nobody
overtakes, and a REALTIME open, which is never queued, is refused while a parked session waits. Whoever waits holds no
page, no slot and no rate; no admitted session is ever evicted for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice

from longtake.core.carry.forking import begin, parent_of
from longtake.core.carry.parking import Parking
from longtake.core.effects import Effect, Notice, PrepareStream
from longtake.core.errors import InternalFault, Lack, NoCapacity, Unavailable
from longtake.core.events import Open
from longtake.core.fleet.admission import Homes, admit, check_open, fits_at_all, retry_s, take_place, take_place_at
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions import cues
from longtake.core.sessions.session import Place, Session, State, Trigger, next_state
from longtake.core.work import SessionId, WorkerId

_TOLD = 8
"""So many at the front of the queue are told every change of their place; the others their first one."""


class WaitingRoom:
    """Sessions without a place that want one, and the taking of places."""

    def __init__(
        self,
        recipe: Recipe,
        geometry: Geometry,
        limits: Limits,
        sessions: Mapping[SessionId, Session],
        workers: Mapping[WorkerId, Worker],
        parking: Parking,
        fleet: Fleet,
    ) -> None:
        self._recipe = recipe
        self._geometry = geometry
        self._limits = limits
        self._sessions = sessions
        self._workers = workers
        self._parking = parking
        self._fleet = fleet
        self._returning: OrderedDict[SessionId, None] = OrderedDict()
        self._opening: OrderedDict[SessionId, int] = OrderedDict()
        """With the place in the queue that each was told last."""
        self._changed = False
        """Whether there may be room, or somebody new who wants it, since the last look."""

    def admit(self, request: Open) -> Place | None:
        """A place for a new session, or None if it is to be queued.

        NoCapacity, Unavailable or InvalidField if it can have neither.
        """
        check_open(request, self._recipe, self._geometry, self._limits)
        parent = parent_of(request, self._sessions)
        patient = request.pace is Pace.FAST and self._limits.max_queued > 0 and parent is None
        if self._opening and patient:
            self._check_queue()
            return None
        try:
            if self._returning:
                waiting = len(self._returning)
                raise self._no_room(f"{waiting} parked sessions wait for a place before any new one", Lack.TURN)
            opened = len(self._sessions) - len(self._opening)
            if opened >= self._limits.max_sessions:
                raise self._no_room(
                    f"{opened} sessions are open and the limit is {self._limits.max_sessions}", Lack.SESSIONS
                )
            if parent is not None:
                return self._beside(request, parent)
            return admit(
                request, self._recipe, self._geometry, self._limits, self._workers, self._sessions, self._fleet
            )
        except NoCapacity:
            if not patient or not fits_at_all(self._recipe, self._workers):
                raise
        self._check_queue()
        return None

    def _beside(self, request: Open, parent: Session) -> Place:
        """A place on the workers of `parent`, of which a fork shares the pages."""
        homes = Homes(lanes=parent.place.lanes, decoder=parent.place.decoder)
        try:
            return take_place_at(request, self._limits, self._workers, self._fleet, homes)
        except NoCapacity as refusal:
            raise self._no_room(f"a fork lies where the session does that it forks: {refusal}", refusal.lack) from None

    def _no_room(self, why: str, lack: Lack) -> NoCapacity:
        return NoCapacity(why, retry_s(self._sessions, self._geometry), lack)

    def _check_queue(self) -> None:
        if len(self._opening) >= self._limits.max_queued:
            waiting, most = len(self._opening), self._limits.max_queued
            raise self._no_room(f"{waiting} sessions are queued and the limit is {most}", Lack.QUEUE)

    def wait(self, session: SessionId) -> None:
        """A queued session waits from now on, behind all others."""
        self._opening[session] = 0
        self._changed = True

    def may_return(self, session: Session) -> None:
        """A parked session waits for a place if it would run, and else does not."""
        if not session.wants_place:
            self.leave(session.id)
        elif session.id not in self._returning:
            self._returning[session.id] = None
            self._changed = True

    def leave(self, session: SessionId) -> None:
        """It does not wait any more; harmless if it did not."""
        self._returning.pop(session, None)
        if self._opening.pop(session, None) is not None:
            self._changed = True

    def waits(self, session: SessionId) -> bool:
        """Whether it is one of those who wait."""
        return session in self._opening or session in self._returning

    def check(self) -> None:
        """State who must wait here, and who must not; InternalFault names the first that is wrong."""
        for session in self._sessions.values():
            waits = session.state is State.QUEUED or (session.state is State.PARKED and session.wants_place)
            if waits != self.waits(session.id):
                raise InternalFault(f"{session.id} is {session.state.value} and in the waiting room: {not waits}")

    def look_again(self) -> None:
        """Something has become free."""
        self._changed = True

    def tick(self) -> None:
        """Time has passed: ops may take less of it than before, so that a rate fits that did not."""
        self._changed = self._changed or bool(self._returning)

    def let_in(self) -> list[Effect]:
        """Give the places that have become free to those who wait for one."""
        effects: list[Effect] = []
        if not self._changed:
            return effects
        self._changed = False
        while (session := self._next()) is not None:
            parked = session.state is State.PARKED
            homes = self._parking.homes(session) if parked else None
            try:
                place = take_place(session.request, self._recipe, self._limits, self._workers, self._fleet, homes)
            except (NoCapacity, Unavailable):
                break
            self.leave(session.id)
            if parked:
                effects += self._parking.restore(session, place)
            else:
                session.state = next_state(session.state, Trigger.ADMIT)
                effects += self.settle(session, place)
        self._changed = False
        return effects + self._notices()

    def _next(self) -> Session | None:
        """Who gets the next place."""
        if self._returning:
            return self._sessions[next(iter(self._returning))]
        if self._opening and len(self._sessions) - len(self._opening) < self._limits.max_sessions:
            return self._sessions[next(iter(self._opening))]
        return None

    def settle(self, session: Session, place: Place) -> list[Effect]:
        """Begin a session at its place."""
        session.place = place
        parent = parent_of(session.request, self._sessions)
        if parent is not None:
            begin(session, parent)
            return list(cues.encode(session))
        settings = session.request.settings
        prepare = PrepareStream(worker=place.decoder, session=session.id, slot=place.slot, settings=settings)
        return [prepare, *cues.encode(session)]

    def _notices(self) -> list[Effect]:
        """What those who wait are to be told about their place in the queue."""
        told: list[Effect] = []
        for place, (session, before) in enumerate(islice(self._opening.items(), _TOLD), start=1):
            if place != before:
                self._opening[session] = place
                told.append(_notice(session, place))
        if self._opening:
            last, before = next(reversed(self._opening.items()))
            if not before:
                self._opening[last] = len(self._opening)
                told.append(_notice(last, len(self._opening)))
        return told


def _notice(session: SessionId, place: int) -> Notice:
    return Notice(session=session, text=f"queued at place {place}: the stream begins when there is room")
