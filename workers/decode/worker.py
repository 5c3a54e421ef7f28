"""The decode worker: decodes finished latents in numbered slots and encodes pictures as segments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from longtake.core.effects import EncodeText, Forget, PrepareStream, Stow
from longtake.core.errors import InvalidField, UnknownPeer
from longtake.core.recipe.geometry import Geometry
from longtake.core.work import DecoderKind, PageId, Role, SegmentSettings, SessionId, SlotId
from workers.decode.encode import Codec, Encoder, VideoSettings, encoder_for
from workers.decode.encoding import EncodingPool
from workers.decode.giving import Giving, PartEncoder
from workers.decode.slots import DecoderSlots, Decoding
from workers.denoise.worker import tensor_from_bytes, tensor_to_bytes
from workers.device_work import DeviceWork
from workers.messages import Decode, Done, Encoded, EncodeGiven, Prepared, Task
from workers.models.api import TextEncoder
from workers.orders import Answer, Detached, Filled, Later, Order

_BEST_QUALITY = 100
_COARSEST_SCALE = 31


def video_settings(settings: SegmentSettings, geometry: Geometry) -> VideoSettings:
    """What the encoder must know, made from what the session asks for; InvalidField if that is impossible.

    JPEG quality 1 to 100 is spread over the quantiser scales 31 (coarsest) to 1.
    """
    try:
        codec = Codec(settings.codec)
    except ValueError:
        allowed = ", ".join(codec.value for codec in Codec)
        raise InvalidField("settings.codec", settings.codec, allowed) from None
    video = VideoSettings(codec=codec, width=geometry.width, height=geometry.height, fps=geometry.fps)
    match codec:
        case Codec.H264:
            return replace(video, crf=settings.quality)
        case Codec.MJPEG:
            if not 1 <= settings.quality <= _BEST_QUALITY:
                raise InvalidField("settings.quality", settings.quality, f"1 to {_BEST_QUALITY} with codec mjpeg")
            coarseness = Fraction(_BEST_QUALITY - settings.quality, _BEST_QUALITY - 1)
            scale = 1 + round(coarseness * (_COARSEST_SCALE - 1))
            return replace(video, jpeg_scale=scale)
        case Codec.RAW:
            return video


def encoded(order: EncodeText, text: TextEncoder) -> Encoded:
    """The answer to an order; InvalidField for a prompt that cannot be encoded."""
    made = text.encode(order.prompt)
    return Encoded(conditioning=order.conditioning, tensor=tensor_to_bytes(made.features_TC), notice=made.notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    data: bytes
    seconds: float
    """How long encoding took one thread."""


def _segment(encoder: Encoder, decoding: Decoding, first_picture: int) -> _Segment:
    pictures_FHWC = decoding.pictures()
    began_s = time.perf_counter()
    return _Segment(data=encoder.encode(pictures_FHWC, first_picture), seconds=time.perf_counter() - began_s)


def _advanced(task: Task, work: DeviceWork) -> Done | Later:
    """The report of a decode of which no picture is wanted."""
    if work.is_over:
        return Done(sequence=task.sequence)
    return Later(made=lambda: Done(sequence=task.sequence, seconds=work.wait()))


@dataclass(frozen=True, slots=True)
class _Stream:
    """Where a stream's decoder state is, and what encodes its pictures."""

    slots: DecoderSlots
    slot: SlotId
    encoder: Encoder


class DecodeWorker:
    """Serves streams out of decoder slots, real or simulated. Not thread-safe: one thread gives it orders."""

    role = Role.DECODE

    def __init__(
        self,
        slots: Mapping[DecoderKind, DecoderSlots],
        geometry: Geometry,
        text: TextEncoder | None = None,
        encoding: EncodingPool | None = None,
        giving: Giving | None = None,
    ) -> None:
        """Each decoder has its own slots, of equal numbers: a session has that of its number in one of them.

        With `text` it encodes prompts as well, which stops its streams for as long as that takes. Pictures are encoded
        by the threads of `encoding`, else by the thread that gives the orders. With `giving` it makes latents of what
        clients give, a frame at a time, which stops its streams for as long as one takes.
        """
        self._slots = slots
        self._encoding = encoding
        self._giving = None if giving is None else PartEncoder(giving)
        self._geometry = geometry
        self._text = text
        self._streams: dict[SessionId, _Stream] = {}
        self._awaiting: dict[SessionId, PrepareStream] = {}
        """The preparations whose state is on its way."""

    def perform(self, message: Order) -> Iterator[Answer]:
        """Do one thing and yield what to report. InvalidField for a bad prompt, else InternalFault or UnknownPeer."""
        match message:
            case Task(order=Decode() as order):
                yield self._decode(message, order)
            case EncodeGiven() if self._giving is not None:
                yield self._giving.encode(message)
            case PrepareStream(image=None, origin=None):
                yield self._prepare(message, lambda slots: slots.open(message.slot, started=message.started))
            case PrepareStream(image=None, origin=int() as origin):
                yield self._prepare(message, lambda slots: slots.open_copy(message.slot, origin))
            case PrepareStream():
                self._awaiting[message.session] = message
            case Filled():
                if self._awaiting.get(message.order.session) == message.order:  # else it was forgotten meanwhile
                    yield self._fill(message)
            case Stow():
                yield self._detach(message)
            case EncodeText() if self._text is not None:
                yield encoded(message, self._text)
            case Forget(version=None):
                self._close(message.session)
            case Forget():
                pass
            case _:
                raise UnknownPeer(f"a decode worker cannot do {type(message).__name__}")

    @property
    def device(self) -> torch.device:
        """Where its slots lie."""
        return self._slots[DecoderKind.FULL].device

    def page(self, page: PageId) -> Tensor:
        """Raise UnknownPeer: a decode worker has slots and no pages."""
        raise UnknownPeer(f"a decode worker has no page {page}")

    @property
    def held_sessions(self) -> set[SessionId]:
        """Sessions that a slot is open for, or is about to be."""
        return self._streams.keys() | self._awaiting.keys()

    def _prepare(self, order: PrepareStream, take_slot: Callable[[DecoderSlots], None]) -> Prepared:
        self._awaiting.pop(order.session, None)  # a state that did not come: it is prepared without
        encoder = encoder_for(video_settings(order.settings, self._geometry))
        slots = self._slots_for(order)
        take_slot(slots)
        self._streams[order.session] = _Stream(slots, order.slot, encoder)
        return Prepared(session=order.session, header=encoder.header(), media_type=encoder.content_type)

    def _fill(self, message: Filled) -> Prepared:
        """Open a slot with a state that was detached from a slot."""
        order = self._awaiting.pop(message.order.session)
        return self._prepare(order, lambda slots: slots.import_state(order.slot, message.tensors))

    def _detach(self, order: Stow) -> Detached:
        """Free a slot, whose state is to be stowed."""
        stream = self._streams.get(order.session)
        if stream is None or stream.slot != order.source:
            raise UnknownPeer(f"decoder slot {order.source} was not prepared for session {order.session}")
        del self._streams[order.session]
        return Detached(image=order.image, tensors=stream.slots.take_state(stream.slot))

    def _decode(self, task: Task, order: Decode) -> Done | Later:
        work = order.work
        stream = self._streams.get(work.session)
        if stream is None or stream.slot != work.slot:
            raise UnknownPeer(f"decoder slot {work.slot} was not prepared for session {work.session}")
        encoder = stream.encoder
        latents_FCHW = tensor_from_bytes(order.latents, (-1, *self._geometry.block_shape[1:]))
        if not work.picture_count:
            return _advanced(task, stream.slots.advance(work.slot, latents_FCHW, work.later_frames))
        pictures = range(work.first_picture, work.first_picture + work.picture_count)
        decoding = stream.slots.decode(work.slot, latents_FCHW, pictures)
        pool = self._encoding
        if pool is None:
            return Done(sequence=task.sequence, segment=_segment(encoder, decoding, work.first_picture).data)
        coming = pool.submit(lambda: _segment(encoder, decoding, work.first_picture))

        def made() -> Done:
            segment = coming.result()
            seconds = pool.pace_s(decoding.work.wait(), segment.seconds)
            return Done(sequence=task.sequence, segment=segment.data, seconds=seconds)

        return Later(made=made)

    def _close(self, session: SessionId) -> None:
        self._awaiting.pop(session, None)
        if self._giving is not None:
            self._giving.forget(session)
        stream = self._streams.pop(session, None)
        if stream is not None:
            stream.slots.close(stream.slot)

    def _slots_for(self, order: PrepareStream) -> DecoderSlots:
        decoder = order.settings.decoder
        if decoder not in self._slots:
            raise UnknownPeer(f"decoder {decoder.value} is not here: {order.session} cannot have it")
        return self._slots[decoder]
