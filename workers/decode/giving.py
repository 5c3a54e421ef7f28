"""What a client gives: pictures from anybody, decoded, scaled to cover those of the stream, and encoded as latents.

Theory of operation. The encoder is causal: a latent frame depends on its own pictures and on what the encoder carries
from those before. So a clip is encoded frame by frame, each when it is ordered, with whatever else the worker is to do
between them, and the bits are those of the whole clip at once.

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

from longtake.core.errors import InvalidField, UnknownPeer
from longtake.core.recipe.geometry import Geometry
from longtake.core.work import SessionId
from workers.decode.slots import LatentFormat
from workers.denoise.worker import tensor_to_bytes
from workers.device_work import upload
from workers.messages import EncodeGiven, GivenEncoded
from workers.models.api import CarriedState, LatentEncoder

MAX_SIDE = 4096
"""No side of a given picture is longer, in pixels."""
_CODECS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "mjpeg"}
"""By how their files begin."""


class Giving(Protocol):
    """What makes latents of pictures, one frame after the other."""

    def begin(self) -> CarriedState:
        """The state of an encoder that has seen nothing."""
        ...

    def frame(self, pictures: Sequence[bytes], state: CarriedState) -> Tensor:
        """Normalised latents [1, C, H, W], float32 on the CPU, of the next pictures, which `state` is taken past.

        They are as many as a frame of that state is made of. UnfitPicture if one of them cannot be decoded.
        """
        ...


class UnfitPicture(Exception):
    """A picture that cannot be decoded: its place among those of its frame, its size in bytes, and why."""

    def __init__(self, place: int, size_bytes: int, why: str) -> None:
        super().__init__(why)
        self.place, self.size_bytes = place, size_bytes


class PartEncoder:
    """Encodes what clients gave, part by part, as they are ordered: between two it keeps the state of one clip."""

    def __init__(self, giving: Giving) -> None:
        self._giving = giving
        self._halfway: tuple[SessionId, CarriedState] | None = None

    def encode(self, message: EncodeGiven) -> GivenEncoded:
        """The latent frame of one part; UnknownPeer if it follows one that was not done here last."""
        order, state = message.order, None
        if order.follows:
            session, state = self._halfway or (None, None)
            if session != order.session:
                raise UnknownPeer(f"the part of what {order.session} was given before part {order.part} is not here")
        self._halfway, state = None, state or self._giving.begin()
        try:
            latents_FCHW = self._giving.frame(message.pictures, state)
        except UnfitPicture as error:
            field = f"open.{'references' if order.is_reference else 'given'}[{order.pictures[error.place]}]"
            why = InvalidField(field, f"{error.size_bytes} bytes", f"a PNG or JPEG that can be decoded ({error})")
            return GivenEncoded(session=order.session, part=order.part, unfit=str(why))
        if order.leads:
            self._halfway = order.session, state
        return GivenEncoded(session=order.session, part=order.part, latents=tensor_to_bytes(latents_FCHW))

    def forget(self, session: SessionId) -> None:
        """Free what is kept of a session; harmless if nothing is."""
        if self._halfway is not None and self._halfway[0] == session:
            self._halfway = None

    @property
    def held(self) -> SessionId | None:
        """Whose state is kept."""
        return None if self._halfway is None else self._halfway[0]


class PictureEncoder:
    """A model's own encoder for the size of its pictures."""

    def __init__(self, encoder: LatentEncoder, latents: LatentFormat, geometry: Geometry) -> None:
        self._encoder = encoder
        self._width, self._height = geometry.width, geometry.height
        self._mean_C11 = torch.tensor(latents.mean).view(-1, 1, 1)
        self._std_C11 = torch.tensor(latents.std).view(-1, 1, 1)

    def begin(self) -> CarriedState:
        """See Giving."""
        with torch.inference_mode():
            return self._encoder.initial_state(1, self._height, self._width)

    def frame(self, pictures: Sequence[bytes], state: CarriedState) -> Tensor:
        """See Giving."""
        shown_FHWC = np.stack([self._shown(place, data) for place, data in enumerate(pictures)])
        with torch.inference_mode():
            (pixels_FHWC,) = upload(self._encoder.device, torch.from_numpy(shown_FHWC))
            pixels_BCFHW = pixels_FHWC.to(self._encoder.dtype).div(127.5).sub(1).permute(3, 0, 1, 2)[None]
            mean_BCFHW, _ = self._encoder.encode(pixels_BCFHW, state)
            latents_FCHW = mean_BCFHW[0].transpose(0, 1).float().cpu()
            return ((latents_FCHW - self._mean_C11) / self._std_C11).contiguous()

    def _shown(self, place: int, data: bytes) -> NDArray[np.uint8]:
        try:
            return covering(data, self._width, self._height)
        except (FFmpegError, ValueError, EOFError) as error:
            raise UnfitPicture(place, len(data), str(error)) from None


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
