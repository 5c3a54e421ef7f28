"""The facts of a session that must outlive the server, and the one strict form of JSON in which they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from longtake.core.adoption import PlacedCue
from longtake.core.errors import InvalidField
from longtake.core.flow import Pace
from longtake.core.work import SegmentSettings, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRecord:
    """Where a fork comes from. What its parent's blocks were conditioned on are cues of the fork's own."""

    parent: SessionId
    block: int
    """The first block of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What a session was opened with: with its cues, all that its stream follows from."""

    session: SessionId
    tenant: str
    """Who owns it."""
    tokens_sha256: tuple[str, ...]
    """Of the tokens that resume it, in hexadecimal digits; the tokens themselves are nowhere on disk."""
    model_digest: str
    recipe: str
    recipe_digest: str
    denoise_numerics: str
    """Fingerprint of the class of workers that made it, as longtake.core.work.Ability.numerics."""
    decode_numerics: str
    seed: int
    prompt: str
    """What block 0, or the first block of a fork, is conditioned on; its version is 0."""
    settings: SegmentSettings
    pace: Pace
    window: int
    picture_limit: int | None
    header: bytes = b""
    """What goes before the first segment."""
    media_type: str = ""
    seeds: tuple[tuple[int, int], ...] = ()
    """The seeds of a fork's blocks before its own: up to which block each of them holds."""
    sink_blocks: int = 0
    """So many blocks from the beginning are read for ever, or were given, so their latents stay."""
    fork: ForkRecord | None = None
    playing: bool = True
    """What its client said last, Pause or Play."""
    given_frames: int = 0
    """So many latent frames at the beginning were given."""
    known_from: int = 0
    """Blocks before this one cannot be made again: the session came from another server, without all cues of those."""


Fact = TypeVar("Fact")

STRICT = ConfigDict(strict=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
_RECORDS: TypeAdapter[tuple[SessionRecord]] = TypeAdapter(tuple[SessionRecord], config=STRICT)
_CUES: TypeAdapter[tuple[PlacedCue]] = TypeAdapter(tuple[PlacedCue], config=STRICT)
"""In tuples, because a dataclass alone takes no configuration from outside."""


def record_to_json(record: SessionRecord) -> bytes:
    """UTF-8; InvalidField if it holds text that is no Unicode (a lone surrogate)."""
    return strict_json(_RECORDS, record, "record")


def cue_to_json(cue: PlacedCue) -> bytes:
    """UTF-8; InvalidField if it holds text that is no Unicode (a lone surrogate)."""
    return strict_json(_CUES, cue, "cue")


def record_from_json(text: bytes) -> SessionRecord:
    """InvalidField names what is missing, unknown or of another type."""
    return read_strict(_RECORDS, text, "record")


def cue_from_json(text: bytes) -> PlacedCue:
    """InvalidField names what is missing, unknown or of another type."""
    return read_strict(_CUES, text, "cue")


def strict_json(adapter: TypeAdapter[tuple[Fact]], fact: Fact, name: str) -> bytes:
    """A fact as UTF-8, called `name` in messages; InvalidField if it holds text that is no Unicode."""
    try:
        return adapter.dump_json((fact,))[1:-1]
    except ValueError as error:
        raise InvalidField(name, fact, f"text in Unicode ({error})") from None


def read_strict(adapter: TypeAdapter[tuple[Fact]], text: bytes, name: str) -> Fact:
    """The fact in such a text; InvalidField names what is missing, unknown or of another type."""
    try:
        return adapter.validate_json(b"[" + text + b"]")[0]
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join([name, *map(str, first["loc"][1:])])
        raise InvalidField(field, first["input"], f"{first['msg']}, as this version of Longtake writes it") from None
