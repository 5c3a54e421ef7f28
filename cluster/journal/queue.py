"""What waits to be written: bounded, and shared by the engine's thread, which puts, and the writer's, which takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.journal.facts import cue_to_json, record_to_json
from cluster.journal.writes import (
    Durable,
    TakeOver,
    Write,
    WriteAck,
    WriteCue,
    WriteEnd,
    WriteGiven,
    WriteLatents,
    WriteRecord,
    WriteSteps,
)
from longtake.core.effects import Trim
from longtake.core.errors import Unavailable
from longtake.core.work import SessionId

LIMIT_BYTES = 256 << 20
"""So many bytes of latents may wait: what 20 sessions of Wan 1.3B make in two seconds, while the disk hesitates."""
_OVERHEAD_BYTES = 512
"""What a write takes beside its payload."""
_MOST_FACTS = 10_000
"""So many records, cues and ends may wait."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A write with its number, the time it came, and what is the payload of its record."""

    number: int
    since_s: float
    write: Write
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What is to be written next."""

    number: int
    """All facts with numbers up to this one are in here, or were taken before."""
    latents_number: int
    """The same for latents, those included that were dropped."""
    facts: tuple[Waiting, ...]
    """Everything but latents."""
    latents: tuple[Waiting, ...]
    acknowledged: Mapping[SessionId, int]
    trims: tuple[Trim, ...]


class WriteQueue:
    """Facts first, then latents; of acknowledgements and trims of a session only the last waits."""

    def __init__(self, now_s: Callable[[], float], limit_bytes: int = LIMIT_BYTES) -> None:
        self._now_s = now_s
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._number = 0
        self._facts: deque[Waiting] = deque()
        self._latents: deque[Waiting] = deque()
        self._acknowledged: dict[SessionId, int] = {}
        self._trims: dict[SessionId, Trim] = {}
        self._taken_since_s: float | None = None
        self._refuses = ""
        self._is_closed = False
        self.waiting_bytes = 0
        self.dropped_latents = 0
        """How many latents were not taken in."""

    def put(self, write: Write) -> int:
        """Have something written; returns its number, which is higher than all before. Never waits for the disk.

        Latents are dropped where they do not fit, or the disk is in trouble. Unavailable if a record or a cue cannot be
        made durable now, InvalidField if it cannot be written at all.
        """
        match write:
            case WriteRecord():
                payload = record_to_json(write.record)
            case WriteCue():
                payload = cue_to_json(write.cue)
            case WriteLatents() | WriteGiven():
                payload = write.data
            case _:
                payload = b""
        with self._changed:
            if isinstance(write, Durable):
                self._check()
            self._number += 1
            self._keep(Waiting(self._number, self._now_s(), write, payload))
            return self._number

    def _check(self) -> None:
        if self._refuses:
            raise Unavailable(f"the journal cannot be written: {self._refuses}")
        if len(self._facts) >= _MOST_FACTS:
            raise Unavailable("the journal's disk does not keep up")

    def _keep(self, waiting: Waiting) -> None:
        match waiting.write:
            case WriteAck():
                self._acknowledged[waiting.write.session] = waiting.write.block
            case Trim():
                self._trims[waiting.write.session] = waiting.write
            case WriteLatents():
                size = len(waiting.payload) + _OVERHEAD_BYTES
                if self._refuses or self.waiting_bytes + size > self._limit_bytes:
                    self.dropped_latents += 1
                    return
                self.waiting_bytes += size
                self._latents.append(waiting)
                self._changed.notify()
            case WriteRecord() | WriteCue() | WriteGiven() | WriteSteps() | WriteEnd() | TakeOver():
                self._facts.append(waiting)
                self._changed.notify()

    def take(self, most_bytes: int) -> Taken:
        """All facts that wait, and latents until they are `most_bytes` or more."""
        with self._changed:
            latents, size = [], 0
            waits = [waiting[0].since_s for waiting in (self._facts, self._latents) if waiting]
            self._taken_since_s = min(waits, default=None)
            while self._latents and size < most_bytes:
                latents.append(self._latents.popleft())
                size += len(latents[-1].payload) + _OVERHEAD_BYTES
            self.waiting_bytes -= size
            taken = Taken(
                number=self._number,
                latents_number=self._latents[0].number - 1 if self._latents else self._number,
                facts=tuple(self._facts),
                latents=tuple(latents),
                acknowledged=self._acknowledged,
                trims=tuple(self._trims.values()),
            )
            self._facts.clear()
            self._acknowledged, self._trims = {}, {}
            return taken

    def done(self) -> None:
        """What was taken last is written, or given up."""
        with self._changed:
            self._taken_since_s = None

    def wait(self, seconds: float) -> None:
        """Wait until there is something to write, the queue is closed, or so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._facts or self._latents or self._is_closed, seconds)

    def refuse(self, why: str) -> None:
        """Take in no record, no cue and no latents, for this reason, until it is empty."""
        with self._changed:
            self._refuses = why

    def close(self) -> None:
        """Nothing comes any more; wake up who waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @property
    def is_closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._is_closed

    @property
    def is_empty(self) -> bool:
        """Whether there are neither facts nor latents to write."""
        return not self._facts and not self._latents

    @property
    def has_facts(self) -> bool:
        """Whether there are records, cues or ends to write."""
        return bool(self._facts)

    @property
    def refuses(self) -> str:
        """Why records and cues are refused; empty if they are not."""
        return self._refuses

    @property
    def lag_s(self) -> float:
        """How long the oldest write that is not done has waited."""
        with self._changed:
            waits = [waiting[0].since_s for waiting in (self._facts, self._latents) if waiting]
            waits += [] if self._taken_since_s is None else [self._taken_since_s]
            return self._now_s() - min(waits) if waits else 0.0
