"""What a stream can be asked for, and the request that asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from google.protobuf import duration_pb2

from longtake.v1 import longtake_pb2 as pb

CODECS = {"h264": pb.CODEC_H264, "mjpeg": pb.CODEC_MJPEG, "raw": pb.CODEC_RAW}
DECODERS = {"full": pb.DECODER_FULL, "tiny": pb.DECODER_TINY}
PACES = {"realtime": pb.PACE_REALTIME, "fast": pb.PACE_FAST}
_NANOS = 1_000_000_000

Number = TypeVar("Number")


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAt:
    """A prompt and where it takes effect: at a block, at the first block from a time on, or (neither) at once."""

    prompt: str
    block: int | None = None
    time_s: float | Fraction | None = None
    id: str = ""
    """The cue's name, 1 to 64 bytes; if it is empty, the client numbers its cues: `cue-1`, `cue-2` and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What a stream may be asked for; None and 0 leave the choice to the server."""

    seed: int | None = None
    pace: str = "fast"
    """`realtime` or `fast`."""
    window: int = 0
    """Segments that may be sent without being acknowledged."""
    duration_s: float | Fraction | None = None
    pictures: int | None = None
    codec: str = "h264"
    """`h264`, `mjpeg` or `raw`."""
    quality: int | None = None
    decoder: str | None = None
    """`full` or `tiny`; a fork has that of the stream it goes on from, and may not name one."""
    cues: tuple[CueAt, ...] = ()
    fork: str | None = None
    """Session to go on from; lengths and times count from its start."""
    fork_block: int | None = None
    """Where to go on from it: at this block of its past; None: at the first block that it has not begun."""
    auto_ack: bool = True
    """Acknowledge a segment when the next event is asked for; otherwise call `ack`."""
    reconnect_s: float = 120.0
    """After the call broke the stream tries for so long to go on; 0: not at all."""


def open_request(prompt: str, options: StreamOptions) -> pb.Open:
    """What a stream is asked for with; ValueError for an option that no server could understand."""
    if options.pictures is not None and options.duration_s is not None:
        raise ValueError("StreamOptions: give pictures or duration_s, not both")
    if options.fork_block is not None and options.fork is None:
        raise ValueError("StreamOptions: fork_block says where to go on from a session, so give fork as well")
    return pb.Open(
        prompt=prompt,
        seed=options.seed,
        pace=_number_of("pace", options.pace, PACES),
        window=options.window,
        pictures=options.pictures,
        duration=None if options.duration_s is None else duration(options.duration_s),
        codec=_number_of("codec", options.codec, CODECS),
        quality=options.quality,
        decoder=None if options.decoder is None else _number_of("decoder", options.decoder, DECODERS),
        cues=[cue_request(cue, number) for number, cue in enumerate(options.cues, start=1)],
        fork=None if options.fork is None else pb.Fork(session_id=options.fork, block=options.fork_block),
    )


def cue_request(cue: CueAt, number: int) -> pb.Cue:
    time = None if cue.time_s is None else duration(cue.time_s)
    return pb.Cue(id=cue.id or f"cue-{number}", prompt=cue.prompt, block=cue.block, time=time)


def _number_of(name: str, value: str, numbers: dict[str, Number]) -> Number:
    if value not in numbers:
        raise ValueError(f"StreamOptions.{name}: {value!r} is not allowed; allowed: {', '.join(numbers)}")
    return numbers[value]


def duration(time_s: float | Fraction) -> duration_pb2.Duration:
    """The time, rounded down to a nanosecond: the server looks for the first picture at or after it."""
    if time_s < 0:
        raise ValueError(f"a time of 0 s or more is needed, not {float(time_s)} s")
    nanos = int(Fraction(time_s) * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)
