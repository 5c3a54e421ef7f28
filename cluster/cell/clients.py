"""The clients of a cell: which call has which session, who watches it, and what is told again after a broken call.

Theory of operation. One call has a session at a time. Another one arrives, is taken in by the core (Resumed) and has
the session from then on, beginning with what its client has not consumed; the one before is told that it has lost it.
A session that has ended is remembered for a while, for a client whose call broke just then. Where one has gone is
remembered as long as the server lives.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count

from cluster.cell.backlog import Backlog
from cluster.cell.outbox import ClientMessage, Moved, MovedAway, Outbox
from longtake.core.effects import Closed, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Fault, SegmentGone
from longtake.core.openings import AttachRefused, Opened, Resumed
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, SessionId

REMEMBERED_S = 600.0
"""For so long a session that has ended is remembered for its client."""
MOST_ENDED = 512
"""So many sessions that have ended are remembered; then the oldest are forgotten."""
MOST_MOVED = 10_000
"""Of so many sessions it is remembered where they have gone; then the oldest are forgotten."""
ClientEffect = Opened | Resumed | AttachRefused | Refused | Closed
"""Effects that begin, continue or end what a client is told."""
ENDED_BYTES = 16 << 20
"""The same for their segments, together."""


@dataclass(frozen=True, slots=True)
class _Attached:
    """The call that has a session."""

    connection: ConnectionNumber
    outbox: Outbox


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A call that is to have a session, once the core has heard of it."""

    outbox: Outbox
    cursor: int | None


class Clients:
    """Passes on what the engine tells. It never waits."""

    def __init__(self) -> None:
        self._attached: dict[SessionId, _Attached] = {}
        self._arrivals: dict[ConnectionNumber, _Arrival] = {}
        self._numbers = count(FIRST_CONNECTION + 1)
        self._watchers: dict[SessionId, list[Outbox]] = {}
        self._backlogs: dict[SessionId, Backlog] = {}
        """Of every session that is open or remembered."""
        self._ended: OrderedDict[SessionId, float] = OrderedDict()
        """The sessions that are only remembered, with the time until which they are."""
        self._ended_bytes = 0
        self._leads: dict[SessionId, MovedAway] = {}
        """Where sessions are about to go, or have gone without their clients having been told: the disk comes first."""
        self._moved: dict[SessionId, MovedAway] = {}
        """Where sessions have gone, the oldest first."""

    # --- calls ------------------------------------------------------------------------------------------------------

    def attach(self, session: SessionId, outbox: Outbox) -> None:
        """The call that opens a session is to be told what concerns it, from before its Open."""
        self._attached[session] = _Attached(FIRST_CONNECTION, outbox)

    def arrive(self, cursor: int | None, outbox: Outbox) -> ConnectionNumber:
        """A call is about to go on with a session; returns its number, by which the core will speak of it."""
        number = ConnectionNumber(next(self._numbers))
        self._arrivals[number] = _Arrival(outbox, cursor)
        return number

    def is_elsewhere(self, session: SessionId, connection: ConnectionNumber) -> bool:
        """Whether a later call than this one has the session."""
        attached = self._attached.get(session)
        return attached is not None and attached.connection > connection

    def watch(self, session: SessionId, outbox: Outbox) -> None:
        """Tell an observer what the client is told, too; first of all Opened if it is open already."""
        self._watchers.setdefault(session, []).append(outbox)
        if session in self._backlogs:
            outbox.offer(self._backlogs[session].opened_now())

    def unwatch(self, session: SessionId, outbox: Outbox) -> None:
        """Stop the observation; harmless if the session has ended."""
        watchers = self._watchers.get(session, [])
        if outbox in watchers:
            watchers.remove(outbox)
        if not watchers:
            self._watchers.pop(session, None)

    def leads(self, to: MovedAway) -> None:
        """If the session ends because it has moved, this is where its client is to go on, and by what."""
        self._leads[to.session] = to

    def leads_no_more(self, session: SessionId) -> None:
        """It does not move."""
        self._leads.pop(session, None)

    # --- what they are told -----------------------------------------------------------------------------------------

    def held_from(self, session: SessionId) -> int | None:
        """From which segment on everything is here that the session's client was told; None if nothing is."""
        backlog = self._backlogs.get(session)
        return None if backlog is None else backlog.held_from

    def perform(self, effect: ClientEffect, now_s: float) -> ConnectionNumber | None:
        """Begin, continue or end what is told of a session; returns the call that has lost it: it reads too slowly."""
        match effect:
            case Opened():
                self._backlogs[effect.session] = Backlog(effect)
                return self.tell(effect.session, effect)
            case Resumed():
                return self._resumed(effect)
            case AttachRefused():
                self._refused(effect)
            case Refused() | Closed():
                if isinstance(effect, Closed) and effect.ending is Ending.MOVED:
                    self._moves(effect.session)
                self.tell(effect.session, effect)
                self._release(effect, now_s)
        return None

    def _moves(self, session: SessionId) -> None:
        """Say where the session goes on, now and to whoever comes back for it."""
        if session in self._leads:
            self._moved[session] = self._leads.pop(session)
            self.tell(session, self._moved[session])
            if len(self._moved) > MOST_MOVED:
                del self._moved[next(iter(self._moved))]

    def tell(self, session: SessionId, message: ClientMessage) -> ConnectionNumber | None:
        """Tell all who listen; returns the call that has lost the session because it reads too slowly."""
        for watcher in self._watchers.get(session, ()):
            watcher.offer(message)
        if session in self._backlogs and session not in self._ended and not isinstance(message, Opened):
            self._backlogs[session].add(message)
        return self._offer(session, message)

    def _offer(self, session: SessionId, *messages: ClientMessage) -> ConnectionNumber | None:
        attached = self._attached.get(session)
        if attached is None or all([attached.outbox.offer(message) for message in messages]):
            return None
        del self._attached[session]
        return attached.connection

    def acknowledged(self, session: SessionId, segment: int) -> None:
        """What was told up to this segment has arrived."""
        backlog = self._backlogs.get(session)
        if backlog is None:
            return
        before_bytes = backlog.size_bytes
        backlog.acknowledge(segment)
        if session in self._ended:
            self._ended_bytes -= before_bytes - backlog.size_bytes

    def _resumed(self, effect: Resumed) -> ConnectionNumber | None:
        """The session goes on with an arrived call; returns that call if it has lost the session again at once."""
        session = effect.session
        backlog = self._backlogs.setdefault(session, Backlog(effect.opened))
        before = self._attached.pop(session, None)
        if before is not None:
            before.outbox.offer(Moved(session=session, segments=backlog.segments))
        arrival = self._arrivals.pop(effect.connection)
        self._attached[session] = _Attached(effect.connection, arrival.outbox)
        segment = effect.opened.segment
        if not effect.held:
            backlog.restart(segment)
        return self._offer(session, effect.opened, *backlog.since(segment))

    def _refused(self, effect: AttachRefused) -> None:
        """The session does not go on with an arrived call; if it has ended, that call is told what it has missed."""
        arrival = self._arrivals.pop(effect.connection)
        problem = effect.problem
        moved = self._moved.get(effect.session)
        if moved is None and problem.kind is Fault.UNKNOWN_SESSION:
            moved = self._leads.get(effect.session)
        if moved is not None:
            arrival.outbox.offer(moved)
            arrival.outbox.offer(Closed(session=effect.session, ending=Ending.MOVED, reason="", segments=0))
            return
        if effect.session in self._ended:
            backlog = self._backlogs[effect.session]
            segment = backlog.opened.segment if arrival.cursor is None else arrival.cursor + 1
            if backlog.held_from <= segment <= backlog.next_segment:
                for message in (backlog.opened_at(segment), *backlog.since(segment)):
                    arrival.outbox.offer(message)
                return
            problem = SegmentGone(arrival.cursor, backlog.held_from).problem
        arrival.outbox.offer(Refused(session=effect.session, problem=problem))

    # --- ends -------------------------------------------------------------------------------------------------------

    def _release(self, effect: Refused | Closed, now_s: float) -> None:
        """The session has ended, or was refused: nobody is told anything more of it."""
        session = effect.session
        self._attached.pop(session, None)
        self._watchers.pop(session, None)
        backlog = self._backlogs.get(session)
        kept = isinstance(effect, Closed) and effect.ending is Ending.KEPT
        if kept or session in self._moved:  # it goes on elsewhere
            self._backlogs.pop(session, None)
        elif backlog is not None:
            self._ended[session] = now_s + REMEMBERED_S
            self._ended_bytes += backlog.size_bytes
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        """Forget the sessions that ended long ago, or that are too many."""
        while self._ended:
            session, until_s = next(iter(self._ended.items()))
            if now_s < until_s and self._ended_bytes <= ENDED_BYTES and len(self._ended) <= MOST_ENDED:
                return
            del self._ended[session]
            self._ended_bytes -= self._backlogs.pop(session).size_bytes

    @property
    def watchers(self) -> int:
        """The number of observers of all sessions."""
        return sum(map(len, self._watchers.values()))

    @property
    def backlog_bytes(self) -> int:
        """Bytes of segments that are kept for clients that may ask for them again."""
        return sum(backlog.size_bytes for backlog in self._backlogs.values())
