"""Durability: what a client must not be told before it is on disk, and what else the journal on disk is told.

Theory of operation. The truth of a stream is its record and its cues. Opened, Resumed and CueAccepted promise that they
survive the server, as does what a client is told that comes back just when its session has ended: so each waits for the
number under which its fact was appended, and what the client is told after it waits behind it. Everything else is
written when the disk comes to it: a crash loses the latents of the last seconds, which are computed again. A cue that
the disk did not take, although the core has it, is appended again until it is there; an Open whose record it did not
take is refused, as no promise was made yet. Facts of one session are appended in the order in which they came. When a
session has ended, what was kept of it goes, and nothing waits for a disk that fails any more: at once, or later if its
client may not have got the end of it, as that can be lost with the server, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.cell.journal import Journal
from cluster.cell.landing import Appender, Landing
from cluster.cell.outbox import ClientMessage, SegmentOut
from cluster.cell.settled import Settled
from cluster.journal.facts import SessionRecord
from cluster.journal.writer import Reached, WriterFigures
from cluster.journal.writes import (
    Durable,
    Write,
    WriteAck,
    WriteCue,
    WriteEnd,
    WriteGiven,
    WriteLatents,
    WriteRecord,
    WriteSteps,
)
from longtake.core.adoption import PlacedCue, StepsSettled
from longtake.core.effects import Closed, CueAccepted, DropJournal, Inherit, Refused, Trim
from longtake.core.endings import Remains
from longtake.core.errors import Unavailable
from longtake.core.openings import AttachRefused, Opened, Resumed
from longtake.core.sessions.prompts import Turn
from longtake.core.sessions.session import Session
from longtake.core.work import CueId, LatentRef, SessionId

UNREAD_S = 120.0
"""For so long the end of a stream stays on disk whose client may not have got it: as long as one tries to come back."""
Told = ClientMessage | Resumed | AttachRefused
"""What waits for the disk."""


@dataclass(slots=True)
class _Held:
    """A message that waits for facts, or behind one that does."""

    told: Told
    writes: tuple[Write, ...]
    """The facts, and the latents that are of no use without them."""
    numbers: tuple[int, ...] = ()
    """Under which they were appended; empty if they are still to be."""
    is_whole: bool = True
    """Whether all that it promises is known: a fork's past is not, until its parent is done with it."""


@dataclass(slots=True)
class _Waiting:
    """The messages about one session that wait."""

    held: deque[_Held] = field(default_factory=deque)
    is_over: bool = False
    """Whether the session has ended, so that its facts are good for nothing any more."""
    is_failed: bool = False
    """Whether the session is to end, because it has no record on disk."""


@dataclass(slots=True)
class Released:
    """What follows when the disk has come further."""

    told: list[Told] = field(default_factory=list)
    failed: dict[SessionId, str] = field(default_factory=dict)
    """Sessions whose record is not on disk and will not be, with the reason; each is named once."""


class Durability:
    """Holds messages until what they promise is on disk. On the engine's loop; never waits."""

    def __init__(
        self,
        writer: Appender,
        *,
        session: Callable[[SessionId], Session | None],
        record: Callable[[Session], SessionRecord],
    ) -> None:
        self._writer = writer
        self._landing = Landing(writer)
        self._settled = Settled(writer)
        self._session = session
        self._record = record
        self._waiting: dict[SessionId, _Waiting] = {}
        self._inherited: dict[SessionId, tuple[Write, ...]] = {}
        """What a fork has from its parent, or a stream of what it was given, until it is opened."""
        self._changed: set[SessionId] = set()
        """Sessions whose records say on disk what was true before."""
        self._known: dict[SessionId, Session] = {}
        """Sessions that are on disk and that a client may come back to, those among them that have ended."""
        self._read: set[SessionId] = set()
        """Those that have ended and whose clients have consumed them to the end."""
        self._unread: dict[SessionId, float] = {}
        """Those that have ended otherwise, and until when they stay on disk, the first first."""
        self._reached = 0
        self._reason = ""

    def check(self) -> None:
        """Unavailable while nothing can be promised."""
        if not self._writer.is_healthy:
            raise Unavailable("the journal cannot be written now; streams that are open go on")

    @property
    def held(self) -> int:
        """How many messages wait for the disk."""
        return sum(len(waiting.held) for waiting in self._waiting.values())

    @property
    def figures(self) -> WriterFigures:
        """How the disk does."""
        return self._writer.figures

    # --- what clients are told --------------------------------------------------------------------------------------

    def holds(self, told: Told) -> bool:
        """Whether this message waits; what it promises is appended."""
        session = self._find(told.session)
        if isinstance(told, Opened | Resumed) and session is not None:
            self._known[session.id] = session
        writes = () if session is None else self._writes_of(told, session)
        if not writes and told.session not in self._waiting:
            return False
        waiting = self._waiting.setdefault(told.session, _Waiting())
        numbers = self._numbers_of(told)
        is_whole = not isinstance(told, Opened) or session is None or not session.kin.depends
        waiting.held.append(_Held(told, writes, numbers, is_whole=is_whole))
        self._append(waiting)
        return True

    def _writes_of(self, told: Told, session: Session) -> tuple[Write, ...]:
        match told:
            case AttachRefused() if session.ending is None:
                return ()
            case Opened() | Resumed() | AttachRefused():
                return (WriteRecord(record=self._record(session)), *self._inherited.pop(session.id, ()))
            case CueAccepted():
                # None: a later one has taken its block at once.
                turns = (turn for turn in session.prompts.turns if (turn.cue, turn.block) == (told.cue, told.block))
                return tuple(WriteCue(session=session.id, cue=_cue_of(turn, turn.cue)) for turn in turns)
            case SegmentOut(emit=emit):
                return tuple(write for write, _ in self._settled.before(told.session, emit.block))
            case _:
                return ()

    def _numbers_of(self, told: Told) -> tuple[int, ...]:
        """Under which numbers the facts of a message were appended already; nothing if one of them was not."""
        if not isinstance(told, SegmentOut):
            return ()
        numbers = tuple(number for _, number in self._settled.before(told.session, told.emit.block))
        return numbers if all(numbers) else ()

    def _append(self, waiting: _Waiting) -> None:
        """Append what is not; in order, so that of two cues for one block the later one stays the later."""
        if waiting.is_over or waiting.is_failed:
            return
        for held in waiting.held:
            if not held.is_whole:
                return
            if held.writes and not held.numbers:
                try:
                    held.numbers = tuple(map(self._writer.append, held.writes))
                except Unavailable as error:
                    self._reason = str(error)
                    return  # it is tried again with every tick

    def reached(self, reached: Reached) -> Released:
        """The disk has come further; returns what may be told now."""
        self._landing.reached(reached)
        self._settled.reached(reached)
        self._reached = max(self._reached, reached.number)
        self._reason = reached.reason or self._reason
        released = Released()
        for session, waiting in list(self._waiting.items()):
            for held in waiting.held:
                if not set(reached.failed).isdisjoint(held.numbers):
                    held.numbers = ()
            self._settle(session, waiting, released)
        return released

    def tick(self, now_s: float) -> Released:
        """Append what the disk did not take before, and drop what nobody has asked for."""
        for session in [session for session, until_s in self._unread.items() if until_s <= now_s]:
            self._end(session)
        released = Released()
        for session, waiting in list(self._waiting.items()):
            self._settle(session, waiting, released)
            if self._writer.is_healthy:
                self._append(waiting)
        self._append_changed()
        if self._writer.is_healthy:
            self._settled.append()
        return released

    def _settle(self, session: SessionId, waiting: _Waiting, released: Released) -> None:
        """Release what waits for nothing any more, and see whether the session is one that cannot be promised."""
        held = waiting.held
        if waiting.is_failed:
            held.clear()  # nobody listens any more
        while held and self._is_free(held[0], waiting):
            released.told.append(held.popleft().told)
        if held and isinstance(held[0].told, Opened) and not held[0].numbers and not waiting.is_failed:
            if held[0].is_whole:
                waiting.is_failed = True
                released.failed[session] = why = f"the journal cannot be written: {self._reason}"
                released.told.append(Refused(session=session, problem=Unavailable(why).problem))
                held.clear()
            elif waiting.is_over:  # its client has never heard of it
                released.told += [each.told for each in held if isinstance(each.told, Closed)]
                held.clear()
        if not held and (waiting.is_over or not waiting.is_failed):
            del self._waiting[session]

    def _is_free(self, held: _Held, waiting: _Waiting) -> bool:
        if not held.writes:
            return True
        if not held.numbers:
            return waiting.is_over and not isinstance(held.told, Opened)
        return held.numbers[-1] <= self._reached

    # --- what else is written ---------------------------------------------------------------------------------------

    def latents(self, ref: LatentRef, version: int, data: bytes) -> None:
        """Latents have arrived."""
        self._writer.append(WriteLatents(ref=ref, version=version, data=data))

    def given(self, session: SessionId, latents: Mapping[LatentRef, bytes]) -> None:
        """A session begins with these: they are to be on disk before it is told that it does."""
        self._inherited[session] = tuple(WriteGiven(ref=ref, data=data) for ref, data in latents.items())

    def acknowledged(self, session: SessionId, segment: int) -> None:
        """A client has consumed a segment."""
        self._writer.append(WriteAck(session=session, block=segment))
        known = self._known.get(session)
        if known is not None and known.ending is not None and segment + 1 >= known.emitted:
            self._read.add(session)
            if session in self._unread:
                self._end(session)

    async def land(self, session: Session, cues: Iterable[PlacedCue], journal: Journal) -> None:
        """Wait until a session that comes from another server is on disk; Unavailable if that cannot be now.

        `journal` has its latents.
        """
        versions, last = journal.found_in(session.id), session.graph.step_count
        writes: list[WriteLatents | WriteAck] = [
            WriteLatents(ref=LatentRef(session=session.id, block=block, step=step), version=version, data=data)
            for (block, step), data in journal.latents_of(session.id).items()
            if (version := versions.get((block, step))) is not None and step <= last
        ]
        facts: list[Durable] = [WriteRecord(record=self._record(session))]
        facts += [
            WriteGiven(ref=LatentRef(session=session.id, block=block, step=step), data=data)
            for (block, step), data in journal.latents_of(session.id).items()
            if step > last  # the reference, which is kept beside what is dropped by the block
        ]
        facts += [WriteCue(session=session.id, cue=cue) for cue in cues]
        facts += _loads_of(session)
        if session.flow.acknowledged >= 0:  # from where it goes on depends on this, too
            writes.append(WriteAck(session=session.id, block=session.flow.acknowledged))
        await self._landing.land(facts, writes)

    def changed(self, session: SessionId) -> None:
        """What its record says has changed, and nobody waits for it."""
        self._changed.add(session)
        self._append_changed()

    def _append_changed(self) -> None:
        for name in list(self._changed):
            session = self._find(name)
            try:
                if session is not None:
                    self._writer.append(WriteRecord(record=self._record(session)))
            except Unavailable:
                return  # it is tried again with every tick
            self._changed.remove(name)

    def _find(self, session: SessionId) -> Session | None:
        """A session that is open, or was."""
        return self._session(session) or self._known.get(session)

    def _is_failed(self, session: SessionId) -> bool:
        return session in self._waiting and self._waiting[session].is_failed

    def _end(self, session: SessionId) -> None:
        """Nothing of a session has to be found any more."""
        if session in self._waiting:
            self._waiting[session].is_over = True
        self._known.pop(session, None)
        self._settled.forget(session)
        self._unread.pop(session, None)
        self._read.discard(session)
        self._writer.append(WriteEnd(session=session))

    def perform(self, effect: Trim | DropJournal | Inherit | StepsSettled, journal: Journal, *, now_s: float) -> None:
        """Have the disk keep less, or the same under other names. `journal` has already done it."""
        match effect:
            case Trim():
                self._writer.append(effect)
            case StepsSettled():
                self._settled.settled(effect)
            case DropJournal():
                self._inherited.pop(effect.session, None)
                match effect.remains:
                    case Remains.UNREAD if effect.session not in self._read and not self._is_failed(effect.session):
                        self._unread[effect.session] = now_s + UNREAD_S
                    case Remains.ALL:
                        pass
                    case _:
                        self._end(effect.session)
            case Inherit():
                self._inherit(effect, journal)

    def _inherit(self, effect: Inherit, journal: Journal) -> None:
        """What a fork may be rebuilt from is written for it, too, behind its record."""
        session = self._session(effect.session)
        if session is None:
            return
        turns, versions = session.prompts.turns, {own for _, own in effect.versions}
        cues: list[Write] = [
            WriteCue(session=session.id, cue=replace(_cue_of(turn, None), shot=session.story.at(turn.block).number))
            for turn in turns
            if turn.version in versions - {0}
        ]
        loads = _loads_of(session, before=session.kin.first_block)
        latents, given = [], list[WriteGiven]()
        for (block, step), data in journal.latents_of(session.id).items():
            version = next((turn.version for turn in reversed(turns) if turn.block <= block), 0)
            ref = LatentRef(session=session.id, block=block, step=step)
            if block < session.graph.given_blocks or step > session.graph.step_count:
                given.append(WriteGiven(ref=ref, data=data))
            else:
                latents.append(WriteLatents(ref=ref, version=version, data=data))
        cues = [*given, *cues]
        waiting = self._waiting.get(session.id)
        opened = next((held for held in waiting.held if not held.is_whole), None) if waiting is not None else None
        if waiting is None or opened is None:
            self._inherited[session.id] = (*cues, *loads, *latents)
        else:
            opened.writes, opened.is_whole = (*opened.writes, *cues, *loads, *latents), True
            self._append(waiting)


def _loads_of(session: Session, before: int | None = None) -> list[WriteSteps]:
    """The loads of a session's blocks, or of those before one."""
    changes, after = [], session.loads.known_from  # above 0 only if the change before the first one is not known
    for block, load in session.loads.changes:
        if before is None or block < before:
            settled = StepsSettled(session=session.id, block=block, load=load, after=after)
            changes.append(WriteSteps(settled=settled))
            after = block + 1
    return changes


def _cue_of(turn: Turn, cue: CueId | None) -> PlacedCue:
    return PlacedCue(block=turn.block, version=turn.version, cue=cue, prompt=turn.prompt, change=turn.change)
