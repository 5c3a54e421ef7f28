"""The waiting room: who gets a place when one becomes free.

Theory of operation. Parked sessions that want to go on are served first, in the order in which they asked: they were
admitted once and are never refused. Then come the FAST opens that found no room, in the order of their arrival. Nobody
overtakes, and a REALTIME open, which is never queued, is refused while a parked session waits, and while streams that
were let in are late (dispatch/lateness.py). Whoever waits holds no page, no slot and no rate; no admitted session is
ever evicted for it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from itertools import islice

from longtake.core.carry.forking import begin
from longtake.core.carry.parking import Parking
from longtake.core.cell import Cell
from longtake.core.dispatch.admission import first_end_s, fits_at_all, take_place, take_place_at
from longtake.core.dispatch.lateness import CALM_S
from longtake.core.effects import Effect, Notice, PrepareStream, Restored
from longtake.core.errors import InternalFault, Lack, NoCapacity, Unavailable
from longtake.core.flow import Pace
from longtake.core.scarcity import Scarcity, Shortage
from longtake.core.sessions import cues
from longtake.core.sessions.life import State, Trigger
from longtake.core.sessions.place import Classes, Homes, Place
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity, SessionId

_TOLD = 8
"""This many sessions at the front of the queue are told every change of their place; others only their first place."""


class WaitingRoom:
    """Holds the sessions that want a place and have none, and gives places out."""

    def __init__(self, cell: Cell, parking: Parking) -> None:
        self._cell = cell
        self.parking = parking
        self._returning: OrderedDict[SessionId, None] = OrderedDict()
        self._opening: OrderedDict[SessionId, int] = OrderedDict()
        """The sessions that are queued to open, each with the place in the queue that it was told last."""
        self._changed = False
        """Whether room may have become free, or somebody new wants it, since the last look."""

    def admit(self, session: Session, parent: Session | None, *, now_s: float) -> list[Effect]:
        """Take in a new session and begin it, or have it wait if it may; NoCapacity or Unavailable if it cannot be.

        It shares the pages of `parent`, if there is one.
        """
        before = session.classes
        place = self._place_now(session, parent, now_s=now_s)
        self._cell.sessions[session.id] = session
        if place is not None:
            self._cell.speak_for(session)
            return self._settle(session, place, parent, now_s=now_s) + _other_class(session, before)
        session.state = State.QUEUED
        self._opening[session.id] = 0
        self._changed = True
        return []

    def _place_now(self, session: Session, parent: Session | None, *, now_s: float) -> Place | None:
        """A place for a new session; None if it is to be queued, NoCapacity or Unavailable if it can have neither."""
        request = session.request
        patient = request.pace is Pace.FAST and self._cell.limits.max_queued > 0 and request.fork is None
        if self._opening and patient:
            self._check_queue(session)
            return None
        try:
            self._check_turn(session)
            return self._place(session, parent, now_s=now_s)
        except NoCapacity:
            if not patient or not fits_at_all(self._cell, session):
                raise
        self._check_queue(session)
        return None

    def _check_turn(self, session: Session) -> None:
        """NoCapacity if this session may not come in now."""
        if self._returning:
            waiting = len(self._returning)
            ahead = "a parked session gets its" if waiting == 1 else f"{waiting} parked sessions get their"
            raise self._no_room(session, f"{ahead} place back before a new one is let in", Lack.TURN)
        self.check_room(session)

    def check_room(self, session: Session) -> None:
        """NoCapacity if there are as many sessions as are allowed, the journal has no room for this one, or it would
        reserve time and others that did are late."""
        opened, most = len(self._cell.sessions) - len(self._opening), self._cell.limits.max_sessions
        if opened >= most:
            why = f"{opened} are open, as many as may be (limits.max_sessions)"
            shortage = Shortage(of="cell", unit="sessions", needed=1, free=0, limit=most)
            raise self._no_room(session, why, Lack.SESSIONS, shortage)
        own_bytes, most_bytes = self._cell.fleet.journal_bytes(session), self._cell.limits.journal_bytes
        left_bytes = max(0, most_bytes - self._cell.journal_bytes)
        if own_bytes > left_bytes:
            why = (
                f"the journal has {_megabytes(left_bytes)} of {_megabytes(most_bytes)} free (limits.journal_bytes), "
                f"one takes {_megabytes(own_bytes)}"
            )
            shortage = Shortage(of="cell", unit="bytes", needed=own_bytes, free=left_bytes, limit=most_bytes)
            raise self._no_room(session, why, Lack.JOURNAL, shortage, ever=own_bytes <= most_bytes)
        if session.is_realtime and self._cell.load_limit.late:
            raise self._late(session)

    def _late(self, session: Session) -> NoCapacity:
        """What a session is told that would reserve time while others that did are late."""
        cell = self._cell
        late, limit = cell.load_limit.late, cell.limit.least
        live = sum(other.flow.playing_since_s is not None for other in cell.sessions.values())
        why = f"{late} of {max(late, live)} {'is' if late == 1 else 'are'} late"  # as of the last tick
        if limit is None:
            return self._no_room(session, why, Lack.TIME, retry_s=CALM_S)
        needed = cell.fleet.share(session, limit.role)
        shortage = Shortage(of=limit.name, unit="share of time", needed=needed, free=0.0, limit=cell.load_limit.share)
        return self._no_room(session, f"{why}, limited by {limit.name}", Lack.TIME, shortage, retry_s=CALM_S)

    def _place(self, session: Session, parent: Session | None, *, now_s: float) -> Place:
        """A place; that of a session which shares its parent's pages is on its parent's workers."""
        limit = self._cell.load_limit
        try:
            if parent is None:
                return take_place(self._cell, session, now_s=now_s, limit=limit.share)
            homes = Homes(lanes=parent.place.lanes, decoder=parent.place.decoder)
            return take_place_at(self._cell, session, homes, limit=limit.share)
        except NoCapacity as refusal:
            ever = fits_at_all(self._cell, session)
            where = "" if parent is None else f", and a fork lies where {parent.id} does"
            lacks, lack, retry_s = refusal.shortage, refusal.lack, None
            if lack is Lack.TIME and lacks is not None and limit.is_lowered:
                where += f"; {100 * limit.share:.0f} % may be reserved, and more while all streams are on time"
                retry_s = limit.wait_s(self._cell.reserved(lacks.of) + lacks.needed - limit.share)
            raise self._no_room(session, f"{refusal}{where}", lack, lacks, ever=ever, retry_s=retry_s) from None

    def _no_room(
        self,
        session: Session,
        why: str,
        lack: Lack,
        shortage: Shortage | None = None,
        *,
        ever: bool = True,
        retry_s: float | None = None,
    ) -> NoCapacity:
        """What the client of a new session is told; `ever`: whether there would be room if others ended, or after
        `retry_s`, if that is known."""
        realtime = session.is_realtime
        waits = len(self._opening) < self._cell.limits.max_queued and session.request.fork is None
        what = f"{'live ' if realtime else ''}stream{'' if ever else ', even if it were alone'}"
        scarcity = Scarcity(
            retry_after_s=(retry_s or first_end_s(self._cell.sessions.values())) if ever else None,
            shortage=shortage,
            fast_instead=realtime and (lack is Lack.TIME or (ever and waits)),
        )
        return NoCapacity(f"No room for another {what}: {why}", scarcity, lack)

    def _check_queue(self, session: Session) -> None:
        if len(self._opening) >= self._cell.limits.max_queued:
            waiting, most = len(self._opening), self._cell.limits.max_queued
            why = f"{waiting} wait for a place, as many as may (limits.max_queued)"
            shortage = Shortage(of="cell", unit="queued sessions", needed=1, free=0, limit=most)
            raise self._no_room(session, why, Lack.QUEUE, shortage)

    def may_return(self, session: Session) -> None:
        """Let a parked session wait for a place if it would run, and not wait otherwise."""
        if not session.wants_place:
            self.leave(session.id)
        elif session.id not in self._returning:
            self._returning[session.id] = None
            self._changed = True

    def leave(self, session: SessionId) -> None:
        """Let the session wait no longer; harmless if it did not wait."""
        self._returning.pop(session, None)
        if self._opening.pop(session, None) is not None:
            self._changed = True

    def waits(self, session: SessionId) -> bool:
        """Whether the session is one of those that wait."""
        return session in self._opening or session in self._returning

    def check(self) -> None:
        """State who must wait here, and who must not; InternalFault names the first that is wrong."""
        for session in self._cell.sessions.values():
            waits = session.state is State.QUEUED or (session.state is State.PARKED and session.wants_place)
            if waits != self.waits(session.id):
                raise InternalFault(f"{session.id} is {session.state.value} and in the waiting room: {not waits}")

    def look_again(self) -> None:
        """Note that something has become free."""
        self._changed = True

    def tick(self) -> None:
        """Note that time has passed: ops may take less time than before, so a rate may fit that did not."""
        self._changed = self._changed or bool(self._returning)

    def let_in(self, *, now_s: float) -> list[Effect]:
        """Give the places that have become free to the sessions that wait for one."""
        effects: list[Effect] = []
        if not self._changed:
            return effects
        self._changed = False
        while (session := self._next()) is not None:
            parked, before = session.state is State.PARKED, session.classes
            homes = self.parking.homes(session) if parked else None
            try:
                place = take_place(self._cell, session, homes, now_s=now_s)
            except (NoCapacity, Unavailable):
                break
            self.leave(session.id)
            if parked:
                effects.append(Restored(session=session.id))
                effects += self.parking.restore(session, place, now_s=now_s) + _other_class(session, before)
            else:
                session.follow(Trigger.ADMIT)
                self._cell.speak_for(session)
                effects += self._settle(session, place, now_s=now_s)
        self._changed = False
        return effects + self._notices()

    def _next(self) -> Session | None:
        """The session that gets the next place."""
        if self._returning:
            return self._cell.sessions[next(iter(self._returning))]
        if self._opening:
            first = self._cell.sessions[next(iter(self._opening))]
            with contextlib.suppress(NoCapacity):
                self._check_turn(first)
                return first
        return None

    def _settle(self, session: Session, place: Place, parent: Session | None = None, *, now_s: float) -> list[Effect]:
        """Begin a session at its place."""
        if session.state is State.PARKED:  # it has the past of another session, and nothing of it but in the journal
            self.parking.adopt(session)
            return self.parking.restore(session, place, now_s=now_s)
        session.place = place
        effects: list[Effect] = []
        if parent is not None:
            begin(session, parent)
        else:
            settings = session.request.settings
            order = PrepareStream(worker=place.decoder, session=session.id, slot=place.slot, settings=settings)
            effects = [order]
            self._cell.encode(session)
        decoder = self._cell.workers[place.decoder]
        return [*effects, *self._cell.texts.ask(cues.unknown(session), decoder, now_s=now_s)]

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


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _notice(session: SessionId, place: int) -> Notice:
    return Notice(session=session, text=f"queued at place {place}: the stream begins when there is room")


def _other_class(session: Session, before: Classes) -> list[Effect]:
    """What a session is told that went to another class, because no worker of its own is left."""
    now = session.classes
    if before.lanes in (None, now.lanes) and before.decoder in (None, now.decoder):
        return []
    session.continuity = Continuity.APPROXIMATE
    text = "its workers were replaced by ones that round otherwise: from here on pictures are alike, not the same"
    return [Notice(session=session.id, text=text)]
