"""Asking: what a client wants of its open session, and what workers answer that were asked for it."""

from __future__ import annotations

from longtake.core.adoption import Diverged, Freeze, HandOver, HandOverRefused, Thaw
from longtake.core.cell import Cell
from longtake.core.dispatch.attendance import Attendance
from longtake.core.dispatch.handing import HandingOver
from longtake.core.dispatch.leaving import Leaving
from longtake.core.dispatch.offering import Offers
from longtake.core.dispatch.opening import open_if_ready
from longtake.core.effects import Effect, Recovered, Refused, RequestRefused
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, LongtakeError
from longtake.core.events import (
    Ack,
    Attach,
    CallRefused,
    Close,
    Cue,
    Detach,
    FrameRefused,
    OpenRefused,
    Pause,
    PicturesEncoded,
    Play,
    StreamPrepared,
    TextEncoded,
)
from longtake.core.openings import AttachRefused
from longtake.core.sessions import cues
from longtake.core.sessions.life import Trigger
from longtake.core.sessions.session import Session
from longtake.core.work import Continuity, SessionId

Moving = Freeze | Thaw | HandOver
Preparation = TextEncoded | StreamPrepared | PicturesEncoded
SessionEvent = Cue | Preparation | Ack | Pause | Play | Detach | Attach | Diverged | Close | Moving


def session_of(event: SessionEvent) -> SessionId:
    """The session that the event is about."""
    return event.conditioning.session if isinstance(event, TextEncoded) else event.session


def refused(event: SessionEvent, error: LongtakeError) -> RequestRefused | AttachRefused | HandOverRefused:
    """The answer to a request that cannot be met."""
    if isinstance(event, Moving):
        return HandOverRefused(session=event.session, problem=error.problem)
    if isinstance(event, Attach):
        return AttachRefused(session=event.session, connection=event.connection, problem=error.problem)
    cue = event.request.cue if isinstance(event, Cue) else None
    return RequestRefused(session=session_of(event), cue=cue, problem=error.problem)


def unknown(event: SessionEvent, why: LongtakeError) -> list[Effect]:
    """The answer to whoever wants something of a session that is not open (any more)."""
    if isinstance(event, Cue | Pause | Play | Attach | Moving):  # an acknowledgement may cross the end of its session
        return [refused(event, why)]
    return []


def told(event: CallRefused | OpenRefused | FrameRefused) -> list[Effect]:
    """What follows from a refusal of the front end: only a frame that was refused there is answered here."""
    if isinstance(event, FrameRefused):
        return [RequestRefused(session=event.session, cue=event.cue, problem=event.problem)]
    return []


class Asking:
    """Applies such events to their sessions."""

    def __init__(self, cell: Cell, offers: Offers, leaving: Leaving) -> None:
        self._cell = cell
        self._offers = offers
        self._leaving = leaving
        self.attendance = Attendance(cell, offers, leaving)
        self.handing = HandingOver(cell, leaving)

    def apply(self, session: Session, event: SessionEvent, *, now_s: float) -> list[Effect]:
        """Apply the event and return what follows at once; LongtakeError if it cannot be applied."""
        match event:
            case Ack():
                session.flow = session.flow.acknowledge(event.segment, emitted=session.emitted)
            case Cue():
                return self._cue(session, event, now_s)
            case TextEncoded() | StreamPrepared() | PicturesEncoded():
                return self._answered(session, event, now_s)
            case Pause():
                session.follow(Trigger.PAUSE)
                session.playing = False
                session.flow = session.flow.stopped()
                self._offers.withdraw(session)
            case Play():
                session.follow(Trigger.PLAY)
                session.playing = True
                session.start_clock(now_s=now_s)
            case Detach():
                return self.attendance.detach(session, event, now_s=now_s)
            case Attach():
                return self.attendance.attach(session, event, now_s=now_s)
            case Diverged():
                return _diverged(event)
            case Freeze() | Thaw() | HandOver():
                return self.handing.apply(session, event, now_s=now_s)
            case Close():
                return self._leaving.end(session, event.ending, event.reason)
        return []

    def tick(self, *, now_s: float) -> list[Effect]:
        """What follows from time alone, for who is away and for what was to be handed over."""
        return [*self.attendance.tick(now_s=now_s), *self.handing.tick(now_s=now_s)]

    def _cue(self, session: Session, event: Cue, now_s: float) -> list[Effect]:
        answer = cues.repeated(session, event.request)
        if answer is not None:
            return answer
        wanted = cues.ask(session, event.request, self._cell.limits)
        if not wanted:
            return []
        decoder = self._cell.workers[session.place.decoder]
        return [*self._cell.texts.ask(wanted, decoder, now_s=now_s)]

    def _answered(self, session: Session, event: Preparation, now_s: float) -> list[Effect]:
        """A worker has done what a stream waits for that is to begin, or (a text) a cue."""
        effects: list[Effect] = []
        match event:
            case TextEncoded():
                self._cell.texts.encoded(event.conditioning)
                effects = cues.text_encoded(session, event)
            case StreamPrepared():
                session.header, session.media_type = event.header, event.media_type
            case PicturesEncoded() if event.unfit:
                field = "open.given" if event.part < session.request.given_frames else "open.references"
                allowed = f"pictures that can be decoded ({event.unfit})"
                refusal = Refused(session=session.id, problem=InvalidField(field, "(not shown)", allowed).problem)
                return [refusal, *self._leaving.end(session, Ending.FAILED, event.unfit)]
        return [*effects, *open_if_ready(session, virtual_clock=self._offers.virtual_clock, now_s=now_s)]


def _diverged(event: Diverged) -> list[Effect]:
    """Tell the client that its stream is another one from some block on."""
    return [Recovered(session=event.session, continuity=Continuity.RESTARTED, from_block=event.block, seconds=0.0)]
