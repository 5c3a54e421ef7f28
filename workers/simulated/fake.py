"""A worker for cells that exist in one thread: it does at once what it is told, without a clock, a device or a thread.

It takes every message that a worker's link carries and answers with the message that a worker would send. Whoever
drives it decides when: a simulation on a clock of its own, a test in whatever order it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.work import ImageId, SessionId, SlotId
from workers.messages import (
    Decode,
    Done,
    Down,
    Encoded,
    EncodeGiven,
    GivenEncoded,
    ImageGone,
    ImageLoaded,
    ImageOrder,
    ImageStowed,
    Prepared,
    Task,
)
from workers.simulated.arithmetic import advanced, decoded, encoder_after, first_state, latents_of
from workers.simulated.lanes import SimulatedLanes

Report = Encoded | Prepared | GivenEncoded | ImageStowed | ImageLoaded | ImageGone
"""What a worker says, apart from reporting a task."""

HEADER = b"header;"
MEDIA_TYPE = 'video/mp4; codecs="avc1.42C00A"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A copy of a lane's pages, or of the state of a decoder slot."""

    session: SessionId
    content: NDArray[np.uint8] | bytes


class FakeWorker:
    """A worker of either kind. `perform` raises what an op of a real worker would be reported as failed for."""

    def __init__(self, lanes: SimulatedLanes, transit: dict[ImageId, Image]) -> None:
        """`transit` holds the images between all workers of a cell: given, and not taken yet."""
        self.lanes = lanes
        self.states: dict[SlotId, tuple[SessionId, bytes]] = {}
        """The decoder state in each slot that is open, with its session."""
        self.images: dict[ImageId, Image] = {}
        self.transit = transit
        self._halfway: tuple[SessionId, bytes] | None = None
        """Whose pictures are being encoded, and what the encoder has seen of them."""

    def perform(self, message: Down) -> Done | Report | None:
        """Carry out an order; returns what there is to report."""
        match message:
            case Task(order=Decode() as order):
                return Done(sequence=message.sequence, segment=self._decode(order))
            case Task(order=tuple() as batch):
                outputs = self.lanes.batch(batch)
                return Done(sequence=message.sequence, outputs=tuple(outputs))
            case EncodeText():
                return Encoded(conditioning=message.conditioning, tensor=message.prompt.encode(), notice="")
            case Forget():
                self._forget(message)
            case EncodeGiven(order=order):
                return GivenEncoded(session=order.session, part=order.part, latents=self._encode(message))
            case PrepareStream(image=None):
                return self._prepare(message, self._state(message.origin))
            case Stow() | LoadImage() | Give() | Take() | Discard() | PrepareStream():
                return self._copy(message)
        return None

    def fail(self, order: ImageOrder | PrepareStream, reason: str = "no memory") -> ImageGone | None:
        """Let an order fail: what it was to copy from or to is gone. Returns what there is to report."""
        image = order.image
        assert image is not None
        self.images.pop(image, None)
        match order:
            case Take():
                self.transit.pop(image, None)
            case Stow(source=int() as slot):
                del self.states[slot]  # given up before it could be copied
        return None if isinstance(order, Give | Take | Discard) else ImageGone(image=image, reason=reason)

    def _decode(self, order: Decode) -> bytes:
        session, state = self.states.get(order.work.slot, (None, b""))
        if session != order.work.session:
            raise UnknownPeer(f"decoder slot {order.work.slot} was not prepared for session {order.work.session}")
        name, geometry, later_frames = b"", self.lanes.geometry, order.work.later_frames
        if order.work.picture_count:
            name, state = decoded(order.latents, state, geometry)
        else:
            state = advanced(order.latents, state, geometry, later_frames=later_frames)
        self.states[order.work.slot] = (session, state)
        return name

    def _encode(self, message: EncodeGiven) -> bytes:
        """What stands for the latents of a part, which depend on all pictures that its encoder has seen."""
        order, seen = message.order, b""
        if order.follows:
            session, seen = self._halfway or (None, b"")
            if session != order.session:
                raise UnknownPeer(f"part {order.part} of what {order.session} was given follows none that is here")
        seen = encoder_after(seen, message.pictures)
        self._halfway = (order.session, seen) if order.leads else None
        return latents_of(seen, self.lanes.geometry.divided(BlockPlan(frames=1)))

    def _prepare(self, order: PrepareStream, state: bytes) -> Prepared:
        if order.slot in self.states:
            raise InternalFault(f"decoder slot {order.slot} is already open")
        self.states[order.slot] = (order.session, state)
        return Prepared(session=order.session, header=HEADER, media_type=MEDIA_TYPE)

    def _state(self, origin: SlotId | None) -> bytes:
        """What a slot begins with: the state of another one, or that of a stream's beginning."""
        return first_state(self.lanes.reach) if origin is None else self.states[origin][1]

    def _copy(self, order: ImageOrder | PrepareStream) -> Report | None:
        if isinstance(order, Stow):
            self.images[order.image] = Image(session=order.session, content=self._content(order))
            return ImageStowed(image=order.image)
        assert order.image is not None
        image = (self.transit if isinstance(order, Take) else self.images).pop(order.image, None)
        if image is None:
            return self.fail(order, f"image {order.image} is not here")
        match order:
            case Give():
                self.transit[order.image] = image
            case Take():
                self.images[order.image] = image
            case LoadImage():
                assert not isinstance(image.content, bytes)
                self.lanes.pages[list(order.target)] = image.content
                return ImageLoaded(image=order.image)
            case PrepareStream():
                assert isinstance(image.content, bytes)
                return self._prepare(order, image.content)
        return None

    def _content(self, order: Stow) -> NDArray[np.uint8] | bytes:
        if isinstance(order.source, tuple):
            return self.lanes.pages[list(order.source)]
        session, state = self.states.pop(order.source)
        assert session == order.session
        return state

    def _forget(self, message: Forget) -> None:
        self.lanes.memory.forget(message)
        if message.version is None:
            if self._halfway is not None and self._halfway[0] == message.session:
                self._halfway = None
            self.images = {key: image for key, image in self.images.items() if image.session != message.session}
            self.states = {slot: state for slot, state in self.states.items() if state[0] != message.session}
