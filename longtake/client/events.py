"""What a stream tells its consumer: frames of the protocol as plain data, parts of a segment joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from longtake.v1 import longtake_pb2 as pb


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
    decoder: str
    """`full` or `tiny`: which network makes the pictures."""
    segment: int = 0
    """The number of the next segment."""
    continuity: str = "exact"
    """How a stream that was resumed goes on: exact, approximate or restarted."""
    resume_token: bytes = field(default=b"", repr=False)
    """What another call can go on with; empty where the server cannot, and for observers."""
    prompt: str = ""
    """The prompt that the next segment shows; empty where the server is an older one."""
    reading: Reading | None = None
    """What the model takes it for; None if it reads free text, or the server is an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEvent:
    """The encoded video of one block, whole."""

    index: int
    first_picture: int
    picture_count: int
    start_s: Fraction
    duration_s: Fraction
    prompt_version: int
    data: bytes
    keyframe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAcceptedEvent:
    cue_id: str
    block: int
    start_s: Fraction
    prompt: str = ""
    reading: Reading | None = None
    """What the model takes the prompt for; None if it reads free text."""


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

    continuity: str
    """exact: as if nothing had happened; approximate: from here on alike; restarted: from here on anew."""
    segment: int
    """The number of the next segment to come; those before it are what they would have been."""
    seconds: float
    """How long a part of the state was missing."""

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"a worker was lost: the stream went on after {self.seconds:.1f} s ({self.continuity})"


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

    continuity: str
    """How: exact, approximate or restarted."""
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

    @property
    def text(self) -> str:
        """What happened, in a line for people."""
        return f"the stream has moved to {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEvent:
    """The last event of every stream."""

    ending: str
    """Why the session ended: completed, client, operator, drained, lost, failed, access, quota, moved or abandoned."""
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
    | ReconnectingEvent
    | ResumedEvent
    | MovedEvent
    | ClosedEvent
)


class Decoder:
    """Turns the frames of one call into events."""

    def __init__(self) -> None:
        self._timescale = 1
        self._parts: list[bytes] = []

    def feed(self, frame: pb.StreamResponse | pb.WatchResponse) -> StreamEvent | None:
        """The event a frame completes; None for a part of a segment and for a frame of a newer server."""
        kind = frame.WhichOneof("frame")
        if kind is None:
            return None
        message = getattr(frame, kind)
        match message:
            case pb.Opened():
                return self._opened(message)
            case pb.Segment():
                return self._segment(message)
            case pb.CueAccepted():
                start_s = self._time(message.pts_ticks)
                return CueAcceptedEvent(
                    cue_id=message.cue_id, block=message.block, start_s=start_s,
                    prompt=message.prompt, reading=_reading(message),
                )  # fmt: skip
            case pb.CueApplied():
                start_s = self._time(message.pts_ticks)
                return CueAppliedEvent(
                    cue_id=message.cue_id, block=message.block, start_s=start_s,
                    prompt=message.prompt, reading=_reading(message),
                )  # fmt: skip
            case pb.CueSuperseded():
                return CueSupersededEvent(cue_id=message.cue_id, by_cue_id=message.by_cue_id, block=message.block)
            case pb.RequestRefused():
                return _refused(message)
            case pb.Notice():
                return NoticeEvent(text=message.text)
            case pb.Skipped():
                return SkippedEvent(first=message.first, count=message.count)
            case pb.Recovered():
                return RecoveredEvent(
                    continuity=_continuity(message.continuity),
                    segment=message.segment,
                    seconds=message.seconds,
                )
            case pb.Moved() | pb.Closed():
                return _last(message)
        return None

    def _opened(self, message: pb.Opened) -> OpenedEvent:
        self._timescale = message.timescale
        video = message.video
        return OpenedEvent(
            session_id=message.session_id,
            seed=message.seed,
            recipe_digest=message.recipe_digest,
            header=message.header,
            media_type=message.media_type,
            width=video.width,
            height=video.height,
            fps=Fraction(video.fps_numerator, video.fps_denominator),
            window=message.window,
            timescale=message.timescale,
            pictures=message.pictures if message.HasField("pictures") else None,
            decoder=_decoder(message.decoder),
            segment=message.segment,
            continuity=_continuity(message.continuity),
            resume_token=message.resume_token,
            prompt=message.prompt,
            reading=_reading(message),
        )

    def _segment(self, message: pb.Segment) -> SegmentEvent | None:
        if message.part == 0:
            self._parts.clear()
        self._parts.append(message.data)
        if message.part + 1 < message.part_count:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        return SegmentEvent(
            index=message.index,
            first_picture=message.first_picture,
            picture_count=message.picture_count,
            start_s=self._time(message.pts_ticks),
            duration_s=self._time(message.duration_ticks),
            prompt_version=message.prompt_version,
            data=data,
            keyframe=message.keyframe,
        )

    def _time(self, ticks: int) -> Fraction:
        return Fraction(ticks, self._timescale)


def _last(message: pb.Moved | pb.Closed) -> StreamEvent:
    """What ends a call."""
    if isinstance(message, pb.Moved):
        return MovedEvent(address=message.address, resume_token=message.resume_token)
    ending = pb.Ending.Name(message.ending).removeprefix("ENDING_").lower()
    return ClosedEvent(ending=ending, reason=message.reason, segments=message.segments)


def _decoder(number: pb.Decoder) -> str:
    """Its name; an older server says nothing and has one only."""
    known = number if number in pb.Decoder.values() and number else pb.DECODER_FULL
    return pb.Decoder.Name(known).removeprefix("DECODER_").lower()


def _continuity(number: pb.Continuity) -> str:
    """Its name; an older server says nothing."""
    known = number if number in pb.Continuity.values() and number else pb.CONTINUITY_EXACT
    return pb.Continuity.Name(known).removeprefix("CONTINUITY_").lower()


def _reading(message: pb.Opened | pb.CueAccepted | pb.CueApplied) -> Reading | None:
    found = message.reading
    if not message.HasField("reading"):
        return None
    return Reading(understood=tuple(found.understood), ignored=tuple(found.ignored), defaulted=tuple(found.defaulted))


def _refused(message: pb.RequestRefused) -> RequestRefusedEvent:
    return RequestRefusedEvent(
        code=message.code,
        message=message.message,
        field=message.field,
        allowed=message.allowed,
        cue_id=message.cue_id,
        earliest_block=message.earliest_block if message.HasField("earliest_block") else None,
    )
