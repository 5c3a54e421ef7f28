"""What a client gives a stream to begin with: looked at from outside, before anything is decoded or waits for a worker.

Only headers are read. A file that promises more than is allowed is refused by what it promises, and whoever decodes it
later makes memory for no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from longtake.core.errors import InvalidField
from longtake.v1 import longtake_pb2 as pb

MAX_BYTES = 512 << 10
"""The size of a given picture."""
MAX_SIDE = 4096
"""Its longest side, in pixels."""
_KINDS = f"a PNG or JPEG of up to {MAX_BYTES >> 10} KiB and {MAX_SIDE} pixels a side"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""The markers of a JPEG behind which its size stands; the three are tables."""
_LONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_SCAN, _END = 0xDA, 0xD9


def pictures_of(request: pb.Open, *, stride: int, most: int) -> tuple[bytes, ...]:
    """The pictures that a stream is to begin with, in order; none if there are none.

    `stride` pictures are a latent frame, `most` the most that may be given, 0 where none may. InvalidField for
    whatever is not allowed.
    """
    given = request.given
    if not given:
        return ()
    if request.HasField("fork"):
        raise InvalidField("open.given", f"{len(given)} pictures", "none in a fork, which has a past")
    if not most:
        raise InvalidField("open.given", f"{len(given)} pictures", "none: the model here has no encoder for pictures")
    if len(given) > most or (len(given) - 1) % stride:
        counts = f"1, or 1 plus a multiple of {stride}, up to {most}"
        raise InvalidField("open.given", f"{len(given)} pictures", counts)
    for number, data in enumerate(given):
        _check(f"open.given[{number}]", data)
    return tuple(given)


def references_of(request: pb.Open, *, count: int, recipe: str, encodes: bool) -> tuple[bytes, ...]:
    """The images that a stream looks at, of which its recipe, called `recipe`, needs `count`.

    `encodes` is whether the model here has an encoder. InvalidField for whatever is not allowed.
    """
    images, field = request.references, "open.references"
    said = f"{len(images) or 'no'} image{'s' * (len(images) != 1)}"
    if request.HasField("fork"):
        if images:
            raise InvalidField(field, said, "none in a fork, which has those of the stream that it goes on from")
        return ()
    if len(images) != count:
        named = f"recipe {recipe!r}" if recipe else "the recipe here"
        allowed = f"{count}: {named} has every block look at that" if count else f"none: {named} looks at no images"
        raise InvalidField(field, said, allowed)
    if images and not encodes:
        raise InvalidField(field, said, "none: the model here has no encoder for pictures, so no stream by this recipe")
    for number, data in enumerate(images):
        _check(f"{field}[{number}]", data)
    return tuple(images)


def _check(field: str, data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise InvalidField(field, f"{len(data)} bytes", _KINDS)
    if data.startswith(_PNG):
        sizes = list(_png_sizes(data))
    elif data.startswith(_JPEG):
        sizes = list(_jpeg_sizes(data))
    else:
        raise InvalidField(field, f"{len(data)} bytes that begin with {data[:8]!r}", _KINDS)
    if len(sizes) != 1:
        raise InvalidField(field, f"a file that says {len(sizes)} times how large it is", _KINDS)
    width, height = sizes[0]
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InvalidField(field, f"{width}x{height} pixels", _KINDS)


def _png_sizes(data: bytes) -> Iterator[Sequence[int]]:
    """What each header of a PNG says of its width and height; the first must come first."""
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        is_first = place == len(_PNG)
        if is_first and (kind != b"IHDR" or length != 13):
            return
        if kind == b"IHDR":
            yield _number(data, place + 8, 4), _number(data, place + 12, 4)
        if kind == b"acTL":  # an animation: more pictures than one
            yield 0, 0
        place += 12 + length


def _jpeg_sizes(data: bytes) -> Iterator[Sequence[int]]:
    """What each frame header of a JPEG says of its width and height, up to where its first scan begins."""
    place = len(_JPEG)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a filler
            place += 1
            continue
        if marker in (_SCAN, _END):
            return
        if marker in _FRAMES:
            yield _number(data, place + 7, 2), _number(data, place + 5, 2)
        place += 2 if marker in _LONE else 2 + max(2, _number(data, place + 2, 2))


def _number(data: bytes, place: int, size: int) -> int:
    """A big-endian number; 0 where the file ends before it."""
    return int.from_bytes(data[place : place + size], "big") if place + size <= len(data) else 0
