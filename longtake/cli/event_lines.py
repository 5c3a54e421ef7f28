"""The events of a stream as JSON, one line each, for programs that follow a command."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from fractions import Fraction

from longtake.client.events import StreamEvent

_UNSAID = {"header", "data", "resume_token", "opened"}
"""What is no text, or secret."""


def event_line(event: StreamEvent) -> bytes:
    """A line that names the event and has its fields, times in seconds; of a segment the size instead of the bytes."""
    said = {field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.name not in _UNSAID}
    data = getattr(event, "data", None)
    if data is not None:
        said["bytes"] = len(data)
    return line(_name(event), said)


def line(name: str, said: dict[str, object]) -> bytes:
    """A line of this name."""
    return json.dumps({"event": name, **said}, ensure_ascii=False).encode() + b"\n"


def _name(event: StreamEvent) -> str:
    """For instance `cue_applied` of CueAppliedEvent."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__.removesuffix("Event")).lower()


def _plain(value: object) -> object:
    match value:
        case Fraction():
            return float(value)
        case tuple():
            return [_plain(item) for item in value]
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
