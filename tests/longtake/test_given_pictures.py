"""What the client makes of files: a small picture stays, others are made smaller, of a clip its end is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from longtake.cli.main import run
from longtake.client import OptionError, StreamOptions, open_request
from longtake.client.pictures import CLIP_PICTURES, MAX_ALL_BYTES, MAX_BYTES, clip, first_frame
from tests.workers.given_pictures import encoded, moving_ball, video
from workers.decode.giving import covering


def test_a_small_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    for name, data in (
        ("a.png", encoded(moving_ball(1)[0])), ("b.jpg", encoded(moving_ball(1)[0], "mjpeg", "yuvj420p")),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert first_frame(tmp_path / name) == data


def test_a_large_picture_is_made_smaller_and_shows_the_same(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:1500, :2000]
    noise = np.random.default_rng(0).integers(0, 40, (1500, 2000, 3), np.uint8)
    picture = (noise + np.stack([rows // 8, columns // 10, rows // 16], -1)).astype(np.uint8)
    (tmp_path / "large.png").write_bytes(encoded(picture))
    assert (tmp_path / "large.png").stat().st_size > MAX_BYTES
    data = first_frame(tmp_path / "large.png")
    assert len(data) <= MAX_BYTES
    shown, right = (covering(each, 32, 32).astype(int) for each in (data, (tmp_path / "large.png").read_bytes()))
    assert np.abs(shown - right).mean() < 8


@pytest.mark.parametrize(("count", "sent"), [(1, 1), (4, 1), (5, 5), (12, 9), (33, 33), (40, 33)])
def test_of_a_clip_the_last_pictures_are_sent_as_many_as_make_latent_frames(
    tmp_path: Path, count: int, sent: int
) -> None:
    pictures = clip(video(tmp_path / "clip.mp4", count))
    assert len(pictures) == sent <= CLIP_PICTURES
    assert sum(map(len, pictures)) <= MAX_ALL_BYTES
    assert pictures == clip(tmp_path / "clip.mp4"), "always the same bytes"
    last = covering(pictures[-1], 64, 64).astype(int)
    assert np.abs(last - moving_ball(count)[-1]).mean() < 12


def test_what_is_no_picture_or_video_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    for option in ("--first-frame", "--continue"):
        for path in (text, tmp_path / "missing.png", tmp_path):
            assert run(["render", "a red ball", "--duration", "1s", option, str(path)]) == 2
            assert option in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(encoded(moving_ball(1)[0]))
    both = ["--first-frame", str(tmp_path / "a.png"), "--continue", str(video(tmp_path / "c.mp4", 5))]
    assert run(["render", "a red ball", "--duration", "1s", *both]) == 2
    assert "leave one out" in capsys.readouterr().err


@pytest.mark.parametrize("read", [first_frame, clip])
def test_a_device_that_never_ends_is_not_read(read: Callable[[Path], object]) -> None:
    with pytest.raises(ValueError, match="it is no file"):
        read(Path("/dev/zero"))


def test_options_that_no_server_could_understand_are_told() -> None:
    assert list(open_request("p", StreamOptions(given=(b"x", b"y"))).given) == [b"x", b"y"]
    assert list(open_request("p", StreamOptions(references=(b"x",))).references) == [b"x"]
    for options in (StreamOptions(given=("text",)), StreamOptions(given=(b"x",), fork="s")):  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="given"):
            open_request("p", options)
    for options in (StreamOptions(references=[b"x"]), StreamOptions(references=(b"x",), fork="s")):  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="references"):
            open_request("p", options)


def test_a_reference_is_named_by_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, text = tmp_path / "a.png", tmp_path / "notes.txt"
    image.write_bytes(encoded(moving_ball(1)[0]))
    text.write_text("no picture")
    asked = ["render", "a red ball", "--duration", "1s", "--output", str(tmp_path / "out.mp4")]
    for wrong, said in (
        (["--recipe", "reference", "--reference", str(text)], "a picture: PNG, JPEG"),
        (["--recipe", "reference"], "'no images' is not allowed; allowed: 1: recipe 'reference'"),
        (["--reference", str(image)], "'1 image' is not allowed; allowed: none: recipe 'hiar'"),
        (["--recipe", "reference", "--reference", str(image), "--reference", str(image)], "'2 images' is not allowed"),
    ):
        assert run([*asked, *wrong]) == 2
        told = capsys.readouterr().err
        assert "--reference" in told and said in told
    assert not (tmp_path / "out.mp4").exists()
