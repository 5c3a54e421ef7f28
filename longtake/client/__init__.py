"""The client that users import: streams, steering and watching; it imports grpcio, protobuf and `longtake.v1` only.

    async with Client("localhost:50051") as client:
        async with client.stream("a red ball bounces", StreamOptions(duration_s=20)) as stream:
            await stream.save("out.mp4")           # or: async for event in stream

`SyncClient` is the same for code without asyncio.
"""

from longtake.client.client import Client
from longtake.client.credentials import Credentials
from longtake.client.cue import StreamCue
from longtake.client.endings import ENDINGS
from longtake.client.errors import ClientError, Violation
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
    ReconnectingEvent,
    RecoveredEvent,
    RequestRefusedEvent,
    ResumedEvent,
    RetryingEvent,
    SegmentEvent,
    SkippedEvent,
    StreamEvent,
)
from longtake.client.options import (
    CHANGES,
    CODECS,
    DECODERS,
    PACES,
    ChangeName,
    CodecName,
    CueAt,
    OptionError,
    PaceName,
    StreamOptions,
    open_request,
)
from longtake.client.recording import CueSummary, Summary
from longtake.client.stream import Stream
from longtake.client.sync import SyncClient, SyncCue, SyncStream, SyncWatch
from longtake.client.watch import Watch

__all__ = [
    "CHANGES",
    "CODECS",
    "DECODERS",
    "ENDINGS",
    "PACES",
    "ChangeName",
    "Client",
    "ClientError",
    "ClosedEvent",
    "CodecName",
    "ContinuityName",
    "Credentials",
    "CueAcceptedEvent",
    "CueAppliedEvent",
    "CueAt",
    "CueSummary",
    "CueSupersededEvent",
    "DecoderName",
    "EndingName",
    "MovedEvent",
    "NoticeEvent",
    "OpenedEvent",
    "OptionError",
    "PaceName",
    "Reading",
    "ReconnectingEvent",
    "RecoveredEvent",
    "RequestRefusedEvent",
    "ResumedEvent",
    "RetryingEvent",
    "SegmentEvent",
    "SkippedEvent",
    "Stream",
    "StreamCue",
    "StreamEvent",
    "StreamOptions",
    "Summary",
    "SyncClient",
    "SyncCue",
    "SyncStream",
    "SyncWatch",
    "Violation",
    "Watch",
    "open_request",
]
