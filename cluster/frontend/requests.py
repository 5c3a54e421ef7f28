"""From frames of a client to events of the core: every field is checked here, nothing malformed goes further."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ParamSpec, TypeVar
from unicodedata import category

from google.protobuf import duration_pb2

from cluster.access.owners import TOKEN_BYTES
from cluster.frontend.given import pictures_of, references_of
from cluster.frontend.offer import CODECS, DECODERS, Offer
from cluster.net.addresses import address_in
from longtake.core.endings import Ending
from longtake.core.errors import InvalidField, InvalidFields, WrongState
from longtake.core.events import Ack, Close, Cue, CueRequest, Event, Open, Pause, Play
from longtake.core.flow import Pace
from longtake.core.recipe.cues import Back, CueChange, CueEffect
from longtake.core.work import CueId, DecoderKind, Fork, SegmentSettings, SessionId
from longtake.v1 import longtake_pb2 as pb

MAX_PICTURE = 1 << 40
"""The largest picture number: tens of thousands of years at any rate, and sums stay within 64 bits."""
MAX_CUE_ID_BYTES = 64
MAX_GRACE_S = 24 * 3600
SEED_BITS = 64
DRAWN_SEED_BITS = 32
"""A seed that nobody asked for: short enough to be typed, and exact in every reader of JSON."""
MAX_REASON_BYTES = 500
_ADDRESS_LENGTH = 255
_ID_LENGTH = 256
"""Of a session's name, more than any that a server gives."""
P = ParamSpec("P")
T = TypeVar("T")
PACES: dict[pb.Pace, Pace] = {
    pb.PACE_UNSPECIFIED: Pace.FAST,
    pb.PACE_REALTIME: Pace.REALTIME,
    pb.PACE_FAST: Pace.FAST,
}


def open_event(frame: pb.StreamRequest, *, session: SessionId, offer: Offer, now_s: float) -> Open:
    """The first frame of a call as an event; draws a seed if none was asked for.

    Raises InvalidField, with the path of the field, for what is not allowed, or InvalidFields for all that is not.
    """
    kind = frame.WhichOneof("frame")
    if kind != "open":
        raise InvalidField("frame", kind, "open, as the first frame of a call")
    request = frame.open
    wrong = _Wrong()
    wrong.taken(None, _check_cursor, request)
    prompt = wrong.taken("", prompt_of, "open.prompt", request.prompt, offer)
    pace = wrong.taken(Pace.FAST, _pace, request)
    window = wrong.taken(0, _window, request, offer)
    picture_limit = wrong.taken(None, _length, request, offer)
    settings = wrong.taken(SegmentSettings(codec="", quality=0), _settings, request)
    decoder = wrong.taken(DecoderKind.FULL, _decoder, request, offer)
    recipe = wrong.taken("", _recipe, request, offer)
    cues = wrong.taken((), _cues, request, offer)
    fork = wrong.taken(None, _fork, request)
    given = wrong.taken((), given_pictures, request, offer)
    wrong.taken((), references, request, offer)
    wrong.complain()
    return Open(
        now_s=now_s,
        session=session,
        prompt=prompt,
        seed=request.seed if request.HasField("seed") else secrets.randbits(DRAWN_SEED_BITS),
        pace=pace,
        window=window,
        picture_limit=picture_limit,
        settings=replace(settings, decoder=decoder),
        cues=cues,
        recipe=recipe,
        fork=fork,
        given_frames=-(-len(given) // offer.geometry.stride_time),
    )


class _Wrong:
    """What is not allowed of a request, so that its sender is told all of it at once."""

    def __init__(self) -> None:
        self._errors: list[InvalidField] = []

    def taken(self, otherwise: T, read: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """What `read` makes of what it is given; if that is not allowed it is noted, and `otherwise` stands for it."""
        try:
            return read(*given, **named)
        except InvalidField as error:
            self._errors.append(error)
            return otherwise

    def complain(self) -> None:
        """InvalidField if one thing was noted, InvalidFields if several were."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise InvalidFields(self._errors)


def _check_cursor(request: pb.Open) -> None:
    if request.HasField("cursor"):
        raise InvalidField("open.cursor", request.cursor, "unset without open.resume_token")


def _window(request: pb.Open, offer: Offer) -> int:
    most = offer.limits.max_window
    if request.window > most:
        raise InvalidField("open.window", request.window, f"1 to {most} segments, or 0 for the default")
    return request.window or offer.limits.default_window


def _pace(request: pb.Open) -> Pace:
    if request.pace not in PACES:
        raise InvalidField("open.pace", request.pace, ", ".join(pb.Pace.keys()))
    return PACES[request.pace]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A client wants to go on with a session."""

    token: bytes
    cursor: int | None
    """The last segment that it has consumed."""


def resumption(frame: pb.StreamRequest) -> Return | None:
    """What the first frame of a call goes on with; None if it does not. InvalidField for whatever is not allowed."""
    request = frame.open
    if not request.resume_token:
        return None
    for field, value in request.ListFields():
        if field.name not in ("resume_token", "cursor"):
            shown = value if isinstance(value, int) else "(set)"
            raise InvalidField(f"open.{field.name}", shown, "unset beside open.resume_token: the session has its own")
    if len(request.resume_token) != TOKEN_BYTES:
        size = f"{len(request.resume_token)} bytes"
        raise InvalidField("open.resume_token", size, f"the {TOKEN_BYTES} bytes of Opened.resume_token")
    if request.cursor > MAX_PICTURE:
        raise InvalidField("open.cursor", request.cursor, "unset, or the last segment consumed")
    return Return(token=request.resume_token, cursor=request.cursor if request.HasField("cursor") else None)


def pace_of(frame: pb.StreamRequest) -> Pace:
    """The pace that a first frame asks for; the default if it asks for none or for one that does not exist."""
    return PACES.get(frame.open.pace, PACES[pb.PACE_UNSPECIFIED])


def later_event(frame: pb.StreamRequest, *, session: SessionId, offer: Offer, now_s: float) -> Event:
    """Any later frame of a call as an event.

    Raises InvalidField for whatever is not allowed, WrongState for a second `open`.
    """
    match frame.WhichOneof("frame"):
        case "cue":
            return Cue(now_s=now_s, session=session, request=_cue("cue", frame.cue, offer))
        case "ack":
            if frame.ack.segment > MAX_PICTURE:
                raise InvalidField("ack.segment", frame.ack.segment, "0 to the last segment received")
            return Ack(now_s=now_s, session=session, segment=frame.ack.segment)
        case "pause":
            return Pause(now_s=now_s, session=session)
        case "play":
            return Play(now_s=now_s, session=session)
        case "close":
            return Close(now_s=now_s, session=session, ending=Ending.CLIENT)
        case "open":
            raise WrongState("open: this call has its stream already; open another call for another stream")
        case _:
            raise InvalidField("frame", None, "one of cue, ack, pause, play, close")


def cue_id(frame: pb.StreamRequest) -> CueId | None:
    """The id of the cue in a frame that was refused, if one can be found."""
    if frame.WhichOneof("frame") != "cue" or not frame.cue.id:
        return None
    return CueId(frame.cue.id[:MAX_CUE_ID_BYTES])


def drain_grace_s(request: pb.DrainRequest) -> float:
    """How long open sessions may go on; InvalidField if it is not 0 to MAX_GRACE_S."""
    grace = request.grace
    grace_s = grace.seconds + grace.nanos / 1e9
    if not 0 <= grace_s <= MAX_GRACE_S or not 0 <= grace.nanos < 1_000_000_000:
        raise InvalidField("grace", f"{grace.seconds} s + {grace.nanos} ns", f"0 to {MAX_GRACE_S} s")
    return grace_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a session goes on, by which token, and under which name (empty: nobody said)."""

    address: str
    token: bytes
    session: str


def destination(request: pb.HandOverRequest) -> Destination | None:
    """Where a session is to go on; None if it is to stay. InvalidField for whatever is not allowed."""
    token, allowed = request.resume_token, f"the {TOKEN_BYTES} bytes of ImportResponse.resume_token"
    name = request.new_session_id
    if not request.address:
        if token:
            raise InvalidField("resume_token", f"{len(token)} bytes", "empty without address")
        if name:
            raise InvalidField("new_session_id", name[:40], "empty without address")
        return None
    if len(request.address) > _ADDRESS_LENGTH or not request.address.isascii() or " " in request.address:
        raise InvalidField("address", request.address[:40], f"HOST:PORT in up to {_ADDRESS_LENGTH} ASCII characters")
    address = address_in(request.address, field="address")
    if not address.port:
        raise InvalidField("address", request.address, "HOST:PORT, both of them")
    if len(token) != TOKEN_BYTES:
        raise InvalidField("resume_token", f"{len(token)} bytes", allowed)
    if len(name) > _ID_LENGTH or not name.isascii() or not name.replace(" ", "\t").isprintable():
        said = f"empty, or ImportResponse.session_id: up to {_ID_LENGTH} characters, ASCII without spaces"
        raise InvalidField("new_session_id", name[:40], said)
    return Destination(address=str(address), token=token, session=name)


def session_id(field: str, value: str) -> SessionId:
    """A session's name from a unary request; whether it is open is for the engine to say."""
    if not value:
        raise InvalidField(field, value, "the session id from Opened")
    return SessionId(value[:_ID_LENGTH])


def prompt_of(field: str, prompt: str, offer: Offer) -> str:
    """A prompt that may be shown; InvalidField, about `field`, if it may not."""
    limit = offer.wire.max_prompt_bytes
    size_bytes = len(prompt.encode())
    if not prompt.strip():
        raise InvalidField(field, prompt[:40], f"1 to {limit} bytes of text, not only white space")
    if size_bytes > limit:
        raise InvalidField(field, f"{prompt[:40]}… ({size_bytes} bytes)", f"1 to {limit} bytes of text")
    if has_controls(prompt, but="\n\t"):
        raise InvalidField(field, prompt[:40], "text without control characters other than tab and new line")
    try:
        offer.read_prompt(prompt)
    except InvalidField as error:
        raise InvalidField(field, prompt[:40], error.allowed) from None
    return prompt


def close_reason(reason: str) -> str:
    """What is told of why a stream was closed, if somebody said it; InvalidField if that cannot be shown in a line."""
    if len(reason.encode()) > MAX_REASON_BYTES or any(category(letter)[0] == "C" for letter in reason):
        raise InvalidField("reason", reason[:40], f"one line of at most {MAX_REASON_BYTES} bytes without controls")
    return reason if reason.strip() else ""


def has_controls(text: str, but: str = "") -> bool:
    """Whether a text holds control characters other than `but`: a terminal that it is written to would obey them."""
    return any(category(letter) == "Cc" and letter not in but for letter in text)


def _length(request: pb.Open, offer: Offer) -> int | None:
    match request.WhichOneof("length"):
        case "pictures":
            if not 1 <= request.pictures <= MAX_PICTURE:
                raise InvalidField("open.pictures", request.pictures, "1 to 2^40 pictures")
            return request.pictures
        case "duration":
            picture = _picture_at("open.duration", request.duration, offer)
            if picture == 0:
                raise InvalidField("open.duration", "0 s", "a time above 0")
            return picture
        case _:
            return None


def _settings(request: pb.Open) -> SegmentSettings:
    codec = CODECS.get(request.codec or pb.CODEC_H264)
    if codec is None:
        raise InvalidField("open.codec", request.codec, ", ".join(pb.Codec.keys()))
    if not request.HasField("quality"):
        return SegmentSettings(codec=codec.name, quality=codec.default_quality)
    if codec.min_quality == codec.max_quality:
        raise InvalidField("open.quality", request.quality, f"unset: {codec.name} has no quality")
    if not codec.min_quality <= request.quality <= codec.max_quality:
        allowed = f"{codec.min_quality} to {codec.max_quality} for {codec.name}"
        raise InvalidField("open.quality", request.quality, allowed)
    return SegmentSettings(codec=codec.name, quality=request.quality)


def _fork(request: pb.Open) -> Fork | None:
    """What is forked, and where; which blocks there are the core knows."""
    if not request.HasField("fork"):
        return None
    block = request.fork.block if request.fork.HasField("block") else None
    session = session_id("open.fork.session_id", request.fork.session_id)
    return Fork(session=session, block=block, own_clock=request.fork.own_clock)


def given_pictures(request: pb.Open, offer: Offer) -> tuple[bytes, ...]:
    """The pictures that the stream begins with, checked; see cluster.frontend.given."""
    return pictures_of(request, stride=offer.geometry.stride_time, most=offer.max_given_pictures(request.recipe))


def references(request: pb.Open, offer: Offer) -> tuple[bytes, ...]:
    """The images that the stream looks at, checked; see cluster.frontend.given."""
    made = offer.recipe_named(request.recipe)
    count = made.recipe.context.reference_frames
    return references_of(request, count=count, recipe=request.recipe or made.name, encodes=offer.encodes)


def _recipe(request: pb.Open, offer: Offer) -> str:
    """How the stream is made; the core gives a fork the recipe of its parent, and refuses any other."""
    names = [each.name for each in offer.recipes]
    if request.recipe and request.recipe not in names:
        allowed = ", ".join(names) or "unset: streams here are made by the model's own recipe"
        raise InvalidField("open.recipe", request.recipe[:40], allowed)
    return request.recipe


def _decoder(request: pb.Open, offer: Offer) -> DecoderKind:
    """Which network makes the pictures; the core gives a fork that of its parent."""
    named = DECODERS.get(request.decoder or pb.DECODER_FULL)
    allowed = [pb.Decoder.Name(number) for number, kind in DECODERS.items() if kind in offer.decoders]
    if named not in offer.decoders:
        raise InvalidField("open.decoder", _decoder_name(request.decoder), " or ".join(allowed))
    if request.HasField("fork") and request.decoder:
        why = "unset in a fork, which has the decoder of the stream it goes on from"
        raise InvalidField("open.decoder", _decoder_name(request.decoder), why)
    return named


def _decoder_name(number: pb.Decoder) -> str:
    return pb.Decoder.Name(number) if number in pb.Decoder.values() else str(number)


_CHANGES: dict[pb.Change, CueChange | None] = {
    pb.CHANGE_UNSPECIFIED: None,
    pb.CHANGE_SWAP: CueChange.SWAP,
    pb.CHANGE_RECACHE: CueChange.RECACHE,
    pb.CHANGE_CUT: CueChange.CUT,
}


def _cues(request: pb.Open, offer: Offer) -> tuple[CueRequest, ...]:
    limit = offer.limits.max_pending_cues
    if len(request.cues) > limit:
        raise InvalidField("open.cues", f"{len(request.cues)} cues", f"at most {limit}")
    cues = tuple(_cue(f"open.cues[{number}]", cue, offer) for number, cue in enumerate(request.cues))
    seen: set[str] = set()
    for number, cue in enumerate(cues):
        if cue.block is None and cue.picture is None:
            raise InvalidField(f"open.cues[{number}].at", None, "a block or a time: a cue in open must have its place")
        if cue.cue in seen:
            raise InvalidField(f"open.cues[{number}].id", cue.cue, "ids that differ from each other")
        seen.add(cue.cue)
    return cues


def _cue(path: str, cue: pb.Cue, offer: Offer) -> CueRequest:
    if not 1 <= len(cue.id.encode()) <= MAX_CUE_ID_BYTES or has_controls(cue.id):
        allowed = f"1 to {MAX_CUE_ID_BYTES} bytes of text without control characters"
        raise InvalidField(f"{path}.id", cue.id[:MAX_CUE_ID_BYTES], allowed)
    prompt = prompt_of(f"{path}.prompt", cue.prompt, offer)
    block: int | None = None
    picture: int | None = None
    match cue.WhichOneof("at"):
        case "block":
            if cue.block > MAX_PICTURE:
                raise InvalidField(f"{path}.block", cue.block, "0 to 2^40")
            block = cue.block
        case "time":
            picture = _picture_at(f"{path}.time", cue.time, offer)
    return CueRequest(cue=CueId(cue.id), prompt=prompt, block=block, picture=picture, change=_change(path, cue))


def _change(path: str, cue: pb.Cue) -> CueEffect | None:
    """What a cue does beside changing the prompt; None if it does not say."""
    if cue.change not in _CHANGES:
        raise InvalidField(f"{path}.change", cue.change, "CHANGE_SWAP, CHANGE_RECACHE, CHANGE_CUT or nothing")
    if not cue.HasField("back_to_shot"):
        return _CHANGES[cue.change]
    if cue.change not in (pb.CHANGE_UNSPECIFIED, pb.CHANGE_CUT):
        name = pb.Change.Name(cue.change)
        raise InvalidField(f"{path}.change", name, "CHANGE_CUT or nothing where it goes back to a shot: that is a cut")
    return Back(cue.back_to_shot)


def _picture_at(field: str, duration: duration_pb2.Duration, offer: Offer) -> int:
    """The first picture at or after a time, computed without rounding."""
    time_s = Fraction(duration.seconds) + Fraction(duration.nanos, 1_000_000_000)
    if time_s < 0 or not 0 <= duration.nanos < 1_000_000_000:
        raise InvalidField(field, f"{duration.seconds} s + {duration.nanos} ns", "a time of 0 or more")
    picture = offer.geometry.picture_at(time_s)
    if picture > MAX_PICTURE:
        raise InvalidField(field, f"{duration.seconds} s", "a time within 2^40 pictures")
    return picture
