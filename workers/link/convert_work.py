"""Orders for forwards and decodes to and from protobuf."""

from __future__ import annotations

from longtake.core.errors import InvalidField
from longtake.core.recipe.graph import Kind, Op, Returns, Times
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    Input,
    LatentRef,
    NoiseKey,
    PageId,
    Pages,
    SessionId,
    SlotId,
)
from longtake.link.v1 import link_pb2 as pb
from workers.link import convert_images
from workers.messages import (
    Decode,
    Forward,
    Task,
)

_RETURNS = {
    Returns.NOTHING: pb.RETURNS_NOTHING,
    Returns.KEPT: pb.RETURNS_KEPT,
    Returns.SENT: pb.RETURNS_SENT,
    Returns.SENT_AND_KEPT: pb.RETURNS_SENT_AND_KEPT,
}
_KIND = {Kind.DENOISE: pb.KIND_DENOISE, Kind.COMMIT: pb.KIND_COMMIT}


def _latent(ref: LatentRef) -> pb.LatentRef:
    return pb.LatentRef(session=ref.session, block=ref.block, step=ref.step)


def _latent_from(ref: pb.LatentRef) -> LatentRef:
    return LatentRef(session=SessionId(ref.session), block=ref.block, step=ref.step)


def conditioning_to_proto(ref: ConditioningRef) -> pb.ConditioningRef:
    """The message for a prompt version."""
    return pb.ConditioningRef(session=ref.session, version=ref.version)


def conditioning_from_proto(ref: pb.ConditioningRef) -> ConditioningRef:
    """The prompt version in a message."""
    return ConditioningRef(session=SessionId(ref.session), version=ref.version)


def _forward(work: ForwardWork) -> pb.ForwardWork:
    forward = pb.ForwardWork(
        session=work.session,
        lane=work.lane,
        kind=_KIND[work.kind],
        step=work.step,
        block=work.block,
        times=pb.Times(timesteps=work.times.timesteps, sigma=work.times.sigma, next_sigma=work.times.next_sigma),
        noise=pb.NoiseKey(seed=work.noise.seed, block=work.noise.block),
        positions=work.positions,
        reads=work.pages.reads,
        writes=work.pages.writes,
        returns=_RETURNS[work.returns],
        conditioning=conditioning_to_proto(work.conditioning),
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
    returns = {number: what for what, number in _RETURNS.items()}
    if forward.returns not in returns:
        raise InvalidField("forward.returns", int(forward.returns), "one of the values but RETURNS_UNSPECIFIED")
    return ForwardWork(
        session=SessionId(forward.session),
        lane=forward.lane,
        op=Op(kinds[forward.kind], forward.step, forward.block),
        pages=Pages(reads=tuple(map(PageId, forward.reads)), writes=tuple(map(PageId, forward.writes))),
        times=_times_from(forward.times),
        positions=tuple(forward.positions),
        noise=NoiseKey(seed=forward.noise.seed, block=forward.noise.block),
        conditioning=conditioning_from_proto(forward.conditioning),
        input=_input_from(forward),
        returns=returns[forward.returns],
    )


def _times_from(times: pb.Times) -> Times:
    next_sigma = times.next_sigma if times.HasField("next_sigma") else None
    return Times(timesteps=tuple(times.timesteps), sigma=times.sigma, next_sigma=next_sigma)


def item_to_proto(forward: Forward) -> pb.ForwardItem:
    """The message for one op of a forward, with its bytes."""
    return pb.ForwardItem(work=_forward(forward.work), latents=forward.latents, conditioning=forward.conditioning)


def decode_to_proto(work: DecodeWork) -> pb.DecodeWork:
    """The message for a decode op."""
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


def task_from_proto(dispatch: pb.Dispatch) -> Task:
    """The dispatch in a message; InvalidField names what is wrong with it."""
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
    return Task(sequence=DispatchNumber(dispatch.sequence), order=order)
