"""The times in segments of a fragmented MP4, counted from the start of a file instead of from that of a stream."""

from __future__ import annotations

import struct

_CONTAINERS = {b"moof", b"traf"}
_TIME = b"tfdt"
"""The box that says when a fragment is decoded (ISO/IEC 14496-12, 8.8.12)."""
_NARROW, _WIDE = struct.Struct(">I"), struct.Struct(">Q")


class FromZero:
    """Moves the times of segments so that the first one begins at 0; segments of other formats stay as they are."""

    def __init__(self) -> None:
        self._start: int | None = None

    def moved(self, segment: bytes, media_type: str) -> bytes:
        """The segment with its times moved by as much as those of the first one; it is of the same length."""
        if self._start == 0 or not media_type.startswith("video/mp4"):
            return segment
        found = _times(segment, 0, len(segment))
        if self._start is None:
            self._start = min((_read(segment, place, number) for place, number in found), default=0)
        if self._start == 0:
            return segment
        changed = bytearray(segment)
        for place, number in found:
            number.pack_into(changed, place, max(0, _read(segment, place, number) - self._start))
        return bytes(changed)


def _times(data: bytes, start: int, end: int) -> list[tuple[int, struct.Struct]]:
    """Where in `data` the times of fragments stand, and how they are written."""
    found: list[tuple[int, struct.Struct]] = []
    while start + 8 <= end:
        size, kind = _NARROW.unpack_from(data, start)[0], data[start + 4 : start + 8]
        body = start + 8
        if size == 1 and body + 8 <= end:
            size, body = _WIDE.unpack_from(data, body)[0], body + 8
        after = end if size == 0 else min(start + size, end)
        if after <= start:
            break  # no box is that small: what follows is none
        if kind in _CONTAINERS:
            found += _times(data, body, after)
        elif kind == _TIME and body + 4 < after:
            number = _WIDE if data[body] == 1 else _NARROW
            if body + 4 + number.size <= after:
                found.append((body + 4, number))
        start = after
    return found


def _read(data: bytes, place: int, number: struct.Struct) -> int:
    time: int = number.unpack_from(data, place)[0]
    return time
