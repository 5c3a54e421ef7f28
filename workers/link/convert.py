"""Messages of the link to and from protobuf; the only place that knows both forms."""

from __future__ import annotations

import math
from dataclasses import asdict

from longtake.core.effects import Discard, EncodeText, Forget, Give, Load, PrepareStream, Stow, Take
from longtake.core.errors import InvalidField
from longtake.core.recipe.graph import Kind
from longtake.core.work import (
    Ability,
    ConditioningRef,
    DecodeWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    Input,
    LatentRef,
    PageId,
    Role,
    Sequence,
    SessionId,
    SlotId,
    WorkerId,
)
from longtake.link.v1 import link_pb2 as pb
from workers.link import convert_images
from workers.link.convert_images import MAX_REASON
from workers.messages import (
    Decode,
    Done,
    Down,
    Encoded,
    Failed,
    Forward,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Introduction,
    JoinChain,
    Output,
    Part,
    Prepared,
    Seat,
    Shutdown,
    Task,
    Up,
)

MAX_MESSAGE_BYTES = 64 << 20
"""Limit of one message on the link, in bytes: a raw segment of a large model fits."""

_ROLE = {Role.DENOISE: pb.ROLE_DENOISE, Role.DECODE: pb.ROLE_DECODE}
_KIND = {Kind.DENOISE: pb.KIND_DENOISE, Kind.COMMIT: pb.KIND_COMMIT}


def hello_to_proto(introduction: Introduction, token: str) -> pb.AttachRequest:
    """The first message of a worker."""
    hello = pb.Hello(
        worker=introduction.worker,
        role=_ROLE[introduction.role],
        capacity=introduction.ability.capacity,
        batch_limit=introduction.ability.batch_limit,
        mixes_kinds=introduction.ability.mixes_kinds,
        token=token,
        model_digest=introduction.model_digest,
        forward_s=introduction.ability.forward_s,
        part=None if introduction.part is None else _part(introduction.part),
    )
    return pb.AttachRequest(hello=hello)


def hello_from_proto(hello: pb.Hello) -> Introduction:
    """InvalidField if the worker has no name, no role, no capacity or no batch limit."""
    roles = {number: role for role, number in _ROLE.items()}
    if hello.role not in roles:
        raise InvalidField("hello.role", int(hello.role), "ROLE_DENOISE or ROLE_DECODE")
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
            forward_s=_duration(hello.forward_s, "hello.forward_s"),
        ),
        model_digest=hello.model_digest,
        part=_part_from(hello.part) if hello.HasField("part") else None,
    )


def up_to_proto(message: Up) -> pb.AttachRequest:
    """What a worker says, after Hello."""
    match message:
        case Done():
            done = pb.OpDone(
                sequence=message.sequence,
                outputs=[_output(output) for output in message.outputs],
                segment=message.segment,
                seconds=message.seconds,
            )
            return pb.AttachRequest(op_done=done)
        case Failed():
            failed = pb.OpFailed(
                sessions=message.sessions,
                sequence=message.sequence,
                reason=message.reason[:MAX_REASON],
                outputs=[_output(output) for output in message.outputs],
            )
            return pb.AttachRequest(op_failed=failed)
        case Encoded():
            encoded = pb.TextEncoded(
                conditioning=_conditioning(message.conditioning),
                tensor=message.tensor,
                notice=message.notice,
            )
            return pb.AttachRequest(text_encoded=encoded)
        case Prepared():
            prepared = pb.StreamPrepared(session=message.session, header=message.header, media_type=message.media_type)
            return pb.AttachRequest(stream_prepared=prepared)
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
                sequence=Sequence(done.sequence),
                outputs=tuple(_output_from(output) for output in done.outputs),
                segment=done.segment,
                seconds=_duration(done.seconds, "op_done.seconds"),
            )
        case "op_failed":
            failed = message.op_failed
            sequence = Sequence(failed.sequence) if failed.HasField("sequence") else None
            return Failed(
                sessions=tuple(SessionId(session) for session in failed.sessions),
                sequence=sequence,
                reason=failed.reason,
                outputs=tuple(_output_from(output) for output in failed.outputs),
            )
        case "text_encoded":
            encoded = message.text_encoded
            return Encoded(
                conditioning=_conditioning_from(encoded.conditioning),
                tensor=encoded.tensor,
                notice=encoded.notice,
            )
        case "stream_prepared":
            prepared = message.stream_prepared
            return Prepared(session=SessionId(prepared.session), header=prepared.header, media_type=prepared.media_type)
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
        case Task(order=Decode() as order):
            decode = pb.DecodeItem(work=_decode(order.work), latents=order.latents)
            return pb.AttachResponse(dispatch=pb.Dispatch(sequence=message.sequence, decode=decode))
        case Task(order=tuple() as order):
            batch = pb.ForwardBatch(items=[_item(forward) for forward in order])
            return pb.AttachResponse(dispatch=pb.Dispatch(sequence=message.sequence, forward=batch))
        case PrepareStream():
            return pb.AttachResponse(prepare_stream=convert_images.prepare_to_proto(message))
        case EncodeText():
            encode = pb.EncodeText(conditioning=_conditioning(message.conditioning), prompt=message.prompt)
            return pb.AttachResponse(encode_text=encode)
        case Forget():
            forget = pb.Forget(session=message.session, version=message.version)
            return pb.AttachResponse(forget=forget)
        case Stow() | Load() | Give() | Take() | Discard():
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
            return _task_from(message.dispatch)
        case "prepare_stream":
            return convert_images.prepare_from_proto(message.prepare_stream, worker)
        case "encode_text":
            encode = message.encode_text
            return EncodeText(worker=worker, conditioning=_conditioning_from(encode.conditioning), prompt=encode.prompt)
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


def _part(part: Part) -> pb.Part:
    seat = part.seat
    return pb.Part(
        replica=seat.replica,
        rank=seat.rank,
        length=seat.length,
        first_layer=part.layers.start,
        layers=len(part.layers),
    )


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


def _output(output: Output) -> pb.Output:
    return pb.Output(latents=output.latents)


def _output_from(output: pb.Output) -> Output:
    return Output(latents=output.latents)


def _duration(value_s: float, field: str) -> float:
    """InvalidField for what no clock measures: it would spoil every deadline that is reckoned with it."""
    if not 0 <= value_s < math.inf:
        raise InvalidField(field, value_s, "0 or more seconds, finite")
    return value_s


def _latent(ref: LatentRef) -> pb.LatentRef:
    return pb.LatentRef(session=ref.session, block=ref.block, step=ref.step)


def _latent_from(ref: pb.LatentRef) -> LatentRef:
    return LatentRef(session=SessionId(ref.session), block=ref.block, step=ref.step)


def _conditioning(ref: ConditioningRef) -> pb.ConditioningRef:
    return pb.ConditioningRef(session=ref.session, version=ref.version)


def _conditioning_from(ref: pb.ConditioningRef) -> ConditioningRef:
    return ConditioningRef(session=SessionId(ref.session), version=ref.version)


def _forward(work: ForwardWork) -> pb.ForwardWork:
    forward = pb.ForwardWork(
        session=work.session,
        lane=work.lane,
        kind=_KIND[work.kind],
        step=work.step,
        block=work.block,
        timestep=work.timestep,
        sigma=work.sigma,
        next_sigma=work.next_sigma,
        seed=work.seed,
        positions=work.positions,
        reads=work.reads,
        writes=work.writes,
        conditioning=_conditioning(work.conditioning),
    )
    match work.input:
        case FromNoise():
            forward.from_noise.SetInParent()
        case FromLane():
            forward.from_lane.SetInParent()
        case FromLatent(ref):
            forward.from_latent.ref.CopyFrom(_latent(ref))
    return forward


def _input_from(forward: pb.ForwardWork) -> Input:
    match forward.WhichOneof("input"):
        case "from_noise":
            return FromNoise()
        case "from_lane":
            return FromLane()
        case "from_latent":
            return FromLatent(_latent_from(forward.from_latent.ref))
        case other:
            raise InvalidField("forward.input", other, "from_noise, from_lane or from_latent")


def _forward_from(forward: pb.ForwardWork) -> ForwardWork:
    kinds = {number: kind for kind, number in _KIND.items()}
    if forward.kind not in kinds:
        raise InvalidField("forward.kind", int(forward.kind), "KIND_DENOISE or KIND_COMMIT")
    return ForwardWork(
        session=SessionId(forward.session),
        lane=forward.lane,
        kind=kinds[forward.kind],
        step=forward.step,
        block=forward.block,
        timestep=forward.timestep,
        sigma=forward.sigma,
        next_sigma=forward.next_sigma if forward.HasField("next_sigma") else None,
        seed=forward.seed,
        positions=tuple(forward.positions),
        reads=tuple(PageId(page) for page in forward.reads),
        writes=tuple(PageId(page) for page in forward.writes),
        conditioning=_conditioning_from(forward.conditioning),
        input=_input_from(forward),
    )


def _item(forward: Forward) -> pb.ForwardItem:
    return pb.ForwardItem(work=_forward(forward.work), latents=forward.latents, conditioning=forward.conditioning)


def _decode(work: DecodeWork) -> pb.DecodeWork:
    return pb.DecodeWork(
        session=work.session,
        block=work.block,
        slot=work.slot,
        latents=_latent(work.latents),
        first_picture=work.first_picture,
        picture_count=work.picture_count,
        settings=convert_images.settings_to_proto(work.settings),
    )


def _decode_from(decode: pb.DecodeWork) -> DecodeWork:
    return DecodeWork(
        session=SessionId(decode.session),
        block=decode.block,
        slot=SlotId(decode.slot),
        latents=_latent_from(decode.latents),
        first_picture=decode.first_picture,
        picture_count=decode.picture_count,
        settings=convert_images.settings_from_proto(decode.settings),
    )


def _task_from(dispatch: pb.Dispatch) -> Task:
    order: tuple[Forward, ...] | Decode
    match dispatch.WhichOneof("work"):
        case "forward":
            order = tuple(
                Forward(work=_forward_from(item.work), latents=item.latents, conditioning=item.conditioning)
                for item in dispatch.forward.items
            )
            if not order:
                raise InvalidField("dispatch.forward.items", 0, "1 or more items")
        case "decode":
            order = Decode(work=_decode_from(dispatch.decode.work), latents=dispatch.decode.latents)
        case other:
            raise InvalidField("dispatch.work", other, "forward or decode")
    return Task(sequence=Sequence(dispatch.sequence), order=order)
