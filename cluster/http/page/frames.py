"""What a browser may say on its WebSocket: JSON in, validated frozen objects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from longtake.client.pictures import MAX_BYTES
from longtake.core.errors import InvalidField, InvalidFields

_MAX_NUMBER = 1 << 40
_SHORTEST_S = 1e-3
_LONGEST_S = 1e9
_LAST_SEED = 2**64 - 1
_Count = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
_Seconds = Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False)]
_Length = Annotated[float, Field(ge=_SHORTEST_S, le=_LONGEST_S, allow_inf_nan=False)]
_MAX_SHOWN = 40
_MAX_ID_LENGTH = 64
_SECRETS = frozenset(("token", "resume_token"))
_MAX_REFERENCES = 8
_PictureBytes = Annotated[int, Field(ge=1, le=MAX_BYTES)]
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
    duration_s: _Length | None = None
    """Left out or null: without an end."""
    window: Annotated[int, Field(ge=0, le=1024)] = 0
    """The number of segments that may wait for the browser; 0 leaves it to the server."""
    fork: _SessionId | None = None
    recipe: Annotated[str, Field(max_length=63)] = ""
    """The name of a recipe; empty leaves it to the server, and a fork has that of the stream it goes on from."""
    given_bytes: Annotated[tuple[_PictureBytes, ...], Field(max_length=1)] = ()
    """The size of the picture that it begins with, if there is one: its bytes follow."""
    references_bytes: Annotated[tuple[_PictureBytes, ...], Field(max_length=_MAX_REFERENCES)] = ()
    """The same of the images that it looks at, which follow behind it."""

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
    cut: bool = False
    """Whether a new shot begins with it."""
    back_to_shot: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    """The shot that the new one remembers again: then it is a cut."""


class AckFrame(_Frame):
    """The browser has shown this segment and all before it."""

    type: Literal["ack"]
    segment: _Count


class CommandFrame(_Frame):
    type: Literal["pause", "play", "close"]


Frame = TypeVar("Frame")
_FRAMES: Mapping[str, type[_Frame]] = {
    "open": OpenFrame, "watch": WatchFrame, "resume": ResumeFrame, "cue": CueFrame, "ack": AckFrame,
    "pause": CommandFrame, "play": CommandFrame, "close": CommandFrame,
}  # fmt: skip
_TIMES = {
    "duration_s": f"a number of seconds, {_SHORTEST_S:g} to {_LONGEST_S:g}; without it the stream has no end",
    "time_s": f"a number of seconds, 0 to {_LONGEST_S:g}; without it the cue takes the next block",
}

FirstFrame = OpenFrame | WatchFrame | ResumeFrame
LaterFrame = CueFrame | AckFrame | CommandFrame

_FIRST: TypeAdapter[FirstFrame] = TypeAdapter(Annotated[FirstFrame, Field(discriminator="type")])
_LATER: TypeAdapter[LaterFrame] = TypeAdapter(Annotated[LaterFrame, Field(discriminator="type")])


class NoFrame(InvalidField):
    """What a browser said is no frame at all, so that its connection cannot go on."""


class WrongFrame(InvalidFields):
    """Fields of a frame hold what is not allowed."""

    def __init__(self, errors: Sequence[InvalidField], frame: object) -> None:
        super().__init__(errors)
        self.field = errors[0].field
        self.allowed = errors[0].allowed
        named = frame.get("id") if isinstance(frame, dict) else None
        self.id = named[:_MAX_ID_LENGTH] if isinstance(named, str) else ""
        """That of the cue, if it is one."""


def first_frame(text: str) -> FirstFrame:
    """The frame that a browser begins with; NoFrame or WrongFrame, with all that is wrong, for anything else."""
    return _parsed(_FIRST, text, "open, watch or resume")


def later_frame(text: str) -> LaterFrame:
    """Any later frame; NoFrame or WrongFrame for anything else."""
    return _parsed(_LATER, text, "cue, ack, pause, play or close")


def _parsed(adapter: TypeAdapter[Frame], text: str, types: str) -> Frame:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False)
        whole = next((one for one in found if len(one["loc"]) < 2), None)
        if whole is not None:  # no JSON, no object, or of no type that there is
            raise _no_frame(whole, types) from None
        raise WrongFrame([_wrong(one) for one in found], from_json(text)) from None


def _no_frame(found: ErrorDetails, types: str) -> NoFrame:
    frame = found["input"]
    if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return NoFrame("type", _shown(frame.get("type")), types)
    return NoFrame("frame", _shown(frame), f"an object in JSON ({_allowed(found['msg'])})")


def _wrong(found: ErrorDetails) -> InvalidField:
    field = ".".join(str(part) for part in found["loc"][1:])
    if field in _SECRETS:
        return InvalidField(field, "(not shown)", _allowed(found["msg"]))
    match found["type"]:
        case "missing":
            return InvalidField(field, None, "it must be there")
        case "extra_forbidden":
            known = _FRAMES[str(found["loc"][0])].model_fields
            return InvalidField(field, _shown(found["input"]), f"one of the fields {', '.join(known)}")
        case "string_pattern_mismatch" if field == "seed":
            return InvalidField(field, _shown(found["input"]), "a string of 1 to 20 digits")
        case "finite_number":
            return InvalidField(field, "no finite number", _TIMES.get(field, "a finite number"))
        case "greater_than_equal" | "less_than_equal" | "float_type" if field in _TIMES:
            return InvalidField(field, _shown(found["input"]), _TIMES[field])
    return InvalidField(field, _shown(found["input"]), _allowed(found["msg"]))


def _shown(value: object) -> object:
    """What of a value may be told back: strings cut, and of what holds other values only what it is."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…"
    if isinstance(value, int) and not -_LAST_SEED <= value <= _LAST_SEED:
        return "(a number of more than 64 bits)"
    return value if value is None or isinstance(value, (bool, int, float)) else f"({type(value).__name__})"


def _allowed(message: str) -> str:
    return message.removeprefix("Input should be ")
