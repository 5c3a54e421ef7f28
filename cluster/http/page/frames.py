"""What a browser may say on its WebSocket: JSON in, validated frozen objects out."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from longtake.core.errors import InvalidField

_MAX_NUMBER = 1 << 40
_LONGEST_S = 1e9
_LAST_SEED = 2**64 - 1
_Count = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
_Seconds = Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False, strict=False)]
_SECRETS = frozenset(("token", "resume_token"))
_SessionId = Annotated[str, Field(min_length=1, max_length=256)]


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OpenFrame(_Frame):
    """The first frame of a connection that opens a stream of its own."""

    type: Literal["open"]
    token: str = Field(default="", repr=False)
    prompt: str
    pace: Literal["realtime", "fast"] = "fast"
    seed: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] | None = None
    """The seed as a string, because browsers' numbers are exact only up to 2^53."""
    duration_s: _Seconds | None = None
    window: Annotated[int, Field(ge=0, le=1024)] = 0
    """The number of segments that may wait for the browser; 0 leaves it to the server."""
    fork: _SessionId | None = None

    @property
    def seed_number(self) -> int | None:
        """The seed as a number; InvalidField if it is too large."""
        seed = None if self.seed is None else int(self.seed)
        if seed is not None and seed > _LAST_SEED:
            raise InvalidField("seed", self.seed, "0 to 2^64 - 1")
        return seed


class WatchFrame(_Frame):
    """The first frame of a connection that watches somebody's stream."""

    type: Literal["watch"]
    token: str = Field(default="", repr=False)
    session_id: _SessionId


class ResumeFrame(_Frame):
    """The first frame of a connection that goes on with the stream of one that broke."""

    type: Literal["resume"]
    token: str = Field(default="", repr=False)
    resume_token: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,64}$", repr=False)]
    """The newest that the browser was told, in hexadecimal digits."""
    cursor: _Count | None = None
    """The last segment that was shown."""


class CueFrame(_Frame):
    type: Literal["cue"]
    id: Annotated[str, Field(min_length=1, max_length=64)]
    prompt: str
    time_s: _Seconds | None = None


class AckFrame(_Frame):
    """The browser has shown this segment and all before it."""

    type: Literal["ack"]
    segment: _Count


class CommandFrame(_Frame):
    type: Literal["pause", "play", "close"]


Frame = TypeVar("Frame")

FirstFrame = OpenFrame | WatchFrame | ResumeFrame
LaterFrame = CueFrame | AckFrame | CommandFrame

_FIRST: TypeAdapter[FirstFrame] = TypeAdapter(Annotated[FirstFrame, Field(discriminator="type")])
_LATER: TypeAdapter[LaterFrame] = TypeAdapter(Annotated[LaterFrame, Field(discriminator="type")])


def first_frame(text: str) -> FirstFrame:
    """The frame that a browser begins with; InvalidField for anything else."""
    return _parsed(_FIRST, text)


def later_frame(text: str) -> LaterFrame:
    """Any later frame; InvalidField for anything else."""
    return _parsed(_LATER, text)


def _parsed(adapter: TypeAdapter[Frame], text: str) -> Frame:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "frame"
        value = first["input"] if isinstance(first["input"], (str, int, float)) else None
        shown = f"{value[:40]}…" if isinstance(value, str) and len(value) > 40 else value
        raise InvalidField(field, "(not shown)" if field in _SECRETS else shown, _allowed(first["msg"])) from None


def _allowed(message: str) -> str:
    return message.removeprefix("Input should be ")
