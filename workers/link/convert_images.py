"""Orders about images and what comes of them, to and from protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from longtake.core.effects import Discard, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InvalidField
from longtake.core.parts import EncodePictures
from longtake.core.work import DecoderKind, ImageId, PageId, SegmentSettings, SessionId, SlotId, WorkerId
from longtake.link.v1 import link_pb2 as pb
from workers.messages import EncodeGiven, ImageGone, ImageLoaded, ImageOrder, ImageStowed

MAX_REASON = 2000
_DECODER = {DecoderKind.FULL: pb.DECODER_FULL, DecoderKind.TINY: pb.DECODER_TINY}

ImageReport = ImageStowed | ImageLoaded | ImageGone


def order_to_proto(order: ImageOrder) -> pb.AttachResponse:
    """An order as the engine sends it."""
    match order:
        case Stow():
            stow = pb.Stow(session=order.session, image=order.image)
            if isinstance(order.source, tuple):
                stow.pages.CopyFrom(pb.Pages(pages=order.source))
            else:
                stow.slot = order.source
            return pb.AttachResponse(stow=stow)
        case LoadImage():
            return pb.AttachResponse(load=pb.Load(session=order.session, image=order.image, target=order.target))
        case Give():
            return pb.AttachResponse(give=pb.Give(session=order.session, image=order.image, to=order.to))
        case Take():
            return pb.AttachResponse(take=pb.Take(session=order.session, image=order.image, origin=order.origin))
        case Discard():
            return pb.AttachResponse(discard=pb.Discard(image=order.image))


def stow_from_proto(stow: pb.Stow, worker: WorkerId) -> Stow:
    """InvalidField if it names neither pages nor a slot."""
    source: tuple[PageId, ...] | SlotId
    match stow.WhichOneof("source"):
        case "pages":
            source = _pages(stow.pages.pages, "stow.pages")
        case "slot":
            source = SlotId(stow.slot)
        case other:
            raise InvalidField("stow.source", other, "pages or slot")
    return Stow(worker=worker, session=_session(stow.session, "stow"), image=ImageId(stow.image), source=source)


def load_from_proto(load: pb.Load, worker: WorkerId) -> LoadImage:
    """InvalidField if it names no page."""
    session, target = _session(load.session, "load"), _pages(load.target, "load.target")
    return LoadImage(worker=worker, session=session, image=ImageId(load.image), target=target)


def give_from_proto(give: pb.Give, worker: WorkerId) -> Give:
    """InvalidField if it names no worker."""
    session, to = _session(give.session, "give"), _peer(give.to, "give.to")
    return Give(worker=worker, session=session, image=ImageId(give.image), to=to)


def take_from_proto(take: pb.Take, worker: WorkerId) -> Take:
    """InvalidField if it names no worker."""
    session, origin = _session(take.session, "take"), _peer(take.origin, "take.origin")
    return Take(worker=worker, session=session, image=ImageId(take.image), origin=origin)


def discard_from_proto(discard: pb.Discard, worker: WorkerId) -> Discard:
    """The order to drop an image; no such message is wrong."""
    return Discard(worker=worker, image=ImageId(discard.image))


def report_to_proto(report: ImageReport) -> pb.AttachRequest:
    """A report as a worker sends it."""
    match report:
        case ImageStowed():
            return pb.AttachRequest(image_stowed=pb.ImageStowed(image=report.image))
        case ImageLoaded():
            return pb.AttachRequest(image_loaded=pb.ImageLoaded(image=report.image))
        case ImageGone():
            failed = pb.ImageFailed(image=report.image, reason=report.reason[:MAX_REASON])
            return pb.AttachRequest(image_failed=failed)


def _session(session: str, order: str) -> SessionId:
    if not session:
        raise InvalidField(f"{order}.session", session, "the name of a session")
    return SessionId(session)


def _peer(worker: str, field: str) -> WorkerId:
    if not worker:
        raise InvalidField(field, worker, "the name of a worker")
    return WorkerId(worker)


def _pages(pages: Iterable[int], field: str) -> tuple[PageId, ...]:
    found = tuple(PageId(page) for page in pages)
    if not found:
        raise InvalidField(field, list(found), "1 or more pages")
    return found


def prepare_to_proto(order: PrepareStream) -> pb.PrepareStream:
    """An order to clear or fill a decoder slot."""
    return pb.PrepareStream(
        session=order.session,
        slot=order.slot,
        settings=settings_to_proto(order.settings),
        image=order.image,
        origin=order.origin,
        started=order.started,
    )


def prepare_from_proto(order: pb.PrepareStream, worker: WorkerId) -> PrepareStream:
    """The order as its worker gets it; InvalidField if it says twice what the slot begins with."""
    said = [field for field in ("image", "origin") if order.HasField(field)] + ["started"] * order.started
    if len(said) > 1:
        raise InvalidField("prepare_stream", " and ".join(said), "at most one of image, origin and started")
    return PrepareStream(
        worker=worker,
        session=SessionId(order.session),
        slot=SlotId(order.slot),
        settings=settings_from_proto(order.settings),
        image=ImageId(order.image) if order.HasField("image") else None,
        origin=SlotId(order.origin) if order.HasField("origin") else None,
        started=order.started,
    )


def part_to_proto(message: EncodeGiven) -> pb.EncodePictures:
    """An order to encode a part of what a client gave."""
    order = message.order
    return pb.EncodePictures(
        session=order.session,
        part=order.part,
        pictures=message.pictures,
        first=order.pictures.start,
        is_reference=order.is_reference,
        follows=order.follows,
        leads=order.leads,
    )


def part_from_proto(order: pb.EncodePictures, worker: WorkerId) -> EncodeGiven:
    """The same as its worker gets it; InvalidField if it has no pictures."""
    if not order.pictures:
        raise InvalidField("encode_pictures.pictures", 0, "1 or more")
    asked = EncodePictures(
        worker=worker,
        session=SessionId(order.session),
        part=order.part,
        pictures=range(order.first, order.first + len(order.pictures)),
        is_reference=order.is_reference,
        follows=order.follows,
        leads=order.leads,
    )
    return EncodeGiven(order=asked, pictures=tuple(order.pictures))


def settings_to_proto(settings: SegmentSettings) -> pb.SegmentSettings:
    """How segments are encoded."""
    return pb.SegmentSettings(codec=settings.codec, quality=settings.quality, decoder=_DECODER[settings.decoder])


def settings_from_proto(settings: pb.SegmentSettings) -> SegmentSettings:
    """The same from the wire; InvalidField if it names no decoder."""
    decoders = {number: decoder for decoder, number in _DECODER.items()}
    if settings.decoder not in decoders:
        raise InvalidField("settings.decoder", int(settings.decoder), "DECODER_FULL or DECODER_TINY")
    return SegmentSettings(codec=settings.codec, quality=settings.quality, decoder=decoders[settings.decoder])


def report_from_proto(message: pb.AttachRequest) -> ImageReport:
    """A report about an image from the wire."""
    match message.WhichOneof("message"):
        case "image_stowed":
            return ImageStowed(image=ImageId(message.image_stowed.image))
        case "image_loaded":
            return ImageLoaded(image=ImageId(message.image_loaded.image))
        case _:
            return ImageGone(image=ImageId(message.image_failed.image), reason=message.image_failed.reason)
