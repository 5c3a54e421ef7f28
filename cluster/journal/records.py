"""Records: how each fact and each latent stands in a file, and how files are read that a crash or a disk has damaged.

Theory of operation. A record is a header of fixed size and raw bytes. Both have a checksum, and that of the header
covers the other. So a record is good or it is not, whatever the bytes around it are. Reading goes from record to
record. Where one is bad, nothing in it is believed, its length least of all: the next header is looked for byte by
byte. Then the records behind a damage are read as those before it, and bad bytes with nothing behind them are a torn
tail.

The checksum is CRC-32 as zlib has it: in the standard library and 3 to 4 GB/s here, faster than any disk it guards.
CRC-32C would find the same: every burst of up to 32 bits, and all but one in 2^32 of other damages. It is no defence
against somebody who may write to the files. The first byte of a header cannot stand in UTF-8, so no prompt holds one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"\xf5ltj"
FORMAT = 1
_HEADER = struct.Struct("<4sBBHIIQI")
"""Magic, format, kind, step, version of the conditioning, length of the payload, block, checksum of the payload."""
_CHECKSUM = struct.Struct("<I")
"""That of the header, behind it."""
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
VERSIONS = 1 << 32
"""There is room for so many in a header."""
_CHUNK_BYTES = 1 << 20
"""So much of a file is in memory while it is read."""


class RecordKind(IntEnum):
    """What the payload of a record is."""

    RECORD = 1
    """JSON of cluster.journal.facts.SessionRecord; of several in a session the last one counts."""
    CUE = 2
    """JSON of longtake.core.adoption.PlacedCue."""
    LATENT = 3
    """Latents of `block` as they enter `step`, as they came from the worker: little-endian float32."""
    ACK = 4
    """Nothing: the client has consumed all segments up to that of `block`."""
    END = 5
    """Nothing: the session has ended, and its files may go."""
    STEPS = 6
    """Nothing: from `block` on blocks are begun under the load that stands as `step`. `version` is the block of the
    record of this kind before it, plus 1, or 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a header says."""

    kind: RecordKind
    block: int = 0
    step: int = 0
    version: int = 0
    """Of the conditioning that the latents were made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodRecord:
    """A record whose checksums hold."""

    head: Head
    offset: int
    """Where its payload begins in the file."""
    length_bytes: int
    """Of the payload."""
    checksum: int
    """Of the payload."""

    @property
    def begin(self) -> int:
        """Where its header begins."""
        return self.offset - HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.length_bytes

    def holds(self, payload: bytes) -> bool:
        """Whether these bytes are the payload."""
        return len(payload) == self.length_bytes and zlib.crc32(payload) == self.checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBytes:
    """A part of a file that is no record; if it ends with the file it is a torn tail."""

    offset: int
    end: int


ReadBytes = Callable[[int, int], bytes]
"""Bytes of a file from an offset on, fewer than asked for only at its end."""


def framed(head: Head, payload: bytes = b"") -> tuple[bytes, bytes]:
    """A record in two parts: its header, and the payload as it was given."""
    fields = _HEADER.pack(
        MAGIC, FORMAT, head.kind, head.step, head.version, len(payload), head.block, zlib.crc32(payload)
    )
    return fields + _CHECKSUM.pack(zlib.crc32(fields)), payload


def scan(read: ReadBytes, size_bytes: int) -> Iterator[GoodRecord | BadBytes]:
    """Everything in a file of `size_bytes`, in order and without a gap; about 1 MiB of it is in memory at a time."""
    file = _Window(read, size_bytes)
    offset = bad_from = 0
    while offset < size_bytes:
        record = _record_at(file, offset)
        if record is None:
            offset = _next_magic(file, offset + 1)
            continue
        if bad_from < offset:
            yield BadBytes(offset=bad_from, end=offset)
        yield record
        offset = bad_from = record.end
    if bad_from < size_bytes:
        yield BadBytes(offset=bad_from, end=size_bytes)


class _Window:
    """The part of a file that is in memory."""

    def __init__(self, read: ReadBytes, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._read = read
        self._start = 0
        self._data = memoryview(b"")

    def at(self, offset: int, least: int) -> memoryview:
        """Bytes from `offset` on: as many as are in memory, `least` of them unless the file ends or cannot be read."""
        if not self._start <= offset <= self._start + len(self._data) - least:
            self._data = memoryview(self._read(offset, min(_CHUNK_BYTES, self.size_bytes - offset)))
            self._start = offset
        return self._data[offset - self._start :]


def _record_at(file: _Window, offset: int) -> GoodRecord | None:
    """The record that begins at `offset`, or None if no good one does."""
    header = bytes(file.at(offset, HEADER_BYTES)[:HEADER_BYTES])
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    if _CHECKSUM.unpack_from(header, _HEADER.size)[0] != zlib.crc32(header[: _HEADER.size]):
        return None
    _, form, kind, step, version, length, block, checksum = _HEADER.unpack_from(header)
    if form != FORMAT or kind not in RecordKind.__members__.values():
        return None
    start = offset + HEADER_BYTES
    if start + length > file.size_bytes or _checksum(file, start, length) != checksum:
        return None
    head = Head(kind=RecordKind(kind), block=block, step=step, version=version)
    return GoodRecord(head=head, offset=start, length_bytes=length, checksum=checksum)


def _checksum(file: _Window, offset: int, length: int) -> int | None:
    """That of these bytes; None if they cannot all be read."""
    found = 0
    while length:
        part = file.at(offset, 1)[:length]
        if not part:
            return None
        found = zlib.crc32(part, found)
        offset, length = offset + len(part), length - len(part)
    return found


def _next_magic(file: _Window, offset: int) -> int:
    """Where a header may begin, at `offset` or behind it; the end of the file if nowhere."""
    while offset < file.size_bytes:
        part = bytes(file.at(offset, len(MAGIC)))
        place = part.find(MAGIC)
        if place >= 0:
            return offset + place
        if len(part) < len(MAGIC):
            break
        offset += len(part) - len(MAGIC) + 1
    return file.size_bytes
