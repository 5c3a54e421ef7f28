"""Pictures that a client gives are looked at by their headers alone: what promises too much reaches nobody."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from cluster.frontend.given import MAX_BYTES, MAX_SIDE, pictures_of
from longtake.core.errors import InvalidField
from longtake.v1 import longtake_pb2 as pb
from tests.workers.given_pictures import SIGNATURE, chunk, jpeg, png


def asked(*given: bytes, fork: bool = False, most: int = 33) -> tuple[bytes, ...]:
    request = pb.Open(given=given, fork=pb.Fork(session_id="s") if fork else None)
    return pictures_of(request, stride=4, most=most)


def test_what_is_allowed_comes_through_as_it_is() -> None:
    assert asked() == ()
    assert asked(png()) == (png(),)
    assert asked(png(), jpeg((9, 7)), jpeg((4096, 1), marker=0xC2), png(1, 4096), png()) != ()
    assert asked(jpeg((9, 7), before=b"\xff\xe1\x00\x0bExif-data\xff\xff\xff\xdb\x00\x03t")) != ()
    assert len(asked(*[png()] * 33)) == 33
    assert asked(most=0) == ()


@pytest.mark.parametrize(
    ("given", "field", "allowed"),
    [
        ([b""], "open.given[0]", "a PNG or JPEG"),
        ([b"GIF89a" + bytes(20)], "open.given[0]", "a PNG or JPEG"),
        ([png(MAX_SIDE + 1, 1)], "open.given[0]", "4096 pixels a side"),
        ([png(1, 1 << 31)], "open.given[0]", "4096 pixels a side"),
        ([png(0, 5)], "open.given[0]", "pixels"),
        ([jpeg((65535, 65535))], "open.given[0]", "4096 pixels a side"),
        ([jpeg((64, 64), (65000, 65000))], "open.given[0]", "a PNG or JPEG"),
        ([jpeg((64, 64)), *[png()] * 3, jpeg((65000, 8), marker=0xCF)], "open.given[4]", "pixels a side"),
        ([jpeg()], "open.given[0]", "a PNG or JPEG"),
        ([png(8, 8, chunk(b"acTL", bytes(8)))], "open.given[0]", "a PNG or JPEG"),
        ([png(8, 8, chunk(b"IHDR", struct.pack(">II5x", 65000, 65000)))], "open.given[0]", "a PNG or JPEG"),
        ([SIGNATURE + chunk(b"tEXt", bytes(13)) + png()[8:]], "open.given[0]", "a PNG or JPEG"),
        ([png() + bytes(MAX_BYTES)], "open.given[0]", "512 KiB"),
        ([png()] * 2, "open.given", "1, or 1 plus a multiple of 4, up to 33"),
        ([png()] * 37, "open.given", "up to 33"),
    ],
)
def test_what_is_not_is_refused_in_words(given: list[bytes], field: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as caught:
        asked(*given)
    assert caught.value.field == field and allowed in caught.value.allowed


def test_where_nothing_can_be_given_that_is_said() -> None:
    with pytest.raises(InvalidField, match="none in a fork"):
        asked(png(), fork=True)
    with pytest.raises(InvalidField, match="no encoder"):
        asked(png(), most=0)


def test_a_bomb_is_refused_by_what_its_header_says_before_its_body_is_looked_at() -> None:
    bomb = png(30_000, 30_000, body=zlib.compress(bytes(1 << 20)) * 8)
    assert len(bomb) < MAX_BYTES
    with pytest.raises(InvalidField, match="30000x30000 pixels"):
        asked(bomb)


def test_any_cut_and_any_flipped_bit_is_refused_or_stays_within_the_limits() -> None:
    draw = random.Random(1)
    for whole in (png(64, 48), jpeg((64, 48), before=b"\xff\xe0\x00\x04ab")):
        spoilt = [whole[:length] for length in range(len(whole))]
        for _ in range(3000):
            place = draw.randrange(len(whole))
            spoilt.append(whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :])
        for data in spoilt:
            try:
                asked(data)
            except InvalidField as error:
                assert error.field.startswith("open.given[0]")
