"""Landing: a session that comes from another server is put on disk, and whoever brought it waits until it is there.

Theory of operation. Record and cues go first, because only then the session has files. Its latents are many at once, so
they are appended no faster than the disk takes them: what waits for it is bounded, and beyond that it would be dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from cluster.journal.writer import Reached, WriterFigures
from cluster.journal.writes import Durable, Write, WriteAck, WriteLatents
from longtake.core.errors import Unavailable

_AHEAD_BYTES = 64 << 20
"""So much may wait for the disk beside what is appended here."""
_LOOK_S = 0.02


class Appender(Protocol):
    """What appends to the journal on disk (cluster.journal.writer.JournalWriter)."""

    def append(self, write: Write) -> int:
        """See JournalWriter."""
        ...

    @property
    def is_healthy(self) -> bool:
        """See JournalWriter."""
        ...

    @property
    def figures(self) -> WriterFigures:
        """See JournalWriter."""
        ...


class Landing:
    """Appends what comes from elsewhere, and knows how far the disk is. On the engine's loop."""

    def __init__(self, writer: Appender) -> None:
        self._writer = writer
        self._reached = self._latents = 0
        self._failed: set[int] = set()
        self._landing: set[int] = set()
        """Numbers of facts that are waited for."""

    def reached(self, reached: Reached) -> None:
        """The disk has come further."""
        self._reached, self._latents = max(self._reached, reached.number), max(self._latents, reached.latents)
        self._failed |= self._landing.intersection(reached.failed)

    async def land(self, facts: Sequence[Durable], writes: Iterable[WriteLatents | WriteAck]) -> None:
        """Put all of a session on disk, its facts first; Unavailable if that cannot be now."""
        numbers = {self._writer.append(fact) for fact in facts}
        self._landing |= numbers
        try:
            while self._reached < max(numbers):
                await self._look()
            if self._failed & numbers:
                raise Unavailable("the journal cannot be written")
        finally:
            self._landing -= numbers
            self._failed -= numbers
        last = 0
        for write in writes:
            while self._writer.figures.waiting_bytes > _AHEAD_BYTES:
                await self._look()
            last = self._writer.append(write)
        while self._latents < last:
            await self._look()

    async def _look(self) -> None:
        """Give the disk time; Unavailable if it is in trouble."""
        if not self._writer.is_healthy:
            raise Unavailable("the journal cannot be written now")
        await asyncio.sleep(_LOOK_S)
