"""What the journal on disk is told: plain data, one type for each thing that is written or may go."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.journal.facts import SessionRecord
from cluster.journal.reading import StoredSession
from longtake.core.adoption import PlacedCue, StepsSettled
from longtake.core.effects import Trim
from longtake.core.work import LatentRef, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRecord:
    """A session begins, or what its record says has changed (a new token, say). Durable before anybody is told."""

    record: SessionRecord

    @property
    def session(self) -> SessionId:
        return self.record.session


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCue:
    """A cue has its block. Durable before anybody is told."""

    session: SessionId
    cue: PlacedCue


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteGiven:
    """The latents of a block that a session begins with, which nothing could make again. Durable before anybody is
    told, and kept as long as the record is."""

    ref: LatentRef
    data: bytes
    """Little-endian float32."""

    @property
    def session(self) -> SessionId:
        return self.ref.session


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSteps:
    """Blocks are begun under another load. Durable before the segment of the first of them is told."""

    settled: StepsSettled

    @property
    def session(self) -> SessionId:
        return self.settled.session


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLatents:
    """Latents that passed between steps, or a finished block. A crash may lose the last seconds of them."""

    ref: LatentRef
    version: int
    """Of the conditioning that they were made with."""
    data: bytes
    """Little-endian float32."""

    @property
    def session(self) -> SessionId:
        return self.ref.session


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAck:
    """The client has consumed all segments up to that of `block`. Written with the next latents that are synced."""

    session: SessionId
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteEnd:
    """The session has ended: its files go."""

    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """Go on with a session that was found when the server started; what is told of it before this is lost.

    When the number of this is reached, all that was found of it is durable, or will be when the disk has recovered.
    """

    stored: StoredSession

    @property
    def session(self) -> SessionId:
        return self.stored.record.session


Write = WriteRecord | WriteCue | WriteGiven | WriteSteps | WriteLatents | WriteAck | Trim | WriteEnd | TakeOver
"""Of a Trim the journal on disk minds the floors and what is held; what sinks are it knows from the record."""

Durable = WriteRecord | WriteCue | WriteGiven | WriteSteps
"""What is synced at once, and refused while the disk is in trouble."""
