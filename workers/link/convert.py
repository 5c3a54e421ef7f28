"""Messages of the link to and from protobuf; the only place that knows both forms."""

from __future__ import annotations

import math
import re
from dataclasses import asdict

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InvalidField
from longtake.core.work import (
    Ability,
    DispatchNumber,
    Role,
    SessionId,
    ShapeTime,
    WorkerId,
)
from longtake.link.v1 import link_pb2 as pb
from workers.link import convert_images, convert_work
from workers.link.convert_images import MAX_REASON
from workers.messages import (
    Done,
    Down,
    Encoded,
    EncodeGiven,
    Failed,
    GivenEncoded,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Introduction,
    JoinChain,
    Part,
    Prepared,
    Seat,
    Shutdown,
    Site,
    Task,
    Up,
)

MAX_NAME = 253
"""Limit of the name of a node, a pod or a device, in characters, as Kubernetes has it: they become labels."""
MAX_MESSAGE_BYTES = 64 << 20
"""Limit of one message on the link, in bytes: a raw segment of a large model fits."""

_FINGERPRINT = re.compile("[0-9a-f]{0,64}")
_ROLE = {Role.DENOISE: pb.ROLE_DENOISE, Role.DECODE: pb.ROLE_DECODE, Role.TEXT: pb.ROLE_TEXT}


def hello_to_proto(introduction: Introduction) -> pb.AttachRequest:
    """The first message of a worker."""
    hello = pb.Hello(
        worker=introduction.worker,
        role=_ROLE[introduction.role],
        capacity=introduction.ability.capacity,
        batch_limit=introduction.ability.batch_limit,
        mixes_kinds=introduction.ability.mixes_kinds,
        joint_ops=introduction.ability.joint_ops,
        model_digest=introduction.model_digest,
        forward_s=introduction.ability.forward_s,
        tiny_s=introduction.ability.tiny_s,
        shape_s=[pb.ShapeTime(**each._asdict()) for each in introduction.ability.shape_s],
        encodes_text=introduction.ability.encodes_text,
        numerics=introduction.ability.numerics,
        replay_depth=introduction.ability.replay_depth,
        part=None if introduction.part is None else _part(introduction.part),
        site=pb.Site(**asdict(introduction.sites[0])) if introduction.sites else None,
    )
    return pb.AttachRequest(hello=hello)


def hello_from_proto(hello: pb.Hello) -> Introduction:
    """InvalidField if the worker has no name, role, capacity or batch limit, or says of itself what cannot be."""
    roles = {number: role for role, number in _ROLE.items()}
    if hello.role not in roles:
        raise InvalidField("hello.role", int(hello.role), "ROLE_DENOISE, ROLE_DECODE or ROLE_TEXT")
    if not hello.worker:
        raise InvalidField("hello.worker", hello.worker, "the name of the worker")
    if hello.capacity < 1:
        raise InvalidField("hello.capacity", hello.capacity, "1 or more pages or decoder slots")
    if hello.batch_limit < 1:
        raise InvalidField("hello.batch_limit", hello.batch_limit, "1 or more ops")
    return Introduction(
        worker=WorkerId(hello.worker),
        role=roles[hello.role],
        ability=Ability(
            capacity=hello.capacity,
            batch_limit=hello.batch_limit,
            mixes_kinds=hello.mixes_kinds,
            joint_ops=hello.joint_ops,
            forward_s=_duration(hello.forward_s, "hello.forward_s"),
            tiny_s=_duration(hello.tiny_s, "hello.tiny_s"),
            shape_s=tuple(map(_shape_time, hello.shape_s)),
            encodes_text=hello.encodes_text,
            numerics=_fingerprint(hello.numerics),
            replay_depth=hello.replay_depth,
        ),
        model_digest=hello.model_digest,
        part=_part_from(hello.part) if hello.HasField("part") else None,
        sites=(_site_from(hello.site),) if hello.HasField("site") else (),
    )


def up_to_proto(message: Up) -> pb.AttachRequest:
    """What a worker says, after Hello."""
    match message:
        case Done():
            request = pb.AttachRequest()
            done = request.op_done
            done.sequence, done.segment, done.seconds = message.sequence, message.segment, message.seconds
            for latents in message.outputs:  # in place: a message given to another's constructor would be copied
                done.outputs.add(latents=latents)
            return request
        case Failed():
            failed = pb.OpFailed(
                sessions=message.sessions,
                sequence=message.sequence,
                reason=message.reason[:MAX_REASON],
                outputs=[pb.Output(latents=latents) for latents in message.outputs],
            )
            return pb.AttachRequest(op_failed=failed)
        case Encoded():
            encoded = pb.AttachRequest(text_encoded=pb.TextEncoded(tensor=message.tensor, notice=message.notice))
            convert_work.put_conditioning(message.conditioning, encoded.text_encoded.conditioning)
            return encoded
        case Prepared():
            prepared = pb.StreamPrepared(
                session=message.session,
                header=message.header,
                media_type=message.media_type,
            )
            return pb.AttachRequest(stream_prepared=prepared)
        case GivenEncoded():
            made = pb.PicturesEncoded(
                session=message.session,
                part=message.part,
                latents=message.latents,
                unfit=message.unfit[:MAX_REASON],
            )
            return pb.AttachRequest(pictures_encoded=made)
        case ImageStowed() | ImageLoaded() | ImageGone():
            return convert_images.report_to_proto(message)
        case Heartbeat():
            return pb.AttachRequest(heartbeat=pb.Heartbeat(**asdict(message)))


def up_from_proto(message: pb.AttachRequest) -> Up:
    """InvalidField for anything that may not follow Hello."""
    match message.WhichOneof("message"):
        case "op_done":
            done = message.op_done
            return Done(
                sequence=DispatchNumber(done.sequence),
                outputs=tuple(output.latents for output in done.outputs),
                segment=done.segment,
                seconds=_duration(done.seconds, "op_done.seconds"),
            )
        case "op_failed":
            failed = message.op_failed
            sequence = DispatchNumber(failed.sequence) if failed.HasField("sequence") else None
            return Failed(
                sessions=tuple(SessionId(session) for session in failed.sessions),
                sequence=sequence,
                reason=failed.reason,
                outputs=tuple(output.latents for output in failed.outputs),
            )
        case "text_encoded":
            encoded = message.text_encoded
            return Encoded(
                conditioning=convert_work.conditioning_from_proto(encoded.conditioning),
                tensor=encoded.tensor,
                notice=encoded.notice,
            )
        case "stream_prepared":
            prepared = message.stream_prepared
            return Prepared(
                session=SessionId(prepared.session),
                header=prepared.header,
                media_type=prepared.media_type,
            )
        case "pictures_encoded":
            made = message.pictures_encoded
            return GivenEncoded(
                session=SessionId(made.session),
                part=made.part,
                latents=made.latents,
                unfit=made.unfit[:MAX_REASON],
            )
        case "image_stowed" | "image_loaded" | "image_failed":
            return convert_images.report_from_proto(message)
        case "heartbeat":
            beat = message.heartbeat
            return Heartbeat(
                host_bytes=beat.host_bytes,
                resident_bytes=beat.resident_bytes,
                copied_out_bytes=beat.copied_out_bytes,
                copied_in_bytes=beat.copied_in_bytes,
            )
        case other:
            raise InvalidField("message", other, "any but hello")


def down_to_proto(message: Down) -> pb.AttachResponse:
    """What the engine says, after Welcome."""
    match message:
        case Task():
            return convert_work.task_to_proto(message)
        case PrepareStream():
            return pb.AttachResponse(prepare_stream=convert_images.prepare_to_proto(message))
        case EncodeGiven():
            return pb.AttachResponse(encode_pictures=convert_images.part_to_proto(message))
        case EncodeText():
            response = pb.AttachResponse(encode_text=pb.EncodeText(prompt=message.prompt))
            convert_work.put_conditioning(message.conditioning, response.encode_text.conditioning)
            return response
        case Forget():
            forget = pb.Forget(session=message.session, version=message.version)
            return pb.AttachResponse(forget=forget)
        case Stow() | LoadImage() | Give() | Take() | Discard():
            return convert_images.order_to_proto(message)
        case JoinChain():
            return pb.AttachResponse(join_chain=pb.JoinChain(generation=message.generation))
        case Shutdown():
            return pb.AttachResponse(shutdown=pb.Shutdown())
        case _:
            raise InvalidField("message", type(message).__name__, "a message of the link")


def down_from_proto(message: pb.AttachResponse, worker: WorkerId) -> Down:
    """InvalidField for anything that may not follow Welcome."""
    match message.WhichOneof("message"):
        case "dispatch":
            return convert_work.task_from_proto(message.dispatch)
        case "prepare_stream":
            return convert_images.prepare_from_proto(message.prepare_stream, worker)
        case "encode_text" | "encode_pictures":
            return _encode_from_proto(message, worker)
        case "forget":
            forget = message.forget
            version = forget.version if forget.HasField("version") else None
            return Forget(worker=worker, session=SessionId(forget.session), version=version)
        case "stow":
            return convert_images.stow_from_proto(message.stow, worker)
        case "load":
            return convert_images.load_from_proto(message.load, worker)
        case "give":
            return convert_images.give_from_proto(message.give, worker)
        case "take":
            return convert_images.take_from_proto(message.take, worker)
        case "discard":
            return convert_images.discard_from_proto(message.discard, worker)
        case "join_chain":
            return JoinChain(message.join_chain.generation)
        case "shutdown":
            return Shutdown()
        case other:
            raise InvalidField("message", other, "any but welcome")


def _encode_from_proto(message: pb.AttachResponse, worker: WorkerId) -> EncodeText | EncodeGiven:
    if message.HasField("encode_pictures"):
        return convert_images.part_from_proto(message.encode_pictures, worker)
    encode = message.encode_text
    ref = convert_work.conditioning_from_proto(encode.conditioning)
    return EncodeText(worker=worker, conditioning=ref, prompt=encode.prompt)


def _part(part: Part) -> pb.Part:
    seat = part.seat
    return pb.Part(
        replica=seat.replica,
        rank=seat.rank,
        length=seat.length,
        first_layer=part.layers.start,
        layers=len(part.layers),
    )


def _site_from(site: pb.Site) -> Site:
    for field in ("node", "pod", "device"):
        if len(getattr(site, field)) > MAX_NAME:
            raise InvalidField(f"hello.site.{field}", getattr(site, field)[:MAX_NAME], f"up to {MAX_NAME} characters")
    return Site(node=site.node, pod=site.pod, device=site.device)


def _part_from(part: pb.Part) -> Part:
    """InvalidField for a place that no chain has, or one without layers."""
    if not part.replica:
        raise InvalidField("hello.part.replica", part.replica, "the name of the replica")
    if part.length < 2:
        raise InvalidField("hello.part.length", part.length, "2 or more workers")
    if part.rank >= part.length:
        raise InvalidField("hello.part.rank", part.rank, f"0 to {part.length - 1}")
    if part.layers < 1:
        raise InvalidField("hello.part.layers", part.layers, "1 or more layers")
    return Part(
        seat=Seat(replica=WorkerId(part.replica), rank=part.rank, length=part.length),
        layers=range(part.first_layer, part.first_layer + part.layers),
    )


def _fingerprint(value: str) -> str:
    """A fingerprint from the wire, which goes into log lines and is shown to operators."""
    if not _FINGERPRINT.fullmatch(value):
        raise InvalidField("hello.numerics", value[:80], "up to 64 hexadecimal digits, lower case")
    return value


def _shape_time(said: pb.ShapeTime) -> ShapeTime:
    if not (said.frames and said.pages and said.seconds):
        raise InvalidField("hello.shape_s", str(said), "frames, pages and seconds, each above 0")
    return ShapeTime(said.frames, said.pages, _duration(said.seconds, "hello.shape_s.seconds"))


def _duration(value_s: float, field: str) -> float:
    """A duration from the wire; InvalidField for what no clock measures, which would spoil every deadline."""
    if not 0 <= value_s < math.inf:
        raise InvalidField(field, value_s, "0 or more seconds, finite")
    return value_s
