"""The client that users import: streams, steering and watching; it imports grpcio, protobuf and `longtake.v1` only.

    async with Client("localhost:50051") as client:
        async with client.stream("a red ball bounces", StreamOptions(duration_s=20)) as stream:
            async for event in stream:
                ...                                # SegmentEvent, CueAppliedEvent, …, last a ClosedEvent

`SyncClient` is the same for code without asyncio.
"""

from longtake.client.client import Client
from longtake.client.credentials import Credentials
from longtake.client.errors import ClientError, Violation
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    MovedEvent,
    NoticeEvent,
    OpenedEvent,
    Reading,
    ReconnectingEvent,
    RecoveredEvent,
    RequestRefusedEvent,
    ResumedEvent,
    SegmentEvent,
    SkippedEvent,
    StreamEvent,
)
from longtake.client.options import CODECS, DECODERS, PACES, CueAt, OptionError, StreamOptions, open_request
from longtake.client.stream import ENDINGS, Stream
from longtake.client.sync import SyncClient, SyncStream

__all__ = [
    "CODECS",
    "DECODERS",
    "ENDINGS",
    "PACES",
    "Client",
    "ClientError",
    "ClosedEvent",
    "Credentials",
    "CueAcceptedEvent",
    "CueAppliedEvent",
    "CueAt",
    "CueSupersededEvent",
    "MovedEvent",
    "NoticeEvent",
    "OpenedEvent",
    "OptionError",
    "Reading",
    "ReconnectingEvent",
    "RecoveredEvent",
    "RequestRefusedEvent",
    "ResumedEvent",
    "SegmentEvent",
    "SkippedEvent",
    "Stream",
    "StreamEvent",
    "StreamOptions",
    "SyncClient",
    "SyncStream",
    "Violation",
    "open_request",
]
