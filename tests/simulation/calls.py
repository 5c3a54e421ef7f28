"""Calls: how clients reach a server, as its front end takes them in; a client may need several for one stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.cell.journal import NOTHING_GIVEN, GivenPictures
from cluster.cell.outbox import ClientMessage, Outbox
from cluster.cell.ownership import hash_of_token
from longtake.core.effects import CueAccepted
from longtake.core.endings import Ending
from longtake.core.errors import LongtakeError, Problem
from longtake.core.events import Close, Cue, CueRequest, Detach, Event, FrameRefused, Open
from longtake.core.openings import Opened
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, CueId, SessionId
from tests.simulation.agenda import Agenda
from tests.simulation.disks import Promised
from tests.simulation.links import Pipe
from tests.simulation.server import Server

TENANT = "somebody"


class Violation(AssertionError):
    """Something that must not be."""


class Told(Outbox):
    """The outbox of one call: what a client is told must be on disk when the engine says it."""

    def __init__(self, promised: Callable[[SessionId], Promised | None]) -> None:
        super().__init__()
        self.token = b""
        """What resumes the stream; it goes out with Opened."""
        self._promised = promised
        """What the disk has said to hold of a session; None if there is no disk."""
        self._accepted: set[CueId | None] = set()

    def offer(self, message: ClientMessage) -> bool:
        """Append a message."""
        if isinstance(message, Opened | CueAccepted):
            promised = self._promised(message.session)
            if promised is not None and not self._is_kept(message, promised):
                raise Violation(f"{message} is told, and the disk holds {promised}")
        return super().offer(message)

    def _is_kept(self, message: Opened | CueAccepted, promised: Promised) -> bool:
        if isinstance(message, Opened):
            return hash_of_token(self.token).hex() in promised.tokens
        self._accepted.add(message.cue)
        by = promised.cue_at(message.block)  # another one may have taken its block at once, before it was written
        return message.cue in {cue.cue for cue in promised.cues} or (by is not None and by.cue not in self._accepted)

    def take(self) -> ClientMessage:
        """The oldest message; there must be one, so there is nothing to wait for."""
        try:
            self.get().send(None)
        except StopIteration as done:
            message: ClientMessage = done.value
            return message
        raise Violation("an outbox that holds messages lets its reader wait")


class Cell(Protocol):
    """What calls share."""

    agenda: Agenda

    @property
    def server(self) -> Server:
        """The server that is up, or was the last to be."""
        ...

    def promised(self, session: SessionId) -> Promised | None:
        """What the disk has said to hold of a session; None if there is no disk."""
        ...

    def delay_s(self) -> float:
        """How long a message to or from a client is on its way."""
        ...

    def settle(self) -> None:
        """Let the engine handle what has come."""
        ...


class Call:
    """One call, from its first frame to its break or the end of the stream."""

    def __init__(
        self, cell: Cell, session: SessionId, hear: Callable[[ClientMessage], None], refused: Callable[[Problem], None]
    ) -> None:
        """`refused` hears why the first frame begins nothing."""
        self._cell = cell
        self._server = cell.server
        self._refused = refused
        self.session = session
        self._number: ConnectionNumber | None = None
        self.is_broken = False
        """Whether its client has noticed that it is."""
        self.outbox = Told(cell.promised)
        self._up: Pipe[Callable[[], None]] = Pipe(cell.agenda, self._arrive, cell.delay_s)
        self._down: Pipe[ClientMessage | Problem] = Pipe(cell.agenda, self._come, cell.delay_s)
        self._hear = hear

    # --- the client's end -------------------------------------------------------------------------------------------

    def open(self, make: Callable[[float], Open], given: GivenPictures = NOTHING_GIVEN) -> None:
        """Ask for a stream, which begins with these pictures."""
        self._up.send(lambda: self._first(lambda: self._open(make, given)))

    def resume(self, token: bytes, cursor: int | None) -> None:
        """Ask to go on with it."""
        self._up.send(lambda: self._first(lambda: self._resume(token, cursor)))

    def send(self, make: Callable[..., Event]) -> None:
        """Send what becomes an event when it arrives: that is when its time is known."""
        self._up.send(lambda: self._submit(make))

    def cue(self, request: CueRequest) -> None:
        """Ask for another prompt."""
        self._up.send(lambda: self._cue(request))

    def cut(self, kept: int = 0) -> None:
        """The call breaks: of what is on its way to the client only so many messages arrive, and nothing else."""
        self.is_broken = True
        self._up.cut()
        self._down.cut(kept=kept)

    @property
    def on_their_way(self) -> int:
        """Messages to the client."""
        return len(self._down)

    # --- the server's end -------------------------------------------------------------------------------------------

    def _arrive(self, frame: Callable[[], None]) -> None:
        if self._server.is_up:
            frame()
            self._cell.settle()

    def _first(self, begin: Callable[[], None]) -> None:
        try:
            begin()
        except LongtakeError as error:
            self._down.send(error.problem)

    def _open(self, make: Callable[[float], Open], given: GivenPictures) -> None:
        engine = self._server.engine
        engine.keeping.check()
        self.outbox.token = self._server.owners.add(self.session, TENANT)
        engine.attach(self.session, self.outbox)
        engine.journal.give(self.session, given)
        engine.submit(make(engine.now_s()))
        self._number = FIRST_CONNECTION

    def _resume(self, token: bytes, cursor: int | None) -> None:
        engine = self._server.engine
        engine.keeping.check_adopted()
        session, self.outbox.token = self._server.owners.resume(token, TENANT, cursor)
        if session != self.session:
            raise Violation(f"the token of {self.session} resumes {session}")
        self._number = engine.resume(session, cursor, self.outbox)

    def _has_it(self) -> bool:
        """Whether the call still has the session, as far as the front end asks."""
        number = self._number
        return number is not None and not self._server.engine.clients.is_elsewhere(self.session, number)

    def _submit(self, make: Callable[..., Event]) -> None:
        if self._has_it():
            self._server.engine.submit(make(now_s=self._server.engine.now_s()))

    def _cue(self, request: CueRequest) -> None:
        engine = self._server.engine
        if not self._has_it():
            return
        now_s = engine.now_s()
        try:
            engine.keeping.check()
        except LongtakeError as error:
            why = error.problem
            engine.submit(FrameRefused(now_s=now_s, session=self.session, cue=request.cue, problem=why))
        else:
            engine.submit(Cue(now_s=now_s, session=self.session, request=request))

    def read(self) -> None:
        """Put what the engine has said on its way to the client."""
        while len(self.outbox):
            self._down.send(self.outbox.take())

    def be_missed(self) -> None:
        """The server notices that the call is broken."""
        if self._server.is_up and self._number is not None:
            engine = self._server.engine
            engine.submit(Detach(now_s=engine.now_s(), session=self.session, connection=self._number))
            self._cell.settle()

    def _come(self, message: ClientMessage | Problem) -> None:
        if isinstance(message, Problem):
            self._refused(message)
        else:
            self._hear(message)


def closing(session: SessionId) -> Callable[..., Event]:
    """What ends a session for its client."""
    return lambda now_s: Close(now_s=now_s, session=session, ending=Ending.CLIENT)
