"""What a client gives: pictures from anybody, decoded, scaled to cover those of the stream, and encoded as latents.

Sizes and counts were looked at before they came here; a decoder of pictures is told again what is the most it may make
memory for. Shape legend: F frames (pictures in, latent frames out), C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import av
import numpy as np
import torch
from av.error import FFmpegError
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.errors import InvalidField
from longtake.core.recipe.geometry import Geometry
from workers.decode.slots import LatentFormat
from workers.device_work import upload
from workers.models.api import LatentEncoder

MAX_SIDE = 4096
"""No side of a given picture is longer, in pixels."""
_CODECS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "mjpeg"}
"""By how their files begin."""


class Giving(Protocol):
    """What makes latents of pictures."""

    def latents(self, pictures: Sequence[bytes]) -> Tensor:
        """Normalised latents [F, C, H, W], float32 on the CPU, of 1 + k stride pictures; InvalidField for others."""
        ...


def reference_latents(giving: Giving, images: Sequence[bytes]) -> list[Tensor]:
    """The latents [1, C, H, W] of images that a stream looks at, each encoded for itself; InvalidField names the one
    that cannot be."""
    made: list[Tensor] = []
    for image in images:
        try:
            made.append(giving.latents((image,)))
        except InvalidField as error:
            raise InvalidField(f"open.references[{len(made)}]", error.value, error.allowed) from None
    return made


class PictureEncoder:
    """A model's own encoder for the size of its pictures."""

    def __init__(self, encoder: LatentEncoder, latents: LatentFormat, geometry: Geometry) -> None:
        self._encoder = encoder
        self._width, self._height, self._stride = geometry.width, geometry.height, geometry.stride_time
        self._mean_C11 = torch.tensor(latents.mean).view(-1, 1, 1)
        self._std_C11 = torch.tensor(latents.std).view(-1, 1, 1)

    def latents(self, pictures: Sequence[bytes]) -> Tensor:
        """See Giving. Pictures are decoded as they are needed, so memory does not depend on how many there are."""
        with torch.inference_mode():
            state, made = self._encoder.initial_state(1, self._height, self._width), []
            for first in (0, *range(1, len(pictures), self._stride)):
                chunk = range(first, first + self._stride if first else 1)
                if chunk.stop > len(pictures):
                    allowed = f"1 plus a multiple of {self._stride} pictures"
                    raise InvalidField("open.given", f"{len(pictures)} pictures", allowed)
                shown_FHWC = np.stack([self._shown(number, pictures[number]) for number in chunk])
                (pixels_FHWC,) = upload(self._encoder.device, torch.from_numpy(shown_FHWC))
                pixels_BCFHW = pixels_FHWC.to(self._encoder.dtype).div(127.5).sub(1).permute(3, 0, 1, 2)[None]
                mean_BCFHW, _ = self._encoder.encode(pixels_BCFHW, state)
                made.append(mean_BCFHW[0].transpose(0, 1).float().cpu())
            return ((torch.cat(made) - self._mean_C11) / self._std_C11).contiguous()

    def _shown(self, number: int, data: bytes) -> NDArray[np.uint8]:
        try:
            return covering(data, self._width, self._height)
        except (FFmpegError, ValueError, EOFError) as error:
            why = f"a PNG or JPEG that can be decoded ({error})"
            raise InvalidField(f"open.given[{number}]", f"{len(data)} bytes", why) from None


def covering(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """A picture [H, W, C], RGB, scaled so that it just covers this size, its middle; ValueError or FFmpegError for what
    is none."""
    name = next((codec for magic, codec in _CODECS.items() if data.startswith(magic)), None)
    if name is None:
        raise ValueError("it is neither")
    codec = av.CodecContext.create(name, "r")
    assert isinstance(codec, av.VideoCodecContext)
    codec.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
    frame = next(iter([*codec.decode(av.Packet(data)), *codec.decode(None)]), None)
    if frame is None or not 0 < max(frame.width, frame.height) <= MAX_SIDE:
        raise ValueError("it holds no picture of an allowed size")
    scale = max(width / frame.width, height / frame.height)
    columns, rows = max(width, round(frame.width * scale)), max(height, round(frame.height * scale))
    shown = frame.reformat(columns, rows, "rgb24", interpolation="AREA" if scale < 1 else "BICUBIC").to_ndarray()
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.ascontiguousarray(shown[top : top + height, left : left + width])
