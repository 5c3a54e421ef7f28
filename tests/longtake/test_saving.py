"""What can be made of a stream: a file, its bytes, pictures as arrays; files begin at 0."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake import Client, CueAt, OpenedEvent, SegmentEvent, StreamOptions, SyncClient
from longtake.client.events import StreamEvent
from longtake.client.mp4 import FromZero
from longtake.core.recipe.geometry import Geometry
from tests.cluster.frontend.toy import GEOMETRY, HEADER, segment, toy_cell, toy_cell_in_thread
from workers.decode.encode import Codec, VideoSettings, encoder_for

SIZE, BLOCK = 32, 12
PICTURES = GEOMETRY.first_picture(5)


def pictures_of(block: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A patch that moves to the right."""
    made = np.full((BLOCK, SIZE, SIZE, 3), 40, np.uint8)
    for number, picture in enumerate(made):
        picture[8:16, (number + block) % 16 : (number + block) % 16 + 12] = (200, 60, 60)
    return made


def encoded(codec: Codec, blocks: Iterable[int]) -> tuple[OpenedEvent, list[SegmentEvent]]:
    """A stream as a client gets it."""
    encoder = encoder_for(VideoSettings(codec=codec, width=SIZE, height=SIZE, fps=Fraction(16)))
    opened = OpenedEvent(
        session_id="s", seed=1, recipe_digest="", header=encoder.header(), media_type=encoder.content_type,
        width=SIZE, height=SIZE, fps=Fraction(16), window=4, timescale=16, pictures=None, decoder="full",
    )  # fmt: skip
    return opened, [
        SegmentEvent(
            index=block, first_picture=block * BLOCK, picture_count=BLOCK, start_s=Fraction(block * BLOCK, 16),
            duration_s=Fraction(BLOCK, 16), prompt_version=0, keyframe=True, opened=opened,
            data=encoder.encode(pictures_of(block), block * BLOCK),
        )
        for block in blocks
    ]  # fmt: skip


def times(data: bytes) -> list[float]:
    with av.open(io.BytesIO(data), mode="r") as file:
        return [frame.time for frame in file.decode(video=0) if frame.time is not None]


def test_the_segments_of_a_later_part_begin_at_0_and_those_of_the_beginning_stay_as_they_are() -> None:
    opened, later = encoded(Codec.H264, range(3, 6))
    moving = FromZero()
    moved = [moving.moved(event.data, opened.media_type) for event in later]
    plain = times(opened.header + b"".join(event.data for event in later))
    assert plain[0] == 3 * BLOCK / 16
    assert times(opened.header + b"".join(moved)) == [number / 16 for number in range(3 * BLOCK)]
    opened, whole = encoded(Codec.H264, range(3))
    again = FromZero()
    assert [again.moved(event.data, opened.media_type) for event in whole] == [event.data for event in whole]
    opened, raw = encoded(Codec.RAW, range(3, 5))
    assert FromZero().moved(raw[0].data, opened.media_type) == raw[0].data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", struct.pack(">I4s", 0, b"moof"), struct.pack(">I4s", 4, b"tfdt"), struct.pack(">I4s", 8, b"tfdt"),
        struct.pack(">I4sII", 16, b"tfdt", 0x01000000, 7), struct.pack(">I4sQ", 1, b"moof", 1 << 60),
        b"\xff" * 40, struct.pack(">I4s", 100, b"moof") + b"\x00" * 20,
    ],
)  # fmt: skip
def test_what_is_no_mp4_is_left_as_it_is(data: bytes) -> None:
    moving = FromZero()
    moving.moved(encoded(Codec.H264, [3])[1][0].data, "video/mp4")
    assert moving.moved(data, "video/mp4") == data


@pytest.mark.parametrize("codec", list(Codec))
def test_a_segment_gives_its_pictures(codec: Codec) -> None:
    _, segments = encoded(codec, (2, 3))
    for event in segments:
        found = event.frames()
        assert found.dtype == np.uint8 and found.shape == (BLOCK, SIZE, SIZE, 3)
        wrong = np.abs(found.astype(int) - pictures_of(event.index)).mean()
        assert wrong == 0 if codec is Codec.RAW else wrong < 6


def test_pictures_need_an_extra_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (event,) = encoded(Codec.H264, [0])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'longtake\[frames\]'"):
        event.frames()


async def test_a_stream_is_saved_and_its_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    options = StreamOptions(seed=3, pictures=PICTURES, cues=(CueAt(prompt="blue", block=2),))
    expected = HEADER + b"".join(segment(n, 3, "red" if n < 2 else "blue") for n in range(5))
    told: list[StreamEvent] = []
    async with toy_cell() as cell, Client(cell.target) as client:
        async with client.stream("red", options) as stream:
            summary = await stream.save(tmp_path / "a.mp4", tell=told.append)
        assert (tmp_path / "a.mp4").read_bytes() == expected
        assert (summary.segments, summary.pictures, summary.seed, summary.ending) == (5, PICTURES, 3, "completed")
        assert [cue.cue_id for cue in summary.cues] == ["cue-1"] and len(told) == 5 + 4
        async with client.stream("red", options) as stream:
            await anext(stream)
            assert b"".join([chunk async for chunk in stream.chunks()]) == expected
        async with client.stream("red", options) as stream, client.watch(stream.opened.session_id) as watch:
            await stream.save(tmp_path / "b.mp4")
            assert (await watch.save(tmp_path / "c.mp4")).ending == "completed"
        with pytest.raises(ValueError, match="enter the stream first"):
            await client.stream("red").save(tmp_path / "d.mp4")
        with pytest.raises(OSError, match="nowhere"):
            async with client.stream("red", options) as stream:
                await stream.save(tmp_path / "nowhere" / "d.mp4")
    assert not (tmp_path / "d.mp4").exists()


def test_the_synchronous_face_saves_too_and_a_notebook_shows_the_file(tmp_path: Path) -> None:
    with toy_cell_in_thread() as cell, SyncClient(cell.target) as client:
        with client.stream("<red>", StreamOptions(seed=3, pictures=5)) as stream:
            summary = stream.save(tmp_path / "a.mp4")
        with client.stream("<red>", StreamOptions(seed=3, pictures=5)) as stream:
            assert b"".join(stream.chunks()) == (tmp_path / "a.mp4").read_bytes()
    shown = summary.html()
    assert "data:video/mp4;base64," in shown and "1 segments, 5 pictures" in shown
    (tmp_path / "a.mp4").unlink()
    assert "<video" not in summary.html() and "5 pictures" in summary.html()


def test_the_geometry_of_this_test_is_that_of_the_cell() -> None:
    assert isinstance(GEOMETRY, Geometry) and PICTURES == 9 + 4 * BLOCK
