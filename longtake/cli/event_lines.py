"""The events of a stream as JSON, one line each, for programs that follow a command."""

from __future__ import annotations

import re
from dataclasses import fields

from longtake.cli.json_lines import json_line
from longtake.client.events import SegmentEvent, StreamEvent

_UNSAID = {"header", "data", "resume_token", "opened"}
"""What is no text, or secret."""


def event_line(event: StreamEvent) -> bytes:
    """A line that names the event and has its fields, times in seconds; of a segment the size instead of the bytes."""
    said = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in _UNSAID}
    if isinstance(event, SegmentEvent):
        said["bytes"] = len(event.data)
    return line(_name(event), said)


def line(name: str, said: dict[str, object]) -> bytes:
    """A line of this name."""
    return f"{json_line({'event': name, **said})}\n".encode()


def _name(event: StreamEvent) -> str:
    """For instance `cue_applied` of CueAppliedEvent."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__.removesuffix("Event")).lower()
