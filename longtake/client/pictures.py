"""Pictures for a stream to begin with: files as they are, or made smaller, and the ends of clips."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

MAX_BYTES = 512 << 10
"""The size of one picture."""
MAX_ALL_BYTES = 900 << 10
"""The size of all of a clip's together: the request with them is one message."""
CLIP_PICTURES = 33
"""So many pictures at the end of a clip are sent, at most."""
STRIDE = 4
"""Pictures of a latent frame; the first one has a single one."""
_KINDS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_SIDES = (4096, 1920, 1280, 832, 640, 480, 320, 160)
_COARSEST = 31


def first_frame(path: Path) -> bytes:
    """The picture in a file: its bytes, if they are a PNG or JPEG that is small enough, or made smaller.

    OSError if it cannot be read; ValueError if it is no picture; ImportError if it has to be made smaller, or is of
    another kind, and PyAV is not there.
    """
    if not path.is_file() and path.exists():  # a device may never end
        raise ValueError("it is no file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if data.startswith(_KINDS) and len(data) <= MAX_BYTES:
        return data
    return _small_enough([_last_frames(path, 1)[0]], MAX_BYTES)[0]


def clip(path: Path) -> tuple[bytes, ...]:
    """The last pictures of a video: 1 plus a multiple of STRIDE of them, at most CLIP_PICTURES.

    OSError if it cannot be read; ValueError if it is no video; ImportError if PyAV is not there.
    """
    frames = _last_frames(path, CLIP_PICTURES)
    count = 1 + (len(frames) - 1) // STRIDE * STRIDE
    return tuple(_small_enough(frames[len(frames) - count :], MAX_ALL_BYTES))


def _last_frames(path: Path, most: int) -> list[av.VideoFrame]:
    try:
        import av
        from av.error import FFmpegError
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}; this file needs the extra `frames`: pip install 'longtake[frames]'") from None
    path.stat()
    if not path.is_file():
        raise ValueError("it is no file")
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError("no pictures are in it")
            frames = deque(file.decode(video=0), maxlen=most)
    except FFmpegError as error:
        raise ValueError(f"{error.strerror or error}") from None
    if not frames:
        raise ValueError("no pictures are in it")
    return list(frames)


def _small_enough(frames: list[av.VideoFrame], most: int) -> list[bytes]:
    """The frames as PNG, or else as JPEG, each of at most MAX_BYTES, all together of at most `most`."""
    for side in _SIDES:
        for coarseness in (None, 2, 6, 14):
            made = [_encoded(frame, side, coarseness) for frame in frames]
            if max(map(len, made)) <= MAX_BYTES and sum(map(len, made)) <= most:
                return made
    raise ValueError("its pictures cannot be made small enough")


def _encoded(frame: av.VideoFrame, side: int, coarseness: int | None) -> bytes:
    """A frame whose longer side is at most `side`, as PNG, or as JPEG of a coarseness of 1 to 31."""
    import av

    scale = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(2, round(size * scale)) for size in (frame.width, frame.height))
    name, kind = ("png", "rgb24") if coarseness is None else ("mjpeg", "yuvj420p")
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, kind
    codec.time_base = Fraction(1)
    if coarseness is not None:
        codec.options = {"qmin": str(coarseness), "qmax": str(min(coarseness, _COARSEST))}
    shown = frame.reformat(width, height, kind)
    shown.pts, shown.time_base = 0, codec.time_base
    return b"".join(bytes(packet) for packet in (*codec.encode(shown), *codec.encode(None)))
