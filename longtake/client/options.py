"""What a stream can be asked for, and the request that asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from google.protobuf import duration_pb2

from longtake.client.errors import Violation
from longtake.client.events import DecoderName
from longtake.v1 import longtake_pb2 as pb

PaceName = Literal["realtime", "fast"]
CodecName = Literal["h264", "mjpeg", "raw"]
CODECS: dict[CodecName, pb.Codec] = {"h264": pb.CODEC_H264, "mjpeg": pb.CODEC_MJPEG, "raw": pb.CODEC_RAW}
DECODERS: dict[DecoderName, pb.Decoder] = {"full": pb.DECODER_FULL, "tiny": pb.DECODER_TINY}
ChangeName = Literal["swap", "recache", "cut"]
CHANGES: dict[ChangeName, pb.Change] = {"swap": pb.CHANGE_SWAP, "recache": pb.CHANGE_RECACHE, "cut": pb.CHANGE_CUT}
PACES: dict[PaceName, pb.Pace] = {"realtime": pb.PACE_REALTIME, "fast": pb.PACE_FAST}
MOST_S = 315_576_000_000
"""The longest time that the wire can say, ten thousand years."""
_NANOS = 1_000_000_000
_MOST = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAt:
    """A prompt and where it takes effect: at a block, at the first block from a time on, or (neither) at once."""

    prompt: str
    block: int | None = None
    time_s: float | Fraction | None = None
    change: ChangeName | None = None
    """What becomes of what the stream remembers: nothing (`swap`), or it is made again with the new prompt (`recache`),
    where the recipe says how, or a new shot begins (`cut`), where the recipe allows it; None: what the recipe says."""
    back_to_shot: int | None = None
    """The shot that the new one remembers again: then it is a cut."""
    id: str = ""
    """The cue's name, 1 to 64 bytes; if it is empty, the client numbers its cues: `cue-1`, `cue-2` and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What a stream may be asked for; None and 0 leave the choice to the server."""

    seed: int | None = None
    pace: PaceName = "fast"
    """`realtime` has room reserved for its rate, `fast` takes what is left."""
    window: int = 0
    """Segments that may be sent without being acknowledged."""
    duration_s: float | Fraction | None = None
    pictures: int | None = None
    codec: CodecName = "h264"
    quality: int | None = None
    decoder: DecoderName | None = None
    """What makes the pictures; a fork has that of the stream it goes on from, and may not name one."""
    recipe: str = ""
    """How it is made: the name of one of `GetModelResponse.recipes`; empty: by the server's first. A fork has that of
    the stream it goes on from."""
    cues: tuple[CueAt, ...] = ()
    given: tuple[bytes, ...] = ()
    """Pictures that the stream begins with, PNG or JPEG: one, or the end of a clip that it goes on from, 1 plus a
    multiple of 4 of them (`longtake.client.pictures` reads files). Not in a fork."""
    references: tuple[bytes, ...] = ()
    """Images that every block looks at and nobody is shown, PNG or JPEG: as many as `reference_frames` of the recipe
    says (`longtake.client.pictures` reads files). Not in a fork, which has those of the stream it goes on from."""
    fork: str | None = None
    """Session to go on from."""
    fork_block: int | None = None
    """Where to go on from it: at this block of its past; None: at the first block that it has not begun."""
    fork_clock: Literal["parent", "own"] = "parent"
    """From where `pictures`, `duration_s` and the times of `cues` count in a fork: from the start of the session it
    goes on from, as all times that are told do, or from its own first picture."""
    auto_ack: bool = True
    """Acknowledge a segment when the next event is asked for; otherwise call `ack`."""
    reconnect_s: float = 120.0
    """After the call broke the stream tries for so long to go on; 0: not at all."""
    room_s: float = 0.0
    """A stream for which there is no room is asked for again for so long, whenever the server says that it may help."""


class OptionError(ValueError):
    """Options that no server could understand, all of them at once."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.description}" for one in violations))
        self.violations = tuple(violations)
        """By the names of arguments and options."""


def open_request(prompt: str, options: StreamOptions) -> pb.Open:
    """What a stream is asked for with; OptionError for options that no server could understand."""
    found = _Checked()
    found.text("prompt", prompt)
    found.whole("seed", options.seed, most=_MOST)
    found.whole("window", options.window, most=(1 << 32) - 1)
    found.whole("pictures", options.pictures, most=_MOST)
    found.whole("quality", options.quality, most=(1 << 32) - 1)
    found.whole("fork_block", options.fork_block, most=_MOST)
    found.time("duration_s", options.duration_s)
    found.one_of("pace", options.pace, PACES)
    found.one_of("codec", options.codec, CODECS)
    if options.decoder is not None:
        found.one_of("decoder", options.decoder, DECODERS)
    found.text("recipe", options.recipe)
    if options.fork is not None:
        found.text("fork", options.fork)
    if options.pictures is not None and options.duration_s is not None:
        found.wrong("duration_s", "give pictures or duration_s, not both")
    if options.fork_block is not None and options.fork is None:
        found.wrong("fork_block", "it says where to go on from a session, so give fork as well")
    found.pictures("given", options.given)
    found.pictures("references", options.references)
    if options.references and options.fork is not None:
        found.wrong(
            "references", "a fork has those of the session it goes on from, so give references or fork, not both"
        )
    if options.given and options.fork is not None:
        found.wrong("given", "a fork has the past of the session it goes on from, so give given or fork, not both")
    found.one_of("fork_clock", options.fork_clock, ("parent", "own"))
    for name, wait_s in (("reconnect_s", options.reconnect_s), ("room_s", options.room_s)):
        if not isinstance(wait_s, int | float) or not wait_s >= 0:  # nor is nan
            found.wrong(name, f"{wait_s!r} is not allowed; allowed: seconds, 0 or more")
    for number, cue in enumerate(options.cues):
        found.cue(f"cues[{number}]", cue)
    found.complain()
    names = cue_ids(options.cues, frozenset())
    return pb.Open(
        prompt=prompt,
        seed=options.seed,
        pace=PACES[options.pace],
        window=options.window,
        pictures=options.pictures,
        duration=None if options.duration_s is None else duration(options.duration_s),
        codec=CODECS[options.codec],
        quality=options.quality,
        decoder=None if options.decoder is None else DECODERS[options.decoder],
        recipe=options.recipe,
        cues=[_cue(cue, name) for cue, name in zip(options.cues, names, strict=True)],
        fork=None if options.fork is None else _fork(options.fork, options),
        given=options.given,
        references=options.references,
    )


def _fork(session: str, options: StreamOptions) -> pb.Fork:
    return pb.Fork(session_id=session, block=options.fork_block, own_clock=options.fork_clock == "own")


def cue_request(asked: CueAt | str, change: ChangeName | None, taken: AbstractSet[str]) -> pb.Cue:
    """What a prompt is asked for with; the ids in `taken` are those of other cues. OptionError as of `open_request`."""
    cue = CueAt(prompt=asked) if isinstance(asked, str) else asked
    cue = cue if change is None else replace(cue, change=change)
    found = _Checked()
    found.cue("cue", cue)
    found.complain()
    return _cue(cue, cue_ids((cue,), taken)[0])


def cue_ids(cues: Sequence[CueAt], taken: AbstractSet[str]) -> list[str]:
    """The ids of cues; those without one are numbered past every id that is somebody else's."""
    used = {*taken, *(cue.id for cue in cues)}
    ids: list[str] = []
    for cue in cues:
        number = len(taken) + len(ids) + 1
        while not cue.id and f"cue-{number}" in used:
            number += 1
        ids.append(cue.id or f"cue-{number}")
        used.add(ids[-1])
    return ids


def _cue(cue: CueAt, name: str) -> pb.Cue:
    time = None if cue.time_s is None else duration(cue.time_s)
    change = None if cue.change is None else CHANGES[cue.change]
    back = cue.back_to_shot
    return pb.Cue(id=name, prompt=cue.prompt, block=cue.block, time=time, change=change, back_to_shot=back)


def duration(time_s: float | Fraction) -> duration_pb2.Duration:
    """The time, rounded down to a nanosecond: the server looks for the first picture at or after it. OptionError if it
    is none."""
    found = _Checked()
    found.time("time", time_s)
    found.complain()
    nanos = int(Fraction(time_s) * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)


class _Checked:
    """What is wrong with some options."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def complain(self) -> None:
        """OptionError if anything is wrong."""
        if self._violations:
            raise OptionError(self._violations)

    def wrong(self, field: str, description: str) -> None:
        self._violations.append(Violation(field=field, description=description))

    def text(self, field: str, value: object) -> None:
        """What the wire takes for text."""
        if not isinstance(value, str):
            self.wrong(field, f"{value!r} is not allowed; allowed: text")
        elif any("\ud800" <= letter <= "\udfff" for letter in value):
            shown = value[:40].encode("ascii", "backslashreplace").decode()
            self.wrong(field, f"'{shown}' is not allowed; allowed: text, all of it characters (UTF-8)")

    def pictures(self, field: str, value: object) -> None:
        """Files in memory; what is in them the server looks at."""
        if not isinstance(value, tuple) or not all(isinstance(each, bytes) for each in value):
            self.wrong(field, "allowed: a tuple of bytes, each the content of a PNG or JPEG file")

    def whole(self, field: str, value: object, *, most: int) -> None:
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            self.wrong(field, f"{value!r} is not allowed; allowed: a whole number of 0 to {most}")

    def time(self, field: str, value: float | Fraction | None) -> None:
        if value is not None and not (isinstance(value, int | float | Fraction) and 0 <= value <= MOST_S):
            shown = f"{float(value):g} s" if isinstance(value, int | float | Fraction) else repr(value)
            self.wrong(field, f"{shown} is not allowed; allowed: a time of 0 s or more, up to {MOST_S} s")

    def one_of(self, field: str, value: object, allowed: Iterable[str]) -> None:
        if not isinstance(value, str) or value not in allowed:
            self.wrong(field, f"{value!r} is not allowed; allowed: {', '.join(allowed)}")

    def cue(self, field: str, cue: CueAt) -> None:
        self.text(f"{field}.prompt", cue.prompt)
        self.text(f"{field}.id", cue.id)
        self.whole(f"{field}.block", cue.block, most=_MOST)
        self.time(f"{field}.time_s", cue.time_s)
        if cue.change is not None:
            self.one_of(f"{field}.change", cue.change, CHANGES)
        self.whole(f"{field}.back_to_shot", cue.back_to_shot, most=(1 << 32) - 1)
        if cue.back_to_shot is not None and cue.change not in (None, "cut"):
            self.wrong(f"{field}.change", f"{cue.change!r} is not allowed; allowed: 'cut', as it goes back to a shot")
        if cue.block is not None and cue.time_s is not None:
            self.wrong(field, "give block or time_s, not both")
