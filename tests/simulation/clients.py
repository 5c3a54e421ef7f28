"""Clients: what each asks for and does, and what it checks of everything that it is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from benchmarks.by_hand import Model
from cluster.cell.outbox import ClientMessage, Moved, SegmentOut
from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Notice,
    Recovered,
    Refused,
    RequestRefused,
)
from longtake.core.endings import Ending
from longtake.core.errors import Fault, Problem
from longtake.core.events import Ack, Event, Pause, Play
from longtake.core.openings import Opened
from longtake.core.work import Continuity, CueId, Fork, SessionId
from tests.simulation import calls
from tests.simulation.asking import opening, pictures_of, script_of
from tests.simulation.calls import Call, Violation, closing
from tests.simulation.oracle import Script, Turn, segments
from tests.simulation.told_cues import ToldCues
from tests.simulation.wishes import Deed, Wish

RETRIES = 4
"""How often a client that is refused asks again."""


class Cell(calls.Cell, Protocol):
    """What clients share."""

    draw: random.Random

    @property
    def models(self) -> Sequence[Model]:
        """Of its recipes."""
        ...

    def seen(self, client: SimulatedClient) -> None:
        """The client has seen another segment."""
        ...

    @property
    def backlog_is_short(self) -> bool:
        """Whether the server may have forgotten what it would have to tell again."""
        ...

    def may_be_lost(self, session: SessionId, problem: Problem) -> bool:
        """Whether the client of this stream may be turned away for good, for this reason."""
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
    is_lost: bool = False
    """Whether nobody knew its stream any more when it came back."""
    ending: Ending | None = None
    is_vague: bool = False
    """Whether it was told that its stream goes on approximately."""
    is_unkept: bool = False
    """Whether its stream ended because the disk did not take its record."""
    counts: Counter[str] = field(default_factory=Counter)
    """What it was told, by type."""
    script: Script = field(init=False)
    """Of the stream that it asked for last."""
    has_depended: bool = False
    """Whether its stream is a fork that was let in before its parent had come to it."""
    restarts: int = 0
    """How often its stream was taken over by another server."""

    def __post_init__(self) -> None:
        self.model = self.cell.models[self.wish.recipe]
        self.next = 0
        """The segment that must come next."""
        self._call: Call | None = None
        self._older: list[Call] = []
        """Broken calls of which the server may not know yet that they are."""
        self._token = b""
        self._cursor: int | None = None
        self._is_answered = False
        self._shown: int | None = None
        """The cursor with which it came back last."""
        self._starves_until_s, self._is_playing, self._acts = 0.0, True, list(self.wish.acts)
        self._cues = ToldCues()
        self._closed: Closed | None = None
        if self.parent is None:
            self.cell.agenda.at(self.wish.begins_s, self.open)

    @property
    def session(self) -> SessionId:
        """The stream that it asked for last."""
        return SessionId(f"{self.wish.number}-{self.attempts}")

    @property
    def is_opened(self) -> bool:
        """Whether it was told that its stream has begun."""
        return bool(self._token)

    @property
    def came_to(self) -> str:
        """What became of it."""
        if self.ending is not None:
            return self.ending.value
        if self.has_vanished or self.is_lost:
            return "vanished" if self.has_vanished else "over, and not remembered"
        return "refused" if self.attempts else "never asked"

    # --- what it does -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask for the stream, over a call of its own."""
        if not self.cell.server.is_up:
            self._come_back()
            return
        self.attempts += 1
        wish = self.wish
        parent, block = self.parent, None if self.parent is None else self._forks_at(self.parent)
        self.is_vague = False
        self.script = script_of(wish, self.model, None if parent is None else parent.script, block)
        self._cues.begin_anew()
        cues = tuple(self._cues.ask(self.session, block, self.model) for block in wish.cues)
        fork = None if parent is None else Fork(session=parent.session, block=block)
        asked = opening(wish, self.session, self.script, cues, fork)
        self._dial().open(asked, pictures_of(wish, self.model))

    def _forks_at(self, parent: SimulatedClient) -> int | None:
        return None if self.wish.fork_back is None else max(0, parent.next - self.wish.fork_back)

    def _dial(self) -> Call:
        self._is_answered = False
        call = self._call = Call(self.cell, self.session, self._hear, self._turned_away)
        return call

    def accepted(self, cue: CueId, block: int) -> None:
        """A cue has its block: it counts from now on, even if its client will be told later."""
        request = self._cues.requests[cue]
        self.script.turns[block] = Turn(request.prompt, self.model.recipe.cues.of(request.change))

    def _send(self, make: Callable[..., Event]) -> None:
        if self._call is not None:
            self._call.send(make)

    def read(self) -> None:
        """Put what the engine has said on its way to the client."""
        for call in (*self._older, *([] if self._call is None else [self._call])):
            call.read()

    def _act(self) -> None:
        while self._acts and self._acts[0].after <= self.next - self.script.first and not self.is_over:
            act = self._acts.pop(0)
            match act.deed:
                case Deed.CUE:
                    block = None if act.ahead is None else self.next + act.ahead
                    request = self._cues.ask(self.session, block, self.model)
                    if self._call is not None:
                        self._call.cue(request)
                case Deed.PAUSE:
                    self._is_playing = False
                    self._send(partial(Pause, session=self.session))
                    self.cell.agenda.after(act.lasts_s, self._play)
                case Deed.STARVE:
                    self._starves_until_s = self.cell.agenda.now_s + act.lasts_s
                case Deed.CLOSE:
                    self.asked_to_end = True
                    self._send(closing(self.session))
                case Deed.VANISH:
                    self.asked_to_end = self.is_over = self.has_vanished = True
                    self._break(self.cell.draw.uniform(0.0, 0.5))
                case Deed.BREAK:
                    self._break(self.cell.draw.choice([0.0, 0.1, 0.5, 5.0]))

    def _play(self) -> None:
        self._is_playing = True
        if not self.is_over:
            self._send(partial(Play, session=self.session))

    def _break(self, noticed_after_s: float) -> None:
        """Its call breaks; the server notices later."""
        call, self._call = self._call, None
        if call is not None:
            call.cut()
            self._older.append(call)
            self.cell.agenda.after(noticed_after_s, lambda: self._missed(call))
            self._come_back()

    def _missed(self, call: Call) -> None:
        self._older.remove(call)
        call.be_missed()

    def server_died(self) -> None:
        """The server is gone, and with it every call; some of what it has sent still arrives."""
        call = self._call
        if call is not None:
            call.read()
            call.cut(kept=self.cell.draw.randint(0, call.on_their_way))
            self.cell.agenda.after(self.cell.draw.uniform(0.01, 0.05), lambda: self._gone(call))

    def _gone(self, call: Call) -> None:
        if call is self._call:
            self._call = None
            call.cut()
            self._come_back()

    def _come_back(self) -> None:
        """Go on with the stream later, or begin it anew if it was not opened."""
        if not self.is_over:
            again = self._resume if self.is_opened else self.open
            self.cell.agenda.after(self.cell.draw.choice([0.05, 0.2, 1.0, 3.0]), again)

    def _resume(self) -> None:
        if self.is_over:
            return
        if not self.cell.server.is_up:
            self._come_back()
            return
        self._shown = self._cursor
        self._dial().resume(self._token, self._cursor)

    def _repeat(self) -> None:
        """Ask once more for what may not have arrived (longtake.client.memory.Remembered.repetition)."""
        assert self._call is not None
        for request in self._cues.unanswered:
            self._call.cue(request)
        if self._cursor is not None:
            self._consumed(self._cursor)
        self._send(partial(Play if self._is_playing else Pause, session=self.session))
        if self.asked_to_end:
            self._send(closing(self.session))

    def _consumed(self, segment: int) -> None:
        """It has shown a segment, and says so, unless it starves the stream."""
        if self._starves_until_s > self.cell.agenda.now_s:
            self.cell.agenda.at(self._starves_until_s, lambda: self._consumed(segment))
            return
        self._cursor = segment if self._cursor is None else max(segment, self._cursor)
        if self._is_answered:
            self._send(partial(Ack, session=self.session, segment=segment))

    # --- what it is told --------------------------------------------------------------------------------------------

    def check_found(self, cues: set[CueId]) -> None:
        """What it was told to be accepted must have outlived the server."""
        lost = self._cues.accepted - cues
        self._check(not lost, f"cues {lost} were accepted, and are lost")

    def taken_over(self, cues: dict[int, CueId]) -> None:
        """Another server goes on with its stream, from these cues."""
        self.restarts += 1
        before, self.script.turns = self.script.turns, {}
        for block, cue in cues.items():
            self.accepted(cue, block)
        if before != self.script.turns and self.is_opened:
            self._begin_bytes()

    def _begin_bytes(self) -> None:
        """From here on its bytes are those that its script gives."""
        self._bytes = segments(self.script)
        self._known = [next(self._bytes) for _ in range(self.next)]

    def _hear(self, message: ClientMessage) -> None:
        self.counts[type(message).__name__] += 1
        self._check(self._closed is None, f"it is told {message} after Closed")
        match message:
            case Opened():
                self._opened(message)
            case SegmentOut():
                self._segment(message)
            case CueAccepted() | CueApplied() | CueSuperseded():
                self._cue_goes_on(message.cue, message)
            case RequestRefused(cue=str() as cue):
                self._cue_goes_on(cue, message)
            case Refused():
                self._turned_away(message.problem)
            case Closed(ending=Ending.KEPT):
                self._kept()
            case Closed():
                self._end(message)
            case Moved():
                self._check(False, "the last call is told that a later one has the stream")
            case Recovered():
                self.is_vague |= message.continuity is Continuity.APPROXIMATE
            case Notice() | RequestRefused():
                pass

    def _opened(self, message: Opened) -> None:
        assert self._call is not None
        first = not self._token
        self._token, self._is_answered = self._call.outbox.token, True
        if first:
            self.next = self.script.first
            self._comes = self.next
            self._check(message.segment == self.next, f"it begins with {message.segment}")
            self._begin_bytes()
        else:
            self._comes = message.segment
            wanted = self.script.first if self._shown is None else self._shown + 1
            self._check(message.segment == wanted, f"it goes on with {message.segment}, {wanted} was asked for")
            self._repeat()

    def _segment(self, message: SegmentOut) -> None:
        emit, geometry, number = message.emit, self.model.geometry.divided(self.script.plan), message.emit.block
        self._check(self.is_opened, "a segment comes before the stream is opened")
        self._check(number == self._comes <= self.next, f"segment {number} comes, {self._comes} was expected")
        self._comes += 1
        first, last = geometry.first_picture(number), number + 1 == self.wish.blocks
        count = geometry.pictures(number) - last * self.wish.cut_short
        self._check((emit.first_picture, emit.picture_count) == (first, count), f"wrong pictures: {emit}")
        self._check(emit.steps in (0, self.script.steps(number, emit.load)), f"not the steps of its load: {emit}")
        is_new = number == self.next
        if is_new:
            self._known.append(next(self._bytes))
        is_right = message.data == self._known[number] or self.is_vague
        self._check(is_right, f"segment {number} has other bytes than it must have")
        self.next += is_new
        self.cell.agenda.after(self.cell.draw.uniform(0.0, self.wish.ack_s), lambda: self._consumed(number))
        if is_new:
            self.cell.seen(self)
            self._act()

    def _cue_goes_on(self, cue: CueId, message: ClientMessage) -> None:
        """A cue is refused, or accepted and then applied or superseded; each once, but for what a call repeats."""
        is_answer = self._cues.requests.get(cue) in self._cues.unanswered
        wrong = self._cues.hears(cue, message, may_repeat=self.counts["Opened"] > 1)
        self._check(not wrong, wrong)
        if isinstance(message, CueAccepted) and is_answer:
            self._check(message.block >= self.next, f"segment {self.next} comes next: {message}")

    def _turned_away(self, problem: Problem) -> None:
        """Its call begins nothing."""
        self._call = None
        if self.is_opened:
            may_be_lost = self.cell.may_be_lost(self.session, problem)
            if problem.kind is Fault.UNAVAILABLE or (problem.kind is Fault.DRAINING and not may_be_lost):
                self._come_back()
                return
            self._check(may_be_lost, f"it is not taken back: {problem}")
            self.is_over = self.is_lost = True
        elif self.attempts <= RETRIES:
            self.cell.agenda.after(self.cell.draw.uniform(0.2, 2.0), self.open)
        else:
            self.is_over = True

    def _kept(self) -> None:
        """The server has kept its stream, and ends its call as if that had broken."""
        call, self._call = self._call, None
        if call is not None:
            call.cut()
        self._come_back()

    def _end(self, message: Closed) -> None:
        self._closed, self.ending, self.is_over = message, message.ending, True
        self.is_unkept = message.reason.startswith("the journal cannot be written")
        sent = self.next - self.script.first if self.is_opened else 0
        if not self.restarts and not (self.is_unkept and not self.is_opened):
            may_have_lost = self.counts["Opened"] > 1 and message.segments > sent
            right = message.segments == sent or may_have_lost
            self._check(right, f"{sent} segments came, {message.segments} were sent")
        if message.ending is Ending.COMPLETED:
            self._check(self.next == self.wish.blocks, f"complete after {self.next} of {self.wish.blocks} blocks")
            waiting = self._cues.waiting
            self._check(
                not waiting or self.cell.backlog_is_short,
                f"complete, and nothing has come of the accepted cues {waiting}",
            )

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(f"client {self.wish.number}, stream {self.session}: {what}")
