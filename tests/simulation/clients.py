"""Clients: what each asks for and does, and what it checks of everything that it is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Protocol

from cluster.cell.engine import Engine
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Notice,
    Refused,
    RequestRefused,
)
from longtake.core.events import Ack, Close, Cue, CueRequest, Ending, Event, Open, Pause, Play
from longtake.core.flow import Pace
from longtake.core.openings import Opened
from longtake.core.work import CueId, SegmentSettings, SessionId
from tests.simulation.agenda import Agenda
from tests.simulation.links import Pipe
from tests.simulation.oracle import Model, Script, segments

RETRIES = 4
"""How often a client that is refused asks again."""


class Violation(AssertionError):
    """Something that must not be."""


class Deed(Enum):
    """What a client does on the way."""

    CUE = "cue"
    PAUSE = "pause"
    STARVE = "starve"
    """It acknowledges nothing for a while."""
    CLOSE = "close"
    VANISH = "vanish"
    """Its connection breaks, and nobody is told why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A deed, when so many segments have come."""

    after: int
    deed: Deed
    lasts_s: float = 0.0
    ahead: int | None = None
    """A cue takes effect so many blocks after the last one seen; None: as soon as possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one client wants."""

    number: int
    begins_s: float
    pace: Pace
    window: int
    blocks: int
    cut_short: int
    """So many pictures of the last block are not wanted."""
    ack_s: float
    """How long it takes to consume a segment, at most."""
    cues: tuple[int, ...] = ()
    """The blocks of the cues that come with Open."""
    acts: tuple[Act, ...] = ()
    fork_of: int | None = None
    fork_after: int = 0
    """It forks when the other client has seen so many segments."""


class Told(Outbox):
    """The outbox of one stream: what becomes of its cues is known as soon as the engine has said it."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.prompts: dict[CueId, str] = {}
        """What each cue asks for."""

    def offer(self, message: ClientMessage) -> bool:
        """Append a message."""
        if isinstance(message, CueAccepted):
            self.script.turns[message.block] = self.prompts[message.cue]
        return super().offer(message)

    def take(self) -> ClientMessage:
        """The oldest message; there must be one, so there is nothing to wait for."""
        try:
            self.get().send(None)
        except StopIteration as done:
            message: ClientMessage = done.value
            return message
        raise Violation("an outbox that holds messages lets its reader wait")


class Cell(Protocol):
    """What clients share."""

    agenda: Agenda
    draw: random.Random
    model: Model

    @property
    def engine(self) -> Engine:
        """The engine that is running."""
        ...

    def settle(self) -> None:
        """Let the engine handle what has come."""
        ...

    def seen(self, client: SimulatedClient) -> None:
        """The client has seen another segment."""
        ...


@dataclass
class SimulatedClient:
    """One client and its stream."""

    wish: Wish
    cell: Cell
    parent: SimulatedClient | None = None
    attempts: int = 0
    is_over: bool = False
    """Whether it wants no more, and is told no more."""
    asked_to_end: bool = False
    has_vanished: bool = False
    ending: Ending | None = None
    counts: Counter[str] = field(default_factory=Counter)
    """What it was told, by type."""
    outbox: Told = field(init=False)
    """Of the stream that it asked for last."""

    def __post_init__(self) -> None:
        self.next = 0
        """The segment that must come next."""
        self._starves_until_s = 0.0
        self._acts = list(self.wish.acts)
        self._cues: dict[CueId, type[ClientMessage] | None] = {}
        """What it was last told of each cue."""
        self._closed: Closed | None = None
        if self.parent is None:
            self.cell.agenda.at(self.wish.begins_s, self.open)

    @property
    def session(self) -> SessionId:
        """The stream that it asked for last."""
        return SessionId(f"{self.wish.number}.{self.attempts}")

    @property
    def came_to(self) -> str:
        """What became of it."""
        if self.ending is not None:
            return self.ending.value
        if self.has_vanished:
            return "vanished"
        return "refused" if self.attempts else "never asked"

    # --- what it does -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask for the stream, over a connection of its own."""
        wish, agenda, draw = self.wish, self.cell.agenda, self.cell.draw
        self.attempts += 1
        parent = None if self.parent is None else self.parent.outbox.script
        seed, prompt = 100 + wish.number, f"prompt {wish.number}"
        self.outbox = Told(Script(seed=seed, prompt=prompt, parent=parent))
        self._up: Pipe[Callable[[], None]] = Pipe(agenda, self._arrive, lambda: draw.uniform(0.0005, 0.01))
        self._down: Pipe[ClientMessage] = Pipe(agenda, self._hear, lambda: draw.uniform(0.0005, 0.01))
        self._bytes = segments(self.cell.model, self.outbox.script)
        self._cues.clear()
        cues = tuple(self._cue(block) for block in wish.cues)
        session, pictures = self.session, self.cell.model.geometry.first_picture(wish.blocks) - wish.cut_short
        fork = None if self.parent is None else self.parent.session

        def connect() -> None:
            engine = self.cell.engine
            engine.attach(session, self.outbox)
            engine.submit(
                Open(now_s=engine.now_s(), session=session, prompt=prompt, seed=seed, pace=wish.pace,
                     window=wish.window, picture_limit=pictures, settings=SegmentSettings(codec="raw", quality=0),
                     cues=cues, fork=fork)
            )  # fmt: skip

        self._up.send(connect)

    def _cue(self, block: int | None) -> CueRequest:
        cue = CueId(f"c{len(self.outbox.prompts)}")
        self.outbox.prompts[cue] = f"{self.session} {cue}"
        self._cues[cue] = None
        return CueRequest(cue=cue, prompt=self.outbox.prompts[cue], block=block)

    def _arrive(self, connect: Callable[[], None]) -> None:
        connect()
        self.cell.settle()

    def _send(self, make: Callable[..., Event]) -> None:
        """Send what becomes an event when it arrives: that is when its time is known."""
        self._up.send(lambda: self.cell.engine.submit(make(now_s=self.cell.engine.now_s())))

    def read(self) -> None:
        """Put what the engine has said on its way to the client."""
        while self.attempts and len(self.outbox):
            self._down.send(self.outbox.take())

    def _act(self) -> None:
        session = self.session
        while self._acts and self._acts[0].after <= self.next - self.outbox.script.first and not self.is_over:
            act = self._acts.pop(0)
            match act.deed:
                case Deed.CUE:
                    request = self._cue(None if act.ahead is None else self.next + act.ahead)
                    self._send(partial(Cue, session=session, request=request))
                case Deed.PAUSE:
                    self._send(partial(Pause, session=session))
                    self.cell.agenda.after(act.lasts_s, self._play)
                case Deed.STARVE:
                    self._starves_until_s = self.cell.agenda.now_s + act.lasts_s
                case Deed.CLOSE:
                    self.asked_to_end = True
                    self._send(self._closing())
                case Deed.VANISH:
                    self.asked_to_end = self.is_over = self.has_vanished = True
                    self._up.cut()
                    self._down.cut()
                    self.cell.agenda.after(self.cell.draw.uniform(0.0, 0.5), self._be_missed)

    def _play(self) -> None:
        if not self.is_over:
            self._send(partial(Play, session=self.session))

    def _closing(self) -> Callable[..., Event]:
        return partial(Close, session=self.session, ending=Ending.CLIENT)

    def _be_missed(self) -> None:
        """The engine's side notices that the connection is broken."""
        self.cell.engine.submit(self._closing()(now_s=self.cell.engine.now_s()))
        self.cell.settle()

    def _consumed(self, segment: int) -> None:
        """It has shown a segment, and says so, unless it starves the stream."""
        if self._starves_until_s > self.cell.agenda.now_s:
            self.cell.agenda.at(self._starves_until_s, lambda: self._consumed(segment))
            return
        self._send(partial(Ack, session=self.session, segment=segment))

    # --- what it is told --------------------------------------------------------------------------------------------

    def _hear(self, message: ClientMessage) -> None:
        self.counts[type(message).__name__] += 1
        self._check(self._closed is None, f"it is told {message} after Closed")
        match message:
            case Opened():
                self._check(self.counts["Opened"] == 1 and self.next in (0, self.outbox.script.first), "opened twice")
                self.next = self.outbox.script.first
                for _ in range(self.next):
                    next(self._bytes)
            case SegmentOut():
                self._segment(message)
            case CueAccepted() | CueApplied() | CueSuperseded():
                shown = not isinstance(message, CueApplied) or message.block == self.next
                self._check(shown and message.block >= self.next, f"segment {self.next} comes next: {message}")
                self._cue_goes_on(message.cue, type(message))
            case RequestRefused(cue=str() as cue):
                self._cue_goes_on(cue, RequestRefused)
            case Refused():
                self._refused(message)
            case Closed():
                self._end(message)
            case Notice() | RequestRefused():
                pass

    def _segment(self, message: SegmentOut) -> None:
        emit, geometry = message.emit, self.cell.model.geometry
        self._check(self.counts["Opened"] == 1, "a segment comes before the stream is opened")
        self._check(emit.block == self.next, f"segment {emit.block} comes, {self.next} was expected")
        first, last = geometry.first_picture(self.next), self.next + 1 == self.wish.blocks
        count = geometry.pictures(self.next) - last * self.wish.cut_short
        self._check((emit.first_picture, emit.picture_count) == (first, count), f"wrong pictures: {emit}")
        self._check(message.data == next(self._bytes), f"segment {self.next} has other bytes than it must have")
        self.next += 1
        self.cell.agenda.after(self.cell.draw.uniform(0.0, self.wish.ack_s), lambda: self._consumed(emit.block))
        self.cell.seen(self)
        self._act()

    def _cue_goes_on(self, cue: CueId, told: type[ClientMessage]) -> None:
        """A cue is refused, or accepted and then applied or superseded; each once."""
        before = self._cues[cue]
        match before:
            case None:
                may_follow = told in (CueAccepted, RequestRefused)
            case _:
                may_follow = before is CueAccepted and told in (CueApplied, CueSuperseded)
        self._check(may_follow, f"cue {cue}: {told.__name__} after {before}")
        self._cues[cue] = told

    def _refused(self, message: Refused) -> None:
        self._check(not self.next, f"it is refused after segments: {message}")
        if self.attempts <= RETRIES:
            self.cell.agenda.after(self.cell.draw.uniform(0.2, 2.0), self.open)
        else:
            self.is_over = True

    def _end(self, message: Closed) -> None:
        self._closed, self.ending, self.is_over = message, message.ending, True
        sent = self.next - self.outbox.script.first if self.counts["Opened"] else 0
        self._check(message.segments == sent, f"{sent} segments came, {message.segments} were sent")
        if message.ending is Ending.COMPLETED:
            self._check(self.next == self.wish.blocks, f"complete after {self.next} of {self.wish.blocks} blocks")
            waiting = [cue for cue, told in self._cues.items() if told is CueAccepted]
            self._check(not waiting, f"complete, and nothing has come of the accepted cues {waiting}")

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(f"client {self.wish.number}, stream {self.session}: {what}")
