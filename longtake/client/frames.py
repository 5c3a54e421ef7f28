"""The pictures of a segment as an array; PyAV decodes them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    Pictures = NDArray[uint8]

_MJPEG, _RAW = "multipart/x-mixed-replace", "application/octet-stream"


def decoded(data: bytes, *, header: bytes, media_type: str, width: int, height: int) -> Pictures:
    """The pictures of a segment, uint8 of (pictures, height, width, 3), RGB.

    A segment begins with a key picture and needs nothing of the one before, but the header of its stream. ImportError
    if PyAV or numpy is not there.
    """
    try:
        import av
        import numpy as np
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}; pictures need the extra `frames`: pip install 'longtake[frames]'") from None
    if media_type.startswith(_RAW):
        return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3).copy()
    format_ = "mpjpeg" if media_type.startswith(_MJPEG) else "mp4"
    with av.open(io.BytesIO(header + data), mode="r", format=format_) as file:
        return np.stack(
            [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in file.decode(video=0)]
        )
