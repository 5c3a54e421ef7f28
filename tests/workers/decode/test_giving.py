"""Pictures from anybody become latents of a stream's size, or are refused; chunks change no bit."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from cluster.launch.plan import POCKET, model_path
from longtake.core.errors import UnknownPeer
from longtake.core.parts import EncodePictures
from longtake.core.work import SessionId, WorkerId
from tests.workers.given_pictures import encoded, jpeg, latents_of, moving_ball, png
from workers.decode.giving import PartEncoder, PictureEncoder, covering
from workers.decode.slots import LatentFormat
from workers.denoise.worker import tensor_to_bytes
from workers.messages import EncodeGiven
from workers.models import weights
from workers.models.api import CarriedState, Compute, LatentEncoder
from workers.start.encoder_memory import encode_trial


@pytest.fixture(scope="module")
def giving() -> PictureEncoder:
    torch.set_num_threads(1)
    info = weights.load_info(model_path(POCKET))
    encoder = weights.load_encoder(model_path(POCKET), info, Compute())
    assert encoder is not None
    return PictureEncoder(encoder, LatentFormat.of(info), info.geometry)


def test_latents_are_those_of_the_whole_clip_at_once_and_decode_to_the_pictures(giving: PictureEncoder) -> None:
    info, shown = weights.load_info(model_path(POCKET)), moving_ball(9)
    latents_FCHW = latents_of(giving, [encoded(picture) for picture in shown])
    assert latents_FCHW.shape == (3, *info.geometry.block_shape[1:]) and latents_FCHW.dtype == torch.float32
    encoder = weights.load_encoder(model_path(POCKET), info, Compute())
    pixels_BCFHW = torch.from_numpy(np.stack(shown)).float().div(127.5).sub(1).permute(3, 0, 1, 2)[None]
    mean = torch.tensor(info.latent_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(info.latent_std).view(1, -1, 1, 1, 1)
    with torch.inference_mode():
        whole_BCFHW = (encoder(pixels_BCFHW)[0] - mean) / std  # type: ignore[operator, misc]
        assert torch.equal(latents_FCHW, whole_BCFHW[0].transpose(0, 1))
        decoder = weights.load_decoder(model_path(POCKET), info, Compute())
        z_BCFHW = latents_FCHW.transpose(0, 1)[None] * std + mean
        back_BCFHW = decoder.decode(z_BCFHW, decoder.initial_state(1, *latents_FCHW.shape[2:]))
    assert (back_BCFHW - pixels_BCFHW).abs().mean() < 0.15, "normalised the other way it is above 0.4"


WORKER, A, B = WorkerId("w"), SessionId("a"), SessionId("b")


def part(number: int, pictures: Sequence[bytes], session: SessionId = A, *, of: int = 3) -> EncodeGiven:
    """The order for one of so many frames of a clip."""
    names = range(max(0, 4 * number - 3), 4 * number + 1)
    order = EncodePictures(
        worker=WORKER, session=session, part=number, pictures=names, follows=number > 0, leads=number + 1 < of
    )
    return EncodeGiven(order=order, pictures=tuple(pictures[names.start : names.stop]))


def test_parts_are_the_frames_of_the_whole_clip_and_images_are_each_for_itself(giving: PictureEncoder) -> None:
    shown, encoder = [encoded(picture) for picture in moving_ball(9)], PartEncoder(giving)
    made = [encoder.encode(part(number, shown)) for number in range(3)]
    whole_FCHW = latents_of(giving, shown)
    assert b"".join(each.latents for each in made) == tensor_to_bytes(whole_FCHW), "bit for bit"
    assert encoder.held is None, "the last one leaves nothing"
    for number in range(2):
        order = EncodePictures(
            worker=WORKER, session=A, part=3 + number, pictures=range(number, number + 1), is_reference=True
        )
        image = encoder.encode(EncodeGiven(order=order, pictures=(shown[number],)))
        assert image.latents == tensor_to_bytes(latents_of(giving, shown[number : number + 1]))
        bad = encoder.encode(EncodeGiven(order=order, pictures=(b"no picture",)))
        assert bad.unfit.startswith(f"open.references[{number}]: '10 bytes'") and not bad.latents


def test_the_state_of_one_clip_is_kept_and_what_follows_another_is_refused(giving: PictureEncoder) -> None:
    shown, encoder = [encoded(picture) for picture in moving_ball(9)], PartEncoder(giving)
    encoder.encode(part(0, shown))
    assert encoder.held == A
    with pytest.raises(UnknownPeer, match="before part 1"):
        encoder.encode(part(1, shown, B))
    encoder.encode(part(0, shown, B))
    assert encoder.held == B, "a clip that begins takes the place of one that was halfway"
    with pytest.raises(UnknownPeer, match="before part 1"):
        encoder.encode(part(1, shown))
    encoder.encode(part(0, shown))
    encoder.forget(B)
    assert encoder.held == A
    encoder.forget(A)
    assert encoder.held is None
    encoder.encode(part(0, shown))
    assert encoder.encode(part(1, [*shown[:4], b"none", *shown[5:]])).unfit.startswith("open.given[4]")
    assert encoder.held is None, "nothing can follow what was not encoded"


CPU = torch.device("cpu")


@dataclass
class Watched:
    """An encoder of which is kept what it was given."""

    encoder: LatentEncoder
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    given: list[torch.Size] = field(default_factory=list)

    def initial_state(self, batch: int, height: int, width: int) -> CarriedState:
        """See workers.models.api.LatentEncoder."""
        return self.encoder.initial_state(batch, height, width)

    def encode(self, pixels_BCFHW: Tensor, state: CarriedState) -> tuple[Tensor, Tensor]:
        """See workers.models.api.LatentEncoder."""
        self.given.append(pixels_BCFHW.shape)
        return self.encoder.encode(pixels_BCFHW, state)


def test_what_memory_is_kept_for_is_what_clips_are_encoded_by() -> None:
    info = weights.load_info(model_path(POCKET))
    encoder = weights.load_encoder(model_path(POCKET), info, Compute())
    assert encoder is not None
    tried, served = Watched(encoder), Watched(encoder)
    with torch.inference_mode():
        encode_trial(tried, info.geometry)
    giving = PictureEncoder(served, LatentFormat.of(info), info.geometry)
    latents_of(giving, [encoded(picture) for picture in moving_ball(9)])
    assert tried.given == served.given and len(tried.given) == 3


def test_an_image_is_one_frame_and_a_clip_begins_with_it(giving: PictureEncoder) -> None:
    shown = [encoded(picture) for picture in moving_ball(5)]
    one, two = latents_of(giving, shown[:1]), latents_of(giving, shown)
    assert len(one) == 1 and len(two) == 2 and torch.equal(one[0], two[0])


@pytest.mark.parametrize(("width", "height"), [(64, 64), (260, 200), (30, 90), (64, 65), (2000, 100), (7, 7)])
def test_a_picture_is_scaled_to_cover_and_its_middle_stays(width: int, height: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, width // 2 :, 0] = 255
    picture[height // 2 :, :, 1] = 255
    shown = covering(encoded(picture), 64, 64)
    assert shown.shape == (64, 64, 3)
    corners = [shown[row, column, :2].tolist() for row, column in ((1, 1), (1, 62), (62, 1), (62, 62))]
    assert np.abs(np.array(corners) - [[0, 0], [255, 0], [0, 255], [255, 255]]).max() < 60


def test_a_jpeg_is_what_it_shows() -> None:
    shown = covering(encoded(moving_ball(1)[0], "mjpeg", "yuvj420p"), 64, 64)
    assert np.abs(shown.astype(int) - moving_ball(1)[0]).mean() < 6


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no picture", png()[:40], png(8, 8, body=b"no deflate"), jpeg((64, 64)), png(60_000, 60_000),
        png(4096, 4096, body=zlib.compress(bytes(64))), png(4097, 1), encoded(moving_ball(1)[0])[:200],
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_by_its_place(giving: PictureEncoder, data: bytes) -> None:
    good = encoded(moving_ball(1)[0])
    encoder, pictures = PartEncoder(giving), [good] * 4 + [data]
    assert not encoder.encode(part(0, pictures)).unfit
    unfit = encoder.encode(part(1, pictures)).unfit
    assert unfit.startswith("open.given[4]") and "PNG or JPEG" in unfit
