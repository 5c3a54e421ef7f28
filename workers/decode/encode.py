"""Segments: the pictures of one block as bytes, a pure function of pictures, first picture number and settings.

Nothing is remembered from block to block, so any worker can make any segment, and make it again byte for byte.

Codecs, and what a client finds in `header` and then in each segment:
- H264: fragmented MP4. Header: `ftyp` and `moov`. Segment: one `moof` and `mdat` whose first picture is an IDR picture;
  it refers to nothing before it. Header and any run of segments, beginning anywhere, is a file that plays.
- MJPEG: parts of a multipart stream (RFC 2046) that browsers show as they are. No header. Segment: for each picture
  `--longtake`, the lines Content-Type, Content-Length and X-Picture (the picture's number), an empty line, a JPEG file
  and a line end.
- RAW: RGB, one byte each, row by row, width * height * 3 bytes a picture and nothing between. No header.

Shape legend: F pictures, H rows, W columns, C = 3 channels (RGB).
"""

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Protocol, assert_never

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray

from longtake.core.errors import InternalFault, InvalidField
from workers.decode import mp4

_BOUNDARY = "longtake"
_LARGEST_SIDE = 8192  # JPEG and the levels of H.264 both allow it
# Exact arithmetic: the fast paths of the scaler round differently on different processors.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class Codec(Enum):
    """How pictures become bytes (see the module's head)."""

    H264 = "h264"
    MJPEG = "mjpeg"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """What an encoder must know; the same for all segments of a stream.

    width, height in pixels; fps in pictures a second; crf: x264's constant quality, lower is better (H264 only);
    jpeg_scale: quantiser scale, lower is better (MJPEG only).
    """

    codec: Codec
    width: int
    height: int
    fps: Fraction
    crf: int = 23
    preset: str = "veryfast"
    jpeg_scale: int = 3

    def __post_init__(self) -> None:
        for name, side in (("video.width", self.width), ("video.height", self.height)):
            if not 1 <= side <= _LARGEST_SIDE:
                raise InvalidField(name, side, f"1 to {_LARGEST_SIDE} pixels")
            if self.codec is Codec.H264 and side % 2:
                raise InvalidField(name, side, "an even number with codec h264 (a colour sample covers 2x2 pixels)")
        mp4.check_rate(self.fps)
        # 0 would be lossless, in a profile that browsers do not play.
        for name, value, most in (("video.crf", self.crf, 51), ("video.jpeg_scale", self.jpeg_scale, 31)):
            if not 1 <= value <= most:
                raise InvalidField(name, value, f"1 to {most}")
        if self.preset not in _PRESETS:
            raise InvalidField("video.preset", self.preset, ", ".join(_PRESETS))


_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class Encoder(Protocol):
    """Makes segments of one kind. It has no state: every method is a pure function of settings and arguments."""

    @property
    def content_type(self) -> str:
        """Media type of header and segments put together, with its parameters."""
        ...

    def header(self) -> bytes:
        """What a client needs once, before its first segment (may be empty)."""
        ...

    def encode(self, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> bytes:
        """The segment of consecutive pictures, uint8 RGB, of which the first has this number in its stream.

        InternalFault if the pictures are none, of another size or type, or the number is negative.
        """
        ...


def encoder_for(settings: VideoSettings) -> Encoder:
    """The encoder that the settings name."""
    match settings.codec:
        case Codec.H264:
            return H264Encoder(settings)
        case Codec.MJPEG:
            return JpegEncoder(settings)
        case Codec.RAW:
            return RawEncoder(settings)
        case _:
            assert_never(settings.codec)


class H264Encoder:
    """Fragmented MP4 with H.264 (x264, one thread, constant quality, no B-pictures, one IDR picture a segment)."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings
        self._sets = mp4.parameter_sets(_extradata(_open_x264(settings)))

    @property
    def content_type(self) -> str:
        return f'video/mp4; codecs="{self._sets.codec}"'

    def header(self) -> bytes:
        s = self._settings
        return mp4.header(width=s.width, height=s.height, fps=s.fps, sets=self._sets)

    def encode(self, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> bytes:
        _check_pictures(self._settings, pictures_FHWC, first_picture)
        x264 = _open_x264(self._settings)
        if mp4.parameter_sets(_extradata(x264)) != self._sets:
            raise InternalFault("H.264 parameter sets differ from those in the stream's header")
        packets = _encode_all(x264, pictures_FHWC)
        samples = [mp4.sample(packet) for packet in packets]
        keys = [mp4.is_key(sample) for sample in samples]
        if keys != [True] + [False] * (len(pictures_FHWC) - 1):
            raise InternalFault(
                f"H.264 segment of {len(pictures_FHWC)} pictures: key pictures {keys}, allowed: only the first"
            )
        return mp4.fragment(samples=samples, first_picture=first_picture, fps=self._settings.fps)


class JpegEncoder:
    """Each picture a JPEG file of its own, in a multipart stream."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings

    @property
    def content_type(self) -> str:
        return f"multipart/x-mixed-replace; boundary={_BOUNDARY}"

    def header(self) -> bytes:
        return b""

    def encode(self, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> bytes:
        _check_pictures(self._settings, pictures_FHWC, first_picture)
        jpegs = _encode_all(_open_jpeg(self._settings), pictures_FHWC)
        if len(jpegs) != len(pictures_FHWC):
            raise InternalFault(f"JPEG encoder made {len(jpegs)} pictures of {len(pictures_FHWC)}")
        return b"".join(self._part(jpeg, first_picture + i) for i, jpeg in enumerate(jpegs))

    @staticmethod
    def _part(jpeg: bytes, picture: int) -> bytes:
        lines = (
            f"--{_BOUNDARY}",
            "Content-Type: image/jpeg",
            f"Content-Length: {len(jpeg)}",
            f"X-Picture: {picture}",
            "",
            "",
        )
        return "\r\n".join(lines).encode("ascii") + jpeg + b"\r\n"


class RawEncoder:
    """The pictures' bytes as they are."""

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings

    @property
    def content_type(self) -> str:
        return "application/octet-stream"

    def header(self) -> bytes:
        return b""

    def encode(self, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> bytes:
        _check_pictures(self._settings, pictures_FHWC, first_picture)
        return pictures_FHWC.tobytes()


def _check_pictures(settings: VideoSettings, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> None:
    size = (settings.height, settings.width, 3)
    if pictures_FHWC.dtype != np.uint8 or pictures_FHWC.shape[1:] != size or not len(pictures_FHWC):
        got = f"{'x'.join(str(n) for n in pictures_FHWC.shape)} {pictures_FHWC.dtype}"
        allowed = f"Fx{settings.height}x{settings.width}x3 uint8 with F >= 1"
        raise InternalFault(f"pictures to encode: {got}, allowed: {allowed}")
    if first_picture < 0:
        raise InternalFault(f"first picture: {first_picture}, allowed: 0 or more")


def _open(settings: VideoSettings, codec: str, pixel_format: str, options: dict[str, str]) -> VideoCodecContext:
    context = av.CodecContext.create(codec, "w")
    if not isinstance(context, VideoCodecContext):
        raise InternalFault(f"codec {codec} is not a video codec")
    context.width, context.height, context.pix_fmt = settings.width, settings.height, pixel_format
    context.framerate, context.time_base = settings.fps, 1 / settings.fps
    context.thread_count = 1
    context.options = options
    return context


def _open_x264(settings: VideoSettings) -> VideoCodecContext:
    context = _open(
        settings,
        "libx264",
        "yuv420p",
        {
            "preset": settings.preset,
            "tune": "zerolatency",
            "crf": str(settings.crf),
            "bf": "0",
            "x264-params": "keyint=infinite:scenecut=0:open-gop=0:threads=1:sliced-threads=0",
        },
    )
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    context.flags |= Flags.global_header  # parameter sets go into the header, not into the pictures
    context.open()
    return context


def _open_jpeg(settings: VideoSettings) -> VideoCodecContext:
    scale = str(settings.jpeg_scale)
    context = _open(settings, "mjpeg", "yuv444p", {"qmin": scale, "qmax": scale})
    # The only matrix a JPEG file can have (JFIF).
    context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.JPEG
    context.open()
    return context


def _extradata(context: VideoCodecContext) -> bytes:
    return context.extradata or b""


def _encode_all(context: VideoCodecContext, pictures_FHWC: NDArray[np.uint8]) -> list[bytes]:
    """One packet for each picture; times count from 0, so the bytes do not depend on where in the stream they are."""
    packets: list[bytes] = []
    for i, picture_HWC in enumerate(pictures_FHWC):
        rgb = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")
        frame = rgb.reformat(
            format=context.pix_fmt,
            dst_colorspace=context.colorspace,
            dst_color_range=context.color_range,
            interpolation=_EXACT,
        )
        frame.pts, frame.time_base = i, context.time_base
        packets += [bytes(packet) for packet in context.encode(frame)]
    packets += [bytes(packet) for packet in context.encode(None)]
    return packets
