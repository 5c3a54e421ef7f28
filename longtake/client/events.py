"""What a stream tells its consumer, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from longtake.client.frames import Pictures

ContinuityName = Literal["exact", "approximate", "restarted"]
"""How a stream goes on: as if nothing had happened, from here on alike, or from here on anew."""
DecoderName = Literal["full", "tiny"]
EndingName = Literal[
    "unspecified",
    "completed",
    "client",
    "operator",
    "drained",
    "lost",
    "failed",
    "access",
    "quota",
    "moved",
    "abandoned",
    "orphaned",
]
"""Why a stream ended; `unspecified` if a newer server has a reason that is not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the model takes a prompt for."""

    understood: tuple[str, ...]
    """What was understood, each as `attribute: value`."""
    ignored: tuple[str, ...]
    """Words that have no effect."""
    defaulted: tuple[str, ...]
    """What the prompt does not say and the model takes instead, each as `attribute: value`."""

    @property
    def text(self) -> str:
        """It in one line."""
        parts = {"understood": self.understood, "ignored": self.ignored, "taken instead": self.defaulted}
        return "; ".join(f"{name} {', '.join(found)}" for name, found in parts.items() if found)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEvent:
    """The stream begins; write `header` first."""

    session_id: str
    seed: int
    recipe_digest: str
    header: bytes
    media_type: str
    width: int
    height: int
    fps: Fraction
    window: int
    timescale: int
    pictures: int | None
    decoder: DecoderName
    """Which network makes the pictures."""
    segment: int = 0
    """The number of the next segment."""
    continuity: ContinuityName = "exact"
    """How a stream that was resumed goes on."""
    resume_token: bytes = field(default=b"", repr=False)
    """What another call can go on with; empty where the server cannot, and for observers."""
    prompt: str = ""
    """The prompt that the next segment shows; empty where the server is an older one."""
    reading: Reading | None = None
    """What the model takes it for; None if it reads free text, or the server is an older one."""
    recipe: str = ""
    """The name of its recipe; empty where the server is an older one."""
    given_segments: int = 0
    """So many segments at the beginning show what was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEvent:
    """The encoded video of one block, whole."""

    index: int
    first_picture: int
    picture_count: int
    start_s: Fraction
    duration_s: Fraction
    prompt_version: int
    data: bytes = field(repr=False)
    keyframe: bool
    steps: int = 0
    """Denoising steps that its block took; 0 if that is not known, or the server is an older one."""
    shot: int = 0
    """Number of the shot that it belongs to: 0, and 1 more with each cut."""
    opened: OpenedEvent | None = field(default=None, repr=False, compare=False)
    """What its stream began with: the header that goes before it, and the size of its pictures."""

    def frames(self) -> Pictures:
        """Its pictures, decoded: uint8 of (picture_count, height, width, 3), RGB.

        Needs the extra `frames` (PyAV and numpy): ImportError, which says so, without it. ValueError if it was made by
        hand and does not know its stream.
        """
        from longtake.client.frames import decoded

        stream = self.opened
        if stream is None:
            raise ValueError(
                "this segment does not know its stream, so neither the size nor the header of its pictures"
            )
        return decoded(
            self.data,
            header=stream.header,
            media_type=stream.media_type,
            width=stream.width,
            height=stream.height,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAcceptedEvent:
    cue_id: str
    block: int
    start_s: Fraction
    prompt: str = ""
    reading: Reading | None = None
    """What the model takes the prompt for; None if it reads free text."""
    shot: int | None = None
    """Number of the shot that begins with it; None if it does not cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAppliedEvent:
    """The next segment is the first that shows the cue."""

    cue_id: str
    block: int
    start_s: Fraction
    prompt: str = ""
    reading: Reading | None = None
    """What the model takes the prompt for; None if it reads free text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSupersededEvent:
    """The cue `by_cue_id` took the block; this one will not be shown."""

    cue_id: str
    by_cue_id: str
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefusedEvent:
    """Something asked for on the open stream cannot be; the stream goes on."""

    code: int
    """The status, as a google.rpc.Code."""
    message: str
    field: str
    allowed: str
    cue_id: str
    earliest_block: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEvent:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedEvent:
    """Segments that a watcher does not get."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredEvent:
    """A part of the stream's state was lost with a worker or a server, and is there again."""

    continuity: ContinuityName
    segment: int
    """The number of the next segment to come; those before it are what they would have been."""
    seconds: float
    """How long a part of the state was missing."""

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"a worker was lost: the stream went on after {self.seconds:.1f} s ({self.continuity})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryingEvent:
    """There is no room for the stream; it is asked for again, see `StreamOptions.room_s`."""

    after_s: float
    reason: str

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"{self.reason} (asking again in {self.after_s:g} s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectingEvent:
    """The connection is broken; the stream tries to go on."""

    attempt: int
    """The attempt that comes next, from 1 on."""
    reason: str

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"the connection is broken ({self.reason}); attempt {self.attempt} to go on"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedEvent:
    """The stream goes on: nothing is missing, nothing comes twice."""

    continuity: ContinuityName
    segment: int
    """The number of the segment after the last one that was acknowledged."""
    resume_token: bytes = field(default=b"", repr=False)
    """What another call can go on with from now on, in the place of the one that was told before."""

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"the stream goes on after segment {self.segment - 1} ({self.continuity})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedEvent:
    """The stream goes on at another server, by itself: a ResumedEvent follows."""

    address: str
    """HOST:PORT of that server; the one before is not spoken to again."""
    resume_token: bytes = field(default=b"", repr=False)
    """What resumes the stream there."""
    session_id: str = ""
    """Its name there; empty if whoever moved it did not say."""

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"the stream has moved to {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEvent:
    """The last event of every stream."""

    ending: EndingName
    reason: str
    segments: int


StreamEvent = (
    OpenedEvent
    | SegmentEvent
    | CueAcceptedEvent
    | CueAppliedEvent
    | CueSupersededEvent
    | RequestRefusedEvent
    | NoticeEvent
    | SkippedEvent
    | RecoveredEvent
    | RetryingEvent
    | ReconnectingEvent
    | ResumedEvent
    | MovedEvent
    | ClosedEvent
)
