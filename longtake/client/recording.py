"""A stream on its way into a file: what was received, how fast, and where cues became visible."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import Protocol

from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    MovedEvent,
    NoticeEvent,
    OpenedEvent,
    ReconnectingEvent,
    RecoveredEvent,
    RequestRefusedEvent,
    ResumedEvent,
    RetryingEvent,
    SegmentEvent,
    SkippedEvent,
    StreamEvent,
)
from longtake.client.mp4 import FromZero
from longtake.client.options import CueAt, cue_ids

SHOWN_BYTES = 32 << 20
"""A notebook shows a file up to so large within itself."""


class Sink(Protocol):
    """What a recording is written to; a file without a buffer is one."""

    def write(self, data: bytes, /) -> object:
        """Write it."""
        ...

    def close(self) -> object:
        """Nothing more comes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSummary:
    """Where a cue was asked for and where it was first shown, in seconds of the file."""

    cue_id: str
    asked_s: float | None
    shown_s: float | None
    latency_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a recording came to; in a notebook, the video itself."""

    output: str
    """The file."""
    session_id: str
    seed: int | None
    """None if the stream was not opened."""
    decoder: str
    """Which network made the pictures, which depend on it as on the seed."""
    recipe: str
    """By which recipe they were made, on which they depend as well; empty where the server is an older one."""
    ending: str
    """How the stream ended; `left` if somebody who watched it had enough, `broken` if nobody was told."""
    segments: int
    pictures: int
    video_s: float
    wall_s: float
    """Seconds from the request to the last segment."""
    realtime_factor: float
    first_segment_s: float | None
    """Seconds from the request to the first segment."""
    bytes: int
    cues: tuple[CueSummary, ...]

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON has them."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The summary as lines for people."""
        decoder = "" if self.decoder == "full" else f", {self.decoder} decoder"
        recipe = f", recipe {self.recipe}" if self.recipe else ""
        first = "none" if self.first_segment_s is None else f"{self.first_segment_s:.2f} s"
        lines = [
            f"{self.output}: {self.segments} segments, {self.pictures} pictures, {self.video_s:.2f} s, "
            f"{self.bytes / 1000:.0f} kB ({self.ending}, seed {self.seed}{recipe}{decoder})",
            f"{self.realtime_factor:.2f} x real time, first segment after {first}",
        ]
        for cue in self.cues:
            if cue.shown_s is None:
                lines.append(f"{cue.cue_id}: not shown")
            elif cue.latency_s is None:
                lines.append(f"{cue.cue_id}: shown from {cue.shown_s:.2f} s")
            else:
                lines.append(
                    f"{cue.cue_id}: asked for {cue.asked_s:.2f} s, shown from {cue.shown_s:.2f} s "
                    f"(latency {cue.latency_s:.2f} s)"
                )
        return lines

    def html(self) -> str:
        """The video, if it is an MP4 file of moderate size, and the lines for people; notebooks show it."""
        path, video = Path(self.output), ""
        if path.suffix in (".mp4", ".m4v") and path.is_file() and path.stat().st_size <= SHOWN_BYTES:
            data = base64.b64encode(path.read_bytes()).decode()
            video = f'<video controls loop src="data:video/mp4;base64,{data}"></video>'
        return video + "<br>".join(escape(line) for line in ["", *self.lines()])

    _repr_html_ = html


class Recording:
    """Takes the events of one stream, writes header and segments, and keeps count."""

    def __init__(
        self,
        open_output: Callable[[], Sink],
        name: str,
        cues: Sequence[CueAt] = (),
        *,
        keep_times: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_output` is called when the stream has been granted, so that a refusal leaves an older file alone.

        The recording begins at 0 s, as do the times of `cues`, unless `keep_times`: then they are those of the stream.
        """
        self._open_output = open_output
        self._name = name
        self._clock = clock
        self._times = None if keep_times else FromZero()
        self.start_s: Fraction | None = Fraction(0) if keep_times else None
        """The time in the stream that is 0 s in the recording; None before it is known."""
        self._asked: dict[str, float | Fraction | None] = dict(
            zip(cue_ids(cues, frozenset()), (cue.time_s for cue in cues), strict=True)
        )
        self._shown: dict[str, Fraction] = {}
        self._output: Sink | None = None
        self._began_s = clock()
        self._first_s: float | None = None
        self._last_s = self._began_s
        self.opened: OpenedEvent | None = None
        self.closed: ClosedEvent | None = None
        self.segments = 0
        self.pictures = 0
        self.video_s = Fraction(0)
        self._newest_s = Fraction(0)
        self.written_bytes = 0
        self._ending = "broken"
        """How it ended, if it was not told."""

    def take(self, event: StreamEvent) -> str:
        """Record an event; returns what a person should read about it, empty if nothing."""
        match event:
            case OpenedEvent():
                self.opened = event
                self._output = self._open_output()
                self._write(event.header)
            case SegmentEvent():
                self._segment(event)
            case CueAcceptedEvent(cue_id=cue):
                self._asked.setdefault(cue, None)
            case CueAppliedEvent(cue_id=cue, start_s=start_s):
                self._asked.setdefault(cue, None)
                self._shown[cue] = start_s
            case ClosedEvent():
                self.closed = event
            case (
                NoticeEvent() | RetryingEvent() | ReconnectingEvent() | ResumedEvent() | MovedEvent() | RecoveredEvent()
            ):
                return event.text
            case RequestRefusedEvent(message=message):
                return message
            case CueSupersededEvent(cue_id=cue, by_cue_id=by, block=block):
                return f"{cue} gives way to {by} at block {block}"
            case SkippedEvent(first=first, count=count):
                return f"segments {first} to {first + count - 1} were missed"
        return ""

    def leave(self) -> None:
        """Nobody wants more of it, though the stream may go on."""
        self._ending = "left"

    def close(self) -> None:
        """Close the file; what is in it plays."""
        if self._output is not None:
            self._output.close()

    @property
    def lag_s(self) -> float:
        """How late the newest segment came for a player that began with the first one; 0 or less is in time."""
        if self._first_s is None or self.opened is None:
            return 0.0
        return self._last_s - self._first_s - float(self.video_s - self._newest_s)

    @property
    def realtime_factor(self) -> float:
        """Seconds of video for each second since the request."""
        elapsed_s = self._last_s - self._began_s
        return float(self.video_s) / elapsed_s if elapsed_s > 0 else 0.0

    def summary(self) -> Summary:
        """The summary of what has come so far."""
        cues = []
        for cue, asked in self._asked.items():
            shown = self._in_file(self._shown.get(cue))
            latency_s = None if shown is None or asked is None else float(shown) - float(asked)
            cues.append(
                CueSummary(
                    cue_id=cue,
                    asked_s=None if asked is None else float(asked),
                    shown_s=None if shown is None else float(shown),
                    latency_s=latency_s,
                )
            )
        return Summary(
            output=self._name,
            session_id=self.opened.session_id if self.opened else "",
            seed=self.opened.seed if self.opened else None,
            decoder=self.opened.decoder if self.opened else "",
            recipe=self.opened.recipe if self.opened else "",
            ending=self.closed.ending if self.closed else self._ending,
            segments=self.segments,
            pictures=self.pictures,
            video_s=float(self.video_s),
            wall_s=self._last_s - self._began_s,
            realtime_factor=self.realtime_factor,
            first_segment_s=None if self._first_s is None else self._first_s - self._began_s,
            bytes=self.written_bytes,
            cues=tuple(cues),
        )

    def _in_file(self, time_s: Fraction | None) -> Fraction | None:
        return None if time_s is None or self.start_s is None else time_s - self.start_s

    def _segment(self, event: SegmentEvent) -> None:
        if self.start_s is None:
            self.start_s = event.start_s
        self._last_s = self._clock()
        if self._first_s is None:
            self._first_s = self._last_s
        self.segments += 1
        self.pictures += event.picture_count
        self.video_s += event.duration_s
        self._newest_s = event.duration_s
        media_type = "" if self.opened is None else self.opened.media_type
        self._write(event.data if self._times is None else self._times.moved(event.data, media_type))

    def _write(self, data: bytes) -> None:
        if self._output is None:
            raise ValueError("a segment came before the stream was opened")
        self._output.write(data)
        self.written_bytes += len(data)
