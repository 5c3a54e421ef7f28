"""Files of pictures, right and wrong, as clients give them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.decode.giving import Giving

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int = 8, height: int = 8, *more: bytes, body: bytes | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 3 * 8) * 8)) if body is None else body
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(*frames: tuple[int, int], marker: int = 0xC0, before: bytes = b"") -> bytes:
    """The headers of one, as far as they are looked at."""
    sizes = b"".join(
        bytes([0xFF, marker]) + struct.pack(">HBHHB", 8, 8, height, width, 0) for width, height in frames
    )  # fmt: skip
    return b"\xff\xd8" + before + sizes + b"\xff\xda\x00\x02" + bytes(20)


def encoded(picture_HWC: NDArray[np.uint8], name: str = "png", kind: str = "rgb24") -> bytes:
    """A picture as a file of this codec."""
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = picture_HWC.shape[1], picture_HWC.shape[0], kind
    codec.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(picture_HWC, "rgb24").reformat(format=kind)
    frame.pts, frame.time_base = 0, Fraction(1)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))


def latents_of(giving: Giving, pictures: Sequence[bytes]) -> Tensor:
    """The latents [F, C, H, W] of a clip, a frame at a time: the first picture, then four for each."""
    state = giving.begin()
    ends = range(1, len(pictures) + 1, 4)
    return torch.cat([giving.frame(pictures[max(0, end - 4) : end], state) for end in ends])


def moving_ball(count: int, side: int = 64) -> list[NDArray[np.uint8]]:
    """Pictures of a red disc that moves to the right."""
    rows, columns = np.mgrid[:side, :side]
    shown = []
    for number in range(count):
        picture = np.full((side, side, 3), 90, np.uint8)
        picture[(rows - side // 2) ** 2 + (columns - 12 - number) ** 2 < 81] = (210, 40, 40)
        shown.append(picture)
    return shown


def video(path: Path, count: int, side: int = 64) -> Path:
    """The same as a video in a file, 16 a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=16)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(moving_ball(count, side)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 16)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
