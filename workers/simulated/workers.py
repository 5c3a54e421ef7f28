"""Workers of a simulated device: they sleep instead of computing, and their results can be computed by hand.

Everything a real forward depends on goes into a SHA-256: the latents it starts from, the prompt, the timestep, the
positions, the contents of the pages it reads in their order, and the noise it adds. A page holds the hash of the
forward that wrote it, a latent is such a hash spread over its shape, and each picture of a block is one colour pattern.
So an op that ran on another session's latents or pages, out of order or not at all, shows in every later picture, and
whoever knows prompt and seed knows all pictures beforehand. Order, identity and timing are real; the video is not.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.core.effects import EncodeText, Forget, PrepareStream, Stow
from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Kind
from longtake.core.work import (
    FromLane,
    FromLatent,
    FromNoise,
    PageId,
    Role,
    SessionId,
    SlotId,
    WorkerId,
)
from workers.decode.encode import Encoder, encoder_for
from workers.decode.worker import video_settings
from workers.denoise.lane_memory import LaneMemory
from workers.denoise.worker import tensor_to_bytes
from workers.messages import Decode, Done, Encoded, Forward, Introduction, Output, Prepared, Task, Up
from workers.models import weights
from workers.models.api import TextEncoder
from workers.models.text import text_encoder
from workers.orders import Detached, Filled, Order
from workers.simulated.device import Pace, SimulatedDevice

_FLOAT_BYTES = 4
_HASH_BYTES = 32
_CPU = torch.device("cpu")


def mix(*parts: bytes) -> bytes:
    """SHA-256 over parts, each with its length, so that no two lists of parts are alike."""
    total = hashlib.sha256()
    for part in parts:
        total.update(struct.pack("<Q", len(part)))
        total.update(part)
    return total.digest()


def numbers(*values: float) -> bytes:
    """Numbers as a part for `mix`."""
    return struct.pack(f"<{len(values)}d", *values)


def latents_of(name: bytes, geometry: Geometry) -> bytes:
    """Latents of one block (float32, little-endian): the bytes of `name` as numbers 0 to 255, again and again."""
    count = int(np.prod(geometry.block_shape))
    return bytes(np.resize(np.frombuffer(name, np.uint8), count).astype("<f4").tobytes())


def noise(seed: int, block: int, draw: int) -> bytes:
    """What stands for the noise of one draw."""
    return mix(b"noise", struct.pack("<QQQ", seed, block, draw))


def forward(latents: bytes, text: bytes, timestep: float, positions: Sequence[int], context: Sequence[bytes]) -> bytes:
    """What stands for one forward over the pages in `context`, in order; empty stands for a page of its own."""
    return mix(b"forward", latents, text, numbers(timestep, *positions), *context)


def page_of(forward_name: bytes, position: int) -> bytes:
    """What a page holds after a forward wrote the frame at `position` into it."""
    return mix(b"page", forward_name, numbers(position))


def denoised(forward_name: bytes, added_noise: bytes, geometry: Geometry) -> bytes:
    """Output of a denoise op; `added_noise` is empty where the output is x0."""
    return latents_of(mix(b"denoised", forward_name, added_noise), geometry)


def decoded(latents: bytes, before: bytes) -> bytes:
    """What stands for the decoding of a block, `before` being that of the block before it (empty: the first)."""
    return mix(b"decoded", latents, before)


def pictures(block_name: bytes, first_picture: int, count: int, geometry: Geometry) -> NDArray[np.uint8]:
    """Pictures [count, height, width, 3] of a block; each is a hash of block and picture number, again and again."""
    shape = (geometry.height, geometry.width, 3)
    hashes = (mix(b"picture", block_name, numbers(first_picture + offset)) for offset in range(count))
    return np.stack([np.resize(np.frombuffer(name, np.uint8), shape) for name in hashes])


def _bytes_tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """The times of the device and how they are kept."""

    device: SimulatedDevice
    pace: Pace

    def forward_ends(self, began_s: float) -> None:
        self.pace.wait(began_s, self.device.forward_s * self.device.factor)

    def decode_ends(self, began_s: float) -> None:
        self.pace.wait(began_s, self.device.decode_s * self.device.factor)


class SimulatedDenoiseWorker:
    """Stands for a DenoiseWorker with `pages` pages. Not thread-safe: one thread does everything."""

    role = Role.DENOISE

    def __init__(self, geometry: Geometry, clock: _Clock, *, pages: int) -> None:
        self._geometry = geometry
        self._clock = clock
        self._pages = torch.zeros(pages, _HASH_BYTES, dtype=torch.uint8)
        """A hash each; zeros: nothing was written yet."""
        self._memory: LaneMemory[bytes, bytes] = LaneMemory()

    def perform(self, message: Order) -> Iterator[Up]:
        """Do one thing and yield what to report. InternalFault or UnknownPeer if the order cannot be meant."""
        match message:
            case Task(order=tuple() as batch):
                yield Done(
                    sequence=message.sequence,
                    outputs=tuple(output for forward in batch for output in self._forward(forward)),
                )
            case Forget():
                self._memory.forget(message)
            case _:
                raise UnknownPeer(f"a denoise worker cannot do {type(message).__name__}")

    @property
    def device(self) -> torch.device:
        """Where its pages lie."""
        return _CPU

    def page(self, page: PageId) -> Tensor:
        """The memory of one page, a view; IndexError if it is not in the pool."""
        if not 0 <= page < len(self._pages):
            raise IndexError(f"page {page} is not in a pool of {len(self._pages)}")
        return self._pages[page]

    def _forward(self, order: Forward) -> tuple[Output, ...]:
        """One op, in its own time: this device saves nothing by batching, and introduces itself so."""
        began_s = time.monotonic()
        work = order.work
        text = self._memory.text(order, lambda features: mix(b"text", features))
        own = dict(zip(work.writes, work.positions, strict=True))
        context = [b"" if page in own else self._read(page) for page in work.reads]
        name = forward(self._input(order), text, work.timestep, work.positions, context)
        for page, position in own.items():
            self._write(page, page_of(name, position))
        if work.kind is Kind.COMMIT:
            self._clock.forward_ends(began_s)
            return ()
        added = b"" if work.next_sigma is None else noise(work.seed, work.block, work.step + 1)
        latents = denoised(name, added, self._geometry)
        self._memory.keep(work, latents)
        self._clock.forward_ends(began_s)
        return (Output(sha256=hashlib.sha256(latents).hexdigest(), latents=latents),)

    def _input(self, order: Forward) -> bytes:
        work = order.work
        match work.input:
            case FromNoise():
                return latents_of(noise(work.seed, work.block, 0), self._geometry)
            case FromLatent():
                if len(order.latents) != _FLOAT_BYTES * np.prod(self._geometry.block_shape):
                    raise InternalFault(f"{len(order.latents)} bytes are not the latents of a block")
                return order.latents
            case FromLane():
                return self._memory.output(work)

    def _read(self, page: PageId) -> bytes:
        content = self.page(page).numpy().tobytes()
        if not any(content):
            raise InternalFault(f"page {page} is read before it was written")
        return content

    def _write(self, page: PageId, content: bytes) -> None:
        self.page(page).copy_(_bytes_tensor(content))


class SimulatedDecodeWorker:
    """Stands for a DecodeWorker with `slots` slots; prompts and segments are encoded for real."""

    role = Role.DECODE

    def __init__(self, geometry: Geometry, text: TextEncoder, clock: _Clock, *, slots: int) -> None:
        self._geometry = geometry
        self._text = text
        self._clock = clock
        self._slots = slots
        self._streams: dict[SessionId, tuple[SlotId, Encoder]] = {}
        self._states: dict[SlotId, bytes] = {}
        self._awaiting: dict[SessionId, PrepareStream] = {}

    def perform(self, message: Order) -> Iterator[Up | Detached]:
        """Do one thing and yield what to report. InvalidField for a bad prompt, else InternalFault or UnknownPeer."""
        match message:
            case Task(order=Decode() as order):
                yield Done(sequence=message.sequence, segment=self._decode(order))
            case PrepareStream(image=None):
                yield self._prepare(message, self._state_of(message.origin))
            case PrepareStream():
                self._awaiting[message.session] = message
            case Filled():
                if self._awaiting.get(message.order.session) == message.order:  # else it was forgotten meanwhile
                    (state,) = message.tensors
                    yield self._prepare(self._awaiting.pop(message.order.session), state.numpy().tobytes())
            case Stow():
                yield self._detach(message)
            case EncodeText():
                encoded = self._text.encode(message.prompt)
                features = tensor_to_bytes(encoded.features_TC)
                yield Encoded(conditioning=message.conditioning, tensor=features, notice=encoded.notice)
            case Forget(version=None):
                self._awaiting.pop(message.session, None)
                slot, _ = self._streams.pop(message.session, (None, None))
                if slot is not None:
                    del self._states[slot]
            case Forget():
                pass
            case _:
                raise UnknownPeer(f"a decode worker cannot do {type(message).__name__}")

    @property
    def device(self) -> torch.device:
        """Where its slots lie."""
        return _CPU

    def page(self, page: PageId) -> Tensor:
        """UnknownPeer: what a decode worker has is slots."""
        raise UnknownPeer(f"a decode worker has no page {page}")

    def _detach(self, order: Stow) -> Detached:
        if self._streams.get(order.session, (None,))[0] != order.source:
            raise UnknownPeer(f"decoder slot {order.source} was not prepared for session {order.session}")
        slot, _ = self._streams.pop(order.session)
        return Detached(image=order.image, tensors=(_bytes_tensor(self._states.pop(slot)),))

    def _prepare(self, message: PrepareStream, state: bytes) -> Prepared:
        if not 0 <= message.slot < self._slots:
            raise UnknownPeer(f"decoder slot: {message.slot} is not allowed; allowed: 0 to {self._slots - 1}")
        if message.slot in self._states:
            raise InternalFault(f"decoder slot {message.slot} is already open")
        encoder = encoder_for(video_settings(message.settings, self._geometry))
        self._streams[message.session] = (message.slot, encoder)
        self._states[message.slot] = state
        return Prepared(session=message.session, header=encoder.header(), media_type=encoder.content_type)

    def _state_of(self, origin: SlotId | None) -> bytes:
        """The state that a slot begins with: that of another one, or none."""
        if origin is None:
            return b""
        if origin not in self._states:
            raise InternalFault(f"decoder slot {origin} is not open")
        return self._states[origin]

    def _decode(self, order: Decode) -> bytes:
        began_s = time.monotonic()
        work = order.work
        slot, encoder = self._streams.get(work.session, (None, None))
        if slot != work.slot or encoder is None:
            raise UnknownPeer(f"decoder slot {work.slot} was not prepared for session {work.session}")
        name = decoded(order.latents, self._states[work.slot])
        self._states[work.slot] = name
        pictures_FHWC = pictures(name, work.first_picture, work.picture_count, self._geometry)
        segment = encoder.encode(pictures_FHWC, work.first_picture)
        self._clock.decode_ends(began_s)
        return segment


class SimulatedModel:
    """What LoadedWorker (workers.start.loading) is for a real device: no weights, `fresh` workers without history."""

    def __init__(
        self,
        *,
        worker: WorkerId,
        role: Role,
        capacity: int,
        model: Path,
        device: SimulatedDevice,
        meeting_point: str = "",
    ) -> None:
        """Read model.json; InvalidField or Contradiction if it, or the capacity, is wrong."""
        if capacity < 1:
            raise InvalidField("worker.capacity", capacity, "1 or more pages or decoder slots")
        self._info = weights.load_info(model)
        self._clock = _Clock(device=device, pace=Pace())
        self.meeting_point = meeting_point
        self.introduction = Introduction(
            worker=worker, role=role, capacity=capacity, model_digest=simulated_digest(model)
        )

    @property
    def pace(self) -> Pace:
        """How exactly the times were kept so far."""
        return self._clock.pace

    def fresh(self) -> SimulatedDenoiseWorker | SimulatedDecodeWorker:
        """A worker with empty pages or slots. The one before must have ended."""
        capacity, geometry = self.introduction.capacity, self._info.geometry
        if self.introduction.role is Role.DENOISE:
            return SimulatedDenoiseWorker(geometry, self._clock, pages=capacity)
        text = text_encoder(self._info.text_kind, self._info.text_width)
        return SimulatedDecodeWorker(geometry, text, self._clock, slots=capacity)


def simulated_digest(folder: Path) -> str:
    """SHA-256 (hex) over model.json, and over the fact that nothing is computed: no real worker has it."""
    return mix(b"simulated", (folder / weights.INFO_FILE).read_bytes()).hex()
