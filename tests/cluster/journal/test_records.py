"""Records in a file: each is read as it was written or not at all, whatever happened to the bytes around it."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.journal.records import HEADER_BYTES, MAGIC, BadBytes, GoodRecord, Head, RecordKind, framed, scan

LATENT = RecordKind.LATENT


def file_of(payloads: list[bytes]) -> bytes:
    return b"".join(b"".join(framed(Head(kind=LATENT, block=number), each)) for number, each in enumerate(payloads))


def scanned(data: bytes) -> list[GoodRecord | BadBytes]:
    return list(scan(lambda offset, length: data[offset : offset + length], len(data)))


def good(data: bytes) -> dict[int, bytes]:
    """The payloads of the good records by their block."""
    return {
        found.head.block: data[found.offset : found.end] for found in scanned(data) if isinstance(found, GoodRecord)
    }


def test_what_a_header_says_comes_back() -> None:
    head = Head(kind=RecordKind.CUE, block=2**64 - 1, step=65_535, version=2**32 - 1)
    header, payload = framed(head, b"{}")
    (found,) = scanned(header + payload)
    assert isinstance(found, GoodRecord)
    assert (found.head, found.begin, found.offset, found.end) == (head, 0, HEADER_BYTES, HEADER_BYTES + 2)
    assert found.holds(b"{}")
    assert not found.holds(b"{]")


def test_the_payload_is_not_copied() -> None:
    payload = bytes(100)
    assert framed(Head(kind=LATENT), payload)[1] is payload


@pytest.mark.parametrize("missing", range(1, HEADER_BYTES + 40))
def test_a_torn_record_is_nothing_and_those_before_it_stay(missing: int) -> None:
    payloads = [b"one" * 5, b"two" * 9, bytes(range(40))]
    data = file_of(payloads)[:-missing]
    *whole, torn = scanned(data)
    assert good(data) == {0: payloads[0], 1: payloads[1]}
    assert len(whole) == 2
    assert torn == BadBytes(offset=len(file_of(payloads[:2])), end=len(data))


@pytest.mark.parametrize("place", range(2 * HEADER_BYTES + 50))
def test_a_flipped_bit_costs_the_record_that_it_is_in_and_no_other(place: int) -> None:
    payloads = [bytes(10), b"x" * 40, b"last"]
    data = bytearray(file_of(payloads))
    data[place] ^= 1 << place % 8
    hit = 0 if place < HEADER_BYTES + 10 else 1
    assert good(bytes(data)) == {number: each for number, each in enumerate(payloads) if number != hit}
    assert sum(isinstance(found, BadBytes) for found in scanned(bytes(data))) == 1


def test_a_record_of_another_format_is_bad() -> None:
    """Even if its checksum holds."""
    header, _ = framed(Head(kind=LATENT))
    fields = header[:4] + b"\x02" + header[5 : HEADER_BYTES - 4]
    changed = fields + zlib.crc32(fields).to_bytes(4, "little")
    assert scanned(changed) == [BadBytes(offset=0, end=HEADER_BYTES)]


def test_a_false_length_hides_no_record_behind_it() -> None:
    """A torn record behind which others were appended: its length covers them, and is not believed."""
    torn = b"".join(framed(Head(kind=LATENT, block=9), bytes(10_000)))[: HEADER_BYTES + 3]
    data = torn + file_of([b"a", b"b"])
    assert good(data) == {0: b"a", 1: b"b"}


def test_beginnings_of_headers_in_bad_bytes_are_no_headers() -> None:
    data = MAGIC * 3 + b"\xf5" + file_of([b"a"]) + MAGIC
    assert good(data) == {0: b"a"}
    assert scanned(data)[-1] == BadBytes(offset=len(data) - 4, end=len(data))


def test_a_header_across_the_pieces_in_which_bad_bytes_are_searched_is_found() -> None:
    for before in ((1 << 20) - 3, 1 << 20, (1 << 20) + 2):
        assert good(bytes(before) + file_of([b"a"])) == {0: b"a"}


def test_records_lie_anywhere_across_the_pieces_in_which_a_file_is_read() -> None:
    chance = Random(2)
    payloads = [chance.randbytes(chance.choice((0, 7, 5000, 300_000, 1_500_000))) for _ in range(40)]
    assert good(file_of(payloads)) == dict(enumerate(payloads))


def test_payloads_are_checked_in_pieces() -> None:
    data = file_of([Random(0).randbytes((2 << 20) + 17)])
    longest = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal longest
        longest = max(longest, length)
        return data[offset : offset + length]

    (found,) = scan(read, len(data))
    assert isinstance(found, GoodRecord)
    assert longest <= 1 << 20


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.data())
def test_any_damage_leaves_only_what_was_written(payloads: list[bytes], chosen: st.DataObject) -> None:
    """Bytes overwritten, cut out and put in: every record that is read is one that was written, under its number."""
    data = bytearray(file_of(payloads))
    for _ in range(chosen.draw(st.integers(0, 4))):
        start = chosen.draw(st.integers(0, len(data)))
        length = chosen.draw(st.integers(0, 50))
        data[start : start + length] = chosen.draw(st.binary(max_size=50))
    for number, payload in good(bytes(data)).items():
        assert payload == payloads[number]
    stretches = [
        (found.begin if isinstance(found, GoodRecord) else found.offset, found.end) for found in scanned(bytes(data))
    ]
    assert [begin for begin, _ in stretches] == [0, *(end for _, end in stretches)][: len(stretches)]
    assert not stretches or stretches[-1][1] == len(data)
