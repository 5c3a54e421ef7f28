"""The pictures of a segment as an array; PyAV decodes them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from longtake.client.events import OpenedEvent, SegmentEvent

    Pictures = NDArray[uint8]

_MJPEG, _RAW = "multipart/x-mixed-replace", "application/octet-stream"


def decoded(segment: SegmentEvent) -> Pictures:
    """The pictures of a segment, uint8 of (pictures, height, width, 3), RGB.

    A segment begins with a key picture and needs nothing of the one before. ImportError if PyAV or numpy is not there,
    ValueError for a segment that does not know its stream or holds other pictures than it says.
    """
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise ImportError(_missing(error)) from None
    stream = segment.opened
    if stream is None:
        raise ValueError("this segment does not know its stream, so neither the size nor the header of its pictures")
    if stream.media_type.startswith(_RAW):
        pictures = np.frombuffer(segment.data, np.uint8).reshape(-1, stream.height, stream.width, 3).copy()
    else:
        pictures = _by_av(segment.data, stream)
    if len(pictures) != segment.picture_count:
        raise ValueError(f"segment {segment.index} holds {len(pictures)} pictures, not {segment.picture_count}")
    return pictures


def _by_av(data: bytes, stream: OpenedEvent) -> Pictures:
    try:
        import av
        import numpy as np
    except ModuleNotFoundError as error:
        raise ImportError(_missing(error)) from None
    format_ = "mpjpeg" if stream.media_type.startswith(_MJPEG) else "mp4"
    with av.open(io.BytesIO(stream.header + data), mode="r", format=format_) as file:
        pictures = [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in file.decode(video=0)]
    return np.stack(pictures)


def _missing(error: ModuleNotFoundError) -> str:
    return f"{error}; pictures need the extra `frames`: pip install 'longtake[frames]'"
