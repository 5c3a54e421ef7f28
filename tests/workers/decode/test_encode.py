"""Segments: they play from any block, carry the right times, and are the same bytes whenever they are made."""

import io
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.core.errors import InternalFault, InvalidField
from workers.decode import mp4
from workers.decode.encode import Codec, Encoder, H264Encoder, VideoSettings, encoder_for
from workers.decode.mp4 import nal_units

Pictures = NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 64, 48, Fraction(16)
BLOCKS = ((0, 9), (9, 12), (21, 12), (33, 12))  # first picture and number of pictures
PICTURES = 45


def settings(codec: Codec = Codec.H264, fps: Fraction = FPS) -> VideoSettings:
    return VideoSettings(codec=codec, width=WIDTH, height=HEIGHT, fps=fps)


def pictures(first: int, count: int, height: int = HEIGHT, width: int = WIDTH) -> Pictures:
    """A smooth moving pattern, a function of the picture's number."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.stack([np.sin((x + 2 * n) / 9), np.cos((y - n) / 7), np.sin((x + y + n) / 13)], -1)
        for n in range(first, first + count)
    ]
    return np.round(127 + 100 * np.stack(waves)).astype(np.uint8)


def segments(encoder: Encoder) -> list[bytes]:
    return [encoder.encode(pictures(first, count), first) for first, count in BLOCKS]


def decoded(file: bytes) -> list[tuple[Fraction, bool, Pictures]]:
    """Time in seconds, whether a key picture, and RGB of every picture in an MP4 file."""
    found = []
    with av.open(io.BytesIO(file), mode="r") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            rgb = frame.to_ndarray(format="rgb24", src_colorspace=frame.colorspace)
            found.append((frame.pts * frame.time_base, frame.key_frame, rgb.astype(np.uint8)))
    return found


def psnr_db(ours: Pictures, theirs: Pictures) -> float:
    error = np.mean((ours.astype(np.float64) - theirs) ** 2)
    return 10 * math.log10(255**2 / error)


def times_are_right(file: bytes, first: int) -> bool:
    return all(time == (first + i) / FPS for i, (time, _, _) in enumerate(decoded(file)))


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        assert 8 <= size <= len(data)
        yield kind, data[8:size]
        data = data[size:]


def test_header_and_all_segments_are_a_video() -> None:
    encoder = encoder_for(settings())
    frames = decoded(encoder.header() + b"".join(segments(encoder)))
    assert [time for time, _, _ in frames] == [Fraction(n, 16) for n in range(PICTURES)]
    assert [n for n, (_, key, _) in enumerate(frames) if key] == [first for first, _ in BLOCKS]
    for n, (_, _, rgb) in enumerate(frames):
        assert psnr_db(rgb, pictures(n, 1)[0]) > 32
        assert psnr_db(rgb, pictures(n + 1, 1)[0]) < 30  # the measure tells neighbours apart


@pytest.mark.parametrize("whole", range(1, len(BLOCKS) + 1))
def test_a_file_cut_after_whole_segments_plays(whole: int) -> None:
    encoder = encoder_for(settings())
    cut = encoder.header() + b"".join(segments(encoder)[:whole])
    assert len(decoded(cut)) == sum(count for _, count in BLOCKS[:whole])
    assert times_are_right(cut, 0)


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_joining_at_any_block_plays_from_there(block: int) -> None:
    encoder = encoder_for(settings())
    whole = decoded(encoder.header() + b"".join(segments(encoder)))
    joined_file = encoder.header() + b"".join(segments(encoder)[block:])
    first = BLOCKS[block][0]
    assert times_are_right(joined_file, first)
    for ours, theirs in zip(decoded(joined_file), whole[first:], strict=True):
        np.testing.assert_array_equal(ours[2], theirs[2])


def test_a_wrong_first_picture_is_seen_in_the_times() -> None:
    encoder = encoder_for(settings())
    wrong = encoder.header() + encoder.encode(pictures(0, 9), 0) + encoder.encode(pictures(9, 12), 10)
    assert not times_are_right(wrong, 0)


def test_a_growing_file_shows_each_segment_at_once(tmp_path: Path) -> None:
    encoder = encoder_for(settings())
    path = tmp_path / "growing.mp4"
    path.write_bytes(encoder.header())
    for (first, count), segment in zip(BLOCKS, segments(encoder), strict=True):
        with path.open("ab") as file:
            file.write(segment)
        with av.open(str(path), mode="r") as container:
            numbers = [int(p.pts * p.time_base * FPS) for p in container.demux(video=0) if p.pts is not None]
        assert numbers == list(range(first + count))


@pytest.mark.parametrize("codec", list(Codec))
def test_a_segment_made_again_is_the_same_bytes(codec: Codec) -> None:
    encoder = encoder_for(settings(codec))
    made = segments(encoder)
    assert segments(encoder) == made
    again = encoder_for(settings(codec))
    assert [again.encode(pictures(f, n), f) for f, n in reversed(BLOCKS)] == made[::-1]
    assert again.header() == encoder.header()
    assert encoder.encode(pictures(1, 12), 9) != made[1]


def test_only_the_time_depends_on_the_first_picture() -> None:
    encoder = encoder_for(settings())
    early, late = (dict(boxes(encoder.encode(pictures(0, 5), first))) for first in (9, 21))
    assert list(early) == [b"moof", b"mdat"]
    assert early[b"mdat"] == late[b"mdat"]
    differing = [i for i, (a, b) in enumerate(zip(early[b"moof"], late[b"moof"], strict=True)) if a != b]
    sequence, decode_time = early[b"moof"].find(b"mfhd") + 8, early[b"moof"].find(b"tfdt") + 8
    assert set(differing) <= {*range(sequence, sequence + 4), *range(decode_time, decode_time + 8)}
    assert struct.unpack_from(">Q", late[b"moof"], decode_time) == (21 * 1000,)


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(16), Fraction(1, 2)])
def test_times_hold_for_fractional_rates_and_long_streams(fps: Fraction) -> None:
    encoder = encoder_for(settings(fps=fps))
    first = 10_000_000  # a week at 16 pictures a second
    frames = decoded(encoder.header() + encoder.encode(pictures(0, 3), first))
    assert [time for time, _, _ in frames] == [(first + i) / fps for i in range(3)]


@pytest.mark.parametrize("rgb", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_declared_colours_are_the_encoded_ones(rgb: tuple[int, int, int]) -> None:
    encoder = encoder_for(settings())
    flat = np.broadcast_to(np.array(rgb, np.uint8), (2, HEIGHT, WIDTH, 3)).copy()
    for _, _, picture in decoded(encoder.header() + encoder.encode(flat, 0)):
        assert np.abs(picture.astype(int) - np.array(rgb)).max() <= 4


def test_codec_string_is_what_the_header_says() -> None:
    encoder = encoder_for(settings())
    header = encoder.header()
    profile_and_level = header[header.find(b"avcC") + 5 :][:3].hex()
    assert encoder.content_type == f'video/mp4; codecs="avc1.{profile_and_level}"'
    assert [kind for kind, _ in boxes(header)] == [b"ftyp", b"moov"]


def test_parameter_sets_other_than_the_header_s_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = H264Encoder(settings())
    found = mp4.parameter_sets
    monkeypatch.setattr(mp4, "parameter_sets", lambda data: replace(found(data), pps=found(data).pps + b"\x01"))
    with pytest.raises(InternalFault, match="parameter sets differ"):
        encoder.encode(pictures(0, 2), 0)


def test_start_codes_of_both_lengths_split_a_stream() -> None:
    stream = b"\x00\x00\x00\x01\x67\x01\x00\x00\x01\x68\x02\x00\x00\x00\x01\x65\x00\x00\x03\x01"
    assert nal_units(stream) == [b"\x67\x01", b"\x68\x02", b"\x65\x00\x00\x03\x01"]


def test_jpeg_parts_carry_numbers_and_pictures() -> None:
    encoder = encoder_for(settings(Codec.MJPEG))
    stream = encoder.header() + b"".join(segments(encoder))
    assert encoder.content_type == "multipart/x-mixed-replace; boundary=longtake"
    assert [int(n) for n in re.findall(rb"\r\nX-Picture: (\d+)\r\n", stream)] == list(range(PICTURES))
    rest = stream
    for n in range(PICTURES):
        head, body = rest.split(b"\r\n\r\n", 1)
        assert head.startswith(b"--longtake\r\nContent-Type: image/jpeg\r\n")
        (length,) = re.findall(rb"Content-Length: (\d+)", head)
        jpeg, rest = body[: int(length)], body[int(length) + 2 :]
        assert jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9")
        with av.open(io.BytesIO(jpeg), mode="r", format="jpeg_pipe") as container:
            (frame,) = container.decode(video=0)
        assert psnr_db(frame.to_ndarray(format="rgb24").astype(np.uint8), pictures(n, 1)[0]) > 38
    assert rest == b""


def test_raw_segments_are_the_pictures() -> None:
    encoder = encoder_for(settings(Codec.RAW))
    stream = np.frombuffer(encoder.header() + b"".join(segments(encoder)), np.uint8)
    np.testing.assert_array_equal(stream.reshape(-1, HEIGHT, WIDTH, 3), pictures(0, PICTURES))


@pytest.mark.parametrize("codec", [Codec.MJPEG, Codec.RAW])
def test_odd_sizes_suit_the_other_codecs(codec: Codec) -> None:
    encoder = encoder_for(VideoSettings(codec=codec, width=33, height=17, fps=FPS))
    assert encoder.encode(pictures(0, 2, 17, 33), 0)


def test_a_view_into_a_larger_picture_encodes_as_its_copy() -> None:
    view = pictures(0, 8, HEIGHT, WIDTH * 2)[::2, :, :WIDTH]
    for codec in Codec:
        encoder = encoder_for(settings(codec))
        assert encoder.encode(view, 0) == encoder.encode(view.copy(), 0)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"width": 65}, "video.width: 65 is not allowed; allowed: an even number with codec h264"),
    ({"height": 47}, "video.height: 47 is not allowed; allowed: an even number with codec h264"),
    ({"width": 0}, "video.width: 0 is not allowed; allowed: 1 to 8192 pixels"),
    ({"crf": 0}, "video.crf: 0 is not allowed; allowed: 1 to 51"),
    ({"jpeg_scale": 32}, "video.jpeg_scale: 32 is not allowed; allowed: 1 to 31"),
    ({"fps": Fraction(0)}, "video.fps: '0' is not allowed; allowed: a positive fraction of integers below 4294967"),
    ({"fps": Fraction(5_000_000)}, "video.fps: '5000000' is not allowed"),
    ({"preset": "warp"}, "video.preset: 'warp' is not allowed; allowed: ultrafast, superfast"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused_settings_name_field_value_and_what_is_allowed(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"codec": Codec.H264, "width": WIDTH, "height": HEIGHT, "fps": FPS} | change
    with pytest.raises(InvalidField, match=re.escape(message)):
        VideoSettings(**fields)


@pytest.mark.parametrize("codec", list(Codec))
def test_refused_pictures_name_what_they_are(codec: Codec) -> None:
    encoder = encoder_for(settings(codec))
    good = pictures(0, 2)
    allowed = "allowed: Fx48x64x3 uint8 with F >= 1"
    floats: NDArray[Any] = good / 2
    for wrong, got in ((good[:, 1:], "2x47x64x3 uint8"), (good[:0], "0x48x64x3 uint8"), (floats, "float64")):
        with pytest.raises(InternalFault, match=re.escape(allowed)) as caught:
            encoder.encode(wrong, 0)
        assert got in str(caught.value)
    with pytest.raises(InternalFault, match="first picture: -1"):
        encoder.encode(good, -1)


@pytest.mark.parametrize(("preset", "profile"), [("ultrafast", "42c0"), ("veryfast", "6400")])
def test_profiles_with_and_without_chroma_fields_play(preset: str, profile: str) -> None:
    encoder = encoder_for(VideoSettings(codec=Codec.H264, width=WIDTH, height=HEIGHT, fps=FPS, preset=preset))
    assert f"avc1.{profile}" in encoder.content_type
    assert len(decoded(encoder.header() + b"".join(segments(encoder)))) == PICTURES
