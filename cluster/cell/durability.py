"""Durability: what a client must not be told before it is on disk, and what else the journal on disk is told.

Theory of operation. The truth of a stream is its record and its cues. Opened, Resumed and CueAccepted promise that they
survive the server, so each waits for the number under which its fact was appended; what the client is told after them
waits behind them. Everything else is written when the disk comes to it: a crash loses the latents of the last seconds,
which are computed again. A cue that the disk did not take, although the core has it, is appended again until it is
there; a record that it did not take ends its session, as no promise was made yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cluster.cell.journal import Journal
from cluster.cell.outbox import ClientMessage
from cluster.journal.facts import CueRecord, SessionRecord
from cluster.journal.writer import Reached
from cluster.journal.writes import Write, WriteAck, WriteCue, WriteEnd, WriteLatents, WriteRecord
from longtake.core.effects import CueAccepted, DropJournal, Effect, Inherit, Trim
from longtake.core.errors import Unavailable
from longtake.core.openings import Opened, Resumed
from longtake.core.sessions.session import Session
from longtake.core.work import LatentRef, SessionId

Told = ClientMessage | Resumed
"""What waits for the disk."""


class Writer(Protocol):
    """What appends to the journal on disk (cluster.journal.writer.JournalWriter)."""

    def append(self, write: Write) -> int:
        """See JournalWriter."""
        ...

    @property
    def is_healthy(self) -> bool:
        """See JournalWriter."""
        ...


@dataclass(slots=True)
class _Held:
    """A message that waits for a fact, or behind one that does."""

    told: Told
    write: WriteRecord | WriteCue | None
    number: int = 0
    """Under which the fact was appended; 0 if it is still to be."""


@dataclass(slots=True)
class Released:
    """What follows when the disk has come further."""

    told: list[Told] = field(default_factory=list)
    failed: dict[SessionId, str] = field(default_factory=dict)
    """Sessions whose record is not on disk and will not be, with the reason."""


class Durability:
    """Holds messages until what they promise is on disk. On the engine's loop; never waits."""

    def __init__(
        self, writer: Writer, *, session: Callable[[SessionId], Session], record: Callable[[Session], SessionRecord]
    ) -> None:
        self._writer = writer
        self._session = session
        self._record = record
        self._held: dict[SessionId, deque[_Held]] = {}
        self._reached = 0

    def check(self) -> None:
        """Unavailable while nothing can be promised."""
        if not self._writer.is_healthy:
            raise Unavailable("the journal cannot be written now; streams that are open go on")

    @property
    def held(self) -> int:
        """How many messages wait for the disk."""
        return sum(map(len, self._held.values()))

    # --- what clients are told --------------------------------------------------------------------------------------

    def holds(self, told: Told) -> bool:
        """Whether this message waits; what it promises is appended."""
        write = self._write_of(told)
        queue = self._held.get(told.session)
        if write is None and not queue:
            return False
        held = _Held(told, write)
        self._held.setdefault(told.session, deque()).append(held)
        self._append(held)
        return True

    def _write_of(self, told: Told) -> WriteRecord | WriteCue | None:
        match told:
            case Opened() | Resumed():
                return WriteRecord(record=self._record(self._session(told.session)))
            case CueAccepted():
                turns = self._session(told.session).prompts.turns
                turn = next((turn for turn in turns if turn.cue == told.cue), None)
                if turn is None:  # a later one has taken its block at once
                    return None
                cue = CueRecord(block=turn.block, version=turn.version, cue=turn.cue, prompt=turn.prompt)
                return WriteCue(session=told.session, cue=cue)
            case _:
                return None

    def _append(self, held: _Held) -> None:
        if held.write is not None and not held.number:
            try:
                held.number = self._writer.append(held.write)
            except Unavailable:
                return  # it is tried again with every tick

    def reached(self, reached: Reached) -> Released:
        """The disk has come further; returns what may be told now."""
        self._reached = max(self._reached, reached.number)
        released = Released()
        for session, queue in list(self._held.items()):
            for held in queue:
                if held.number in reached.failed and held.number:
                    held.number = 0
                    if isinstance(held.write, WriteRecord) and isinstance(held.told, Opened):
                        released.failed[session] = reached.reason
            self._release(session, queue, released)
        return released

    def tick(self) -> Released:
        """Append what the disk did not take before."""
        released = Released()
        if self._held and self._writer.is_healthy:
            for session, queue in list(self._held.items()):
                for held in queue:
                    self._append(held)
                self._release(session, queue, released)
        return released

    def _release(self, session: SessionId, queue: deque[_Held], released: Released) -> None:
        while queue and (queue[0].write is None or 0 < queue[0].number <= self._reached):
            released.told.append(queue.popleft().told)
        if not queue:
            del self._held[session]

    # --- what else is written ---------------------------------------------------------------------------------------

    def latents(self, ref: LatentRef, version: int, data: bytes) -> None:
        """Latents have arrived."""
        self._writer.append(WriteLatents(ref=ref, version=version, data=data))

    def acknowledged(self, session: SessionId, segment: int) -> None:
        """A client has consumed a segment."""
        self._writer.append(WriteAck(session=session, block=segment))

    def changed(self, session: SessionId) -> None:
        """What its record says has changed, and nobody waits for it."""
        if self._writer.is_healthy:
            self._writer.append(WriteRecord(record=self._record(self._session(session))))

    def perform(self, effect: Effect, journal: Journal) -> None:
        """Have the disk keep less, or the same under other names. `journal` has already done it."""
        match effect:
            case Trim():
                self._writer.append(effect)
            case DropJournal():
                self._held.pop(effect.session, None)
                self._writer.append(WriteEnd(session=effect.session))
            case Inherit():
                self._inherit(effect, journal)
            case _:
                pass

    def _inherit(self, effect: Inherit, journal: Journal) -> None:
        """What a fork may be rebuilt from is written for it, too."""
        versions = dict(effect.versions)
        turns = self._session(effect.session).prompts.turns
        try:
            for turn in turns:
                if turn.version in versions.values():
                    cue = CueRecord(block=turn.block, version=turn.version, cue=None, prompt=turn.prompt)
                    self._writer.append(WriteCue(session=effect.session, cue=cue))
        except Unavailable:
            return  # without them the latents are of no use: the fork's past is computed again
        for (block, step), data in journal.latents_of(effect.session).items():
            version = next((turn.version for turn in reversed(turns) if turn.block <= block), 0)
            self.latents(LatentRef(session=effect.session, block=block, step=step), version, data)
