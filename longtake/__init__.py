"""Longtake serves hour-scale, steerable video streams; here lies what its users import.

`from longtake import Client` and its fellows bring the client, which needs grpcio and protobuf alone. Nothing is
imported before it is asked for: who uses the core has no need of gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longtake.client import *  # noqa: F403  # what is exported there is exported here

    __version__: str


NAMES = frozenset(
    {
        "CHANGES",
        "CODECS",
        "DECODERS",
        "ENDINGS",
        "PACES",
        "Client",
        "ChangeName",
        "ClientError",
        "ClosedEvent",
        "CodecName",
        "ContinuityName",
        "Credentials",
        "StreamCue",
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
    }
)
"""What longtake.client exports."""


def __getattr__(name: str) -> object:
    """The names of longtake.client, and `__version__`."""
    if name == "__all__":
        return sorted(NAMES)
    if name == "__version__":
        from importlib.metadata import version  # which takes a while to be imported

        return version("longtake")
    if name not in NAMES:  # it may be a package
        raise AttributeError(f"module 'longtake' has no attribute {name!r}")
    return getattr(import_module("longtake.client"), name)
