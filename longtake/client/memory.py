"""What a client knows of its stream beside the call, so that it can go on with it on another one."""

from __future__ import annotations

from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    OpenedEvent,
    RequestRefusedEvent,
    SegmentEvent,
    StreamEvent,
)
from longtake.v1 import longtake_pb2 as pb


class Gap(Exception):
    """The server left out a segment."""


class Remembered:
    """What was told and asked for; its size is bounded by the stream's window and the cues under way.

    After a broken call the server repeats everything since the last acknowledged segment: of that, only what is new
    counts. The client repeats what may not have arrived: cues without an answer, pause or play, the wish to end.
    """

    def __init__(self, cues: list[pb.Cue], cursor: int | None) -> None:
        """`cues` are those that the stream is opened with, `cursor` is the last segment consumed before."""
        self.token = b""
        """What the next call shows; empty if there is nothing to go on with."""
        self.cursor = cursor
        """The last segment that was acknowledged."""
        self.closing = False
        """Whether the end was asked for."""
        self._cues = list(cues)
        """Cues without an answer."""
        self._playing: bool | None = None
        """What was asked for last, if either was."""
        self._next = None if cursor is None else cursor + 1
        """The segment that comes next; None until it is known."""
        self._told: list[tuple[int, StreamEvent]] = []
        """What was told beside segments since the last acknowledged one, each with the segment after which it came."""
        self._repeated: list[StreamEvent] = []
        """What the server may be repeating of that."""
        self._cursor_shown = cursor
        self.segments = 0
        """How many segments have come."""

    @property
    def outstanding(self) -> int:
        """How many segments have come that are not acknowledged."""
        if self._next is None:
            return 0
        return self.segments if self.cursor is None else max(0, self._next - 1 - self.cursor)

    # --- what is asked for ------------------------------------------------------------------------------------------

    def asked(self, request: pb.StreamRequest) -> None:
        """Note what is about to be asked for."""
        match request.WhichOneof("frame"):
            case "cue":
                self._cues.append(request.cue)
            case "pause":
                self._playing = False
            case "play":
                self._playing = True
            case "close":
                self.closing = True
            case "ack":
                self._acknowledge(request.ack.segment)

    def _acknowledge(self, segment: int) -> None:
        if self.cursor is None or segment > self.cursor:
            self.cursor = segment
            self._told = [(after, event) for after, event in self._told if after >= segment]

    def resumption(self) -> pb.StreamRequest:
        """The first frame of a call that goes on."""
        self._cursor_shown = self.cursor
        return pb.StreamRequest(open=pb.Open(resume_token=self.token, cursor=self.cursor))

    def repetition(self) -> list[pb.StreamRequest]:
        """The frames that follow it, once it is answered."""
        requests = [pb.StreamRequest(cue=cue) for cue in self._cues]
        if self.cursor != self._cursor_shown and self.cursor is not None:
            requests.append(pb.StreamRequest(ack=pb.Ack(segment=self.cursor)))
        if self._playing is not None:
            wish = pb.StreamRequest(play=pb.Play()) if self._playing else pb.StreamRequest(pause=pb.Pause())
            requests.append(wish)
        return requests + ([pb.StreamRequest(close=pb.Close())] if self.closing else [])

    # --- what is told -----------------------------------------------------------------------------------------------

    def opened(self, opened: OpenedEvent) -> None:
        """The first call has begun; what was told before is never repeated."""
        self.token = opened.resume_token
        self._told.clear()

    def resumed(self, opened: OpenedEvent) -> None:
        """A call goes on: from here on the server may repeat itself."""
        self.token = opened.resume_token
        self._repeated = [event for _, event in self._told]

    def is_new(self, event: StreamEvent) -> bool:
        """Whether the client was not told this before; if so, note it. Gap if a segment is left out before it."""
        if isinstance(event, SegmentEvent):
            return self._is_new_segment(event)
        if event in self._repeated:
            self._repeated.remove(event)
            return False
        if isinstance(event, CueAcceptedEvent | RequestRefusedEvent) and event.cue_id and not self._answered(event):
            return False  # the answer to a cue that was asked for twice
        if not isinstance(event, OpenedEvent | ClosedEvent):
            self._told.append((-1 if self._next is None else self._next - 1, event))
        return True

    def _is_new_segment(self, event: SegmentEvent) -> bool:
        if self._next is not None and event.index < self._next:
            return False
        if self._next is not None and event.index > self._next:
            raise Gap(f"segment {event.index} came where {self._next} was due")
        self._next = event.index + 1
        self.segments += 1
        self._repeated.clear()
        return True

    def _answered(self, event: CueAcceptedEvent | RequestRefusedEvent) -> bool:
        """Whether a cue of this id had no answer yet; it has one now."""
        for cue in self._cues:
            if cue.id == event.cue_id:
                self._cues.remove(cue)
                return True
        return False
