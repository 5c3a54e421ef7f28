"""From frames of the protocol to events: parts of a segment are joined, what is not known is left out."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from longtake.client.events import (
    ClosedEvent,
    ContinuityName,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    DecoderName,
    EndingName,
    MovedEvent,
    NoticeEvent,
    OpenedEvent,
    Reading,
    RecoveredEvent,
    RequestRefusedEvent,
    SegmentEvent,
    SkippedEvent,
    StreamEvent,
)
from longtake.v1 import longtake_pb2 as pb


class Decoder:
    """Turns the frames of one call into events."""

    def __init__(self) -> None:
        self._timescale = 1
        self._parts: list[bytes] = []
        self._stream: OpenedEvent | None = None

    def feed(self, frame: pb.StreamResponse | pb.WatchResponse) -> StreamEvent | None:
        """The event a frame completes; None for a part of a segment and for a frame of a newer server."""
        kind = frame.WhichOneof("frame")
        if kind is None:
            return None
        message = getattr(frame, kind)
        match message:
            case pb.Opened():
                self._stream = self._opened(message)
                return self._stream
            case pb.Segment():
                return self._segment(message)
            case pb.CueAccepted() | pb.CueApplied():
                start_s, reading = self._time(message.pts_ticks), _reading(message)
                if isinstance(message, pb.CueApplied):
                    return CueAppliedEvent(
                        cue_id=message.cue_id, block=message.block, start_s=start_s, prompt=message.prompt,
                        reading=reading,
                    )  # fmt: skip
                shot = message.shot if message.HasField("shot") else None
                return CueAcceptedEvent(
                    cue_id=message.cue_id, block=message.block, start_s=start_s, prompt=message.prompt, reading=reading,
                    shot=shot,
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
            recipe=message.recipe,
            given_segments=message.given_segments,
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
            steps=message.steps,
            shot=message.shot,
            opened=self._stream,
        )

    def _time(self, ticks: int) -> Fraction:
        return Fraction(ticks, self._timescale)


def _last(message: pb.Moved | pb.Closed) -> StreamEvent:
    """What ends a call."""
    if isinstance(message, pb.Moved):
        return MovedEvent(address=message.address, resume_token=message.resume_token, session_id=message.session_id)
    return ClosedEvent(ending=_ending(message.ending), reason=message.reason, segments=message.segments)


def _ending(number: pb.Ending) -> EndingName:
    """Its name; a newer server may have another one."""
    known = number if number in pb.Ending.values() else pb.ENDING_UNSPECIFIED
    return cast(EndingName, pb.Ending.Name(known).removeprefix("ENDING_").lower())


def _decoder(number: pb.Decoder) -> DecoderName:
    """Its name; an older server says nothing and has one only."""
    known = number if number in pb.Decoder.values() and number else pb.DECODER_FULL
    return cast(DecoderName, pb.Decoder.Name(known).removeprefix("DECODER_").lower())


def _continuity(number: pb.Continuity) -> ContinuityName:
    """Its name; an older server says nothing."""
    known = number if number in pb.Continuity.values() and number else pb.CONTINUITY_EXACT
    return cast(ContinuityName, pb.Continuity.Name(known).removeprefix("CONTINUITY_").lower())


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
