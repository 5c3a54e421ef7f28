"""The way down: until when open sessions go on once the server drains, and which of them end now.

Theory of operation. From the first Drain on nothing is opened. Sessions that wait in the queue would begin only to be
ended, so they end at once. The others go on, with their blocks, cues and pauses, until the deadline: then no further
block begins, those begun are delivered. A later Drain may bring the deadline forward, never put it off: whoever waits
for the server's end relies on it. The server stays until then for clients that were away when their sessions were
handed over: it alone can tell them where those are.

Where streams are kept on disk they need not end: at the deadline they stop where they are. All that they follow from
has been on disk all along, and the next server goes on with them when their clients come back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from longtake.core.effects import Effect, Notice
from longtake.core.endings import AtDeadline
from longtake.core.errors import ShuttingDown
from longtake.core.events import Drain
from longtake.core.sessions.life import State, Trigger
from longtake.core.sessions.session import Session
from longtake.core.work import SessionId

REASON = str(ShuttingDown())
KEPT = f"{REASON}; the stream is kept, and goes on with its resume_token when the server is back"
_GONE = (State.CLOSING, State.CLOSED)


class Draining:
    """Whether the cell drains, and until when."""

    def __init__(self, sessions: Mapping[SessionId, Session]) -> None:
        self._sessions = sessions
        self.deadline_s = math.inf
        """When open sessions are to end, on the engine's clock; infinity: the cell does not drain."""
        self.began_s = math.inf
        """When the first Drain came."""
        self.keeps_streams = True
        """Whether streams that are open at the deadline go on with the next server."""
        self._is_over = False
        self._awaited: set[SessionId] = set()
        """Sessions that went to another server while their clients were away, who have not come back since."""

    @property
    def has_begun(self) -> bool:
        """Whether nothing is opened any more."""
        return self.deadline_s < math.inf

    @property
    def is_done(self) -> bool:
        """Whether the cell drains and nobody has anything to expect of it any more; asked for every event."""
        return self.has_begun and not self._sessions and (self._is_over or not self._awaited)

    def went(self, session: Session) -> None:
        """A session was handed over to another server."""
        if session.presence.is_away:
            self._awaited.add(session.id)

    def came(self, session: SessionId) -> None:
        """A client has come for a session that is not here, and is told where it is."""
        self._awaited.discard(session)

    @property
    def has_kept(self) -> bool:
        """Whether streams that are not here any more may be on disk, for the next server."""
        return self._is_over and self.keeps_streams

    def check_open(self) -> None:
        """ShuttingDown if nothing is opened any more."""
        if self.has_begun:
            raise ShuttingDown

    def begin(self, event: Drain, *, now_s: float) -> list[Effect]:
        """Drain by `event`, if that is sooner than before; tells those whose end it sets."""
        self.keeps_streams = self.keeps_streams and event.streams is AtDeadline.KEEP
        self.began_s = min(self.began_s, now_s)
        deadline_s = now_s + max(event.grace_s, 0.0)
        if deadline_s >= self.deadline_s:
            return []
        self.deadline_s = deadline_s
        if deadline_s <= now_s:
            return []
        what = "stops, until the server is back," if self.keeps_streams else "ends"
        text = f"{REASON}: this stream {what} in {deadline_s - now_s:.0f} s"
        staying = [session for session in self._sessions.values() if session.state not in (*_GONE, State.QUEUED)]
        return [Notice(session=session.id, text=text) for session in staying]

    def leaving(self, *, now_s: float) -> list[Session]:
        """The sessions that have to end now; each is named once."""
        if self._is_over or not self.has_begun:
            return []
        self._is_over = now_s >= self.deadline_s
        return [
            session
            for session in self._sessions.values()
            if session.state not in _GONE and (self._is_over or session.state is State.QUEUED)
        ]


def finish(session: Session) -> None:
    """Begin no further block of a session that generates: it ends with the segment of the last one begun."""
    session.follow(Trigger.DRAIN)
    session.progress.last_block = session.next_block - 1
