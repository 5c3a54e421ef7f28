"""Orders for forwards and decodes to and from protobuf."""

from __future__ import annotations

import math

from longtake.core.errors import InvalidField
from longtake.core.recipe.ops import Kind, Noised, Op, Returns, Times
from longtake.core.recipe.positions import NO_BIAS, Bias
from longtake.core.recipe.references import REFERENCE, told
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    FoldWork,
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


def _put_latent(ref: LatentRef, message: pb.LatentRef) -> None:
    message.session = ref.session
    message.block = ref.block
    message.step = ref.step


def _latent_from(ref: pb.LatentRef) -> LatentRef:
    return LatentRef(session=SessionId(ref.session), block=ref.block, step=ref.step)


def put_conditioning(ref: ConditioningRef, message: pb.ConditioningRef) -> None:
    """Write a prompt version into its message."""
    message.session = ref.session
    message.version = ref.version


def conditioning_from_proto(ref: pb.ConditioningRef) -> ConditioningRef:
    """The prompt version in a message."""
    return ConditioningRef(session=SessionId(ref.session), version=ref.version)


def _put_forward(work: ForwardWork, forward: pb.ForwardWork) -> None:
    forward.session = work.session
    forward.lane = work.lane
    forward.kind = _KIND[work.kind]
    forward.step = work.step
    forward.block, forward.is_reference = told(work.block), work.block == REFERENCE
    times = work.times
    forward.times.timesteps.extend(times.timesteps)
    forward.times.sigma = times.sigma
    if times.next_sigma is not None:
        forward.times.next_sigma = times.next_sigma
    if times.noised is not None:
        forward.times.noised.sigma, forward.times.noised.draw = times.noised
    forward.noise.seed = work.noise.seed
    forward.noise.block = work.noise.block
    forward.positions.extend(work.positions)
    if work.key_positions != work.positions:
        forward.key_positions.extend(work.key_positions)
    forward.read_turns.extend(work.read_turns)
    if work.bias.slope:
        forward.bias.slope = work.bias.slope
        forward.bias.places.extend(work.bias.places)
    forward.reads.extend(work.pages.reads)
    forward.writes.extend(work.pages.writes)
    for fold in work.folds:
        forward.folds.add(reads=fold.reads, write=fold.write)
    forward.returns = _RETURNS[work.returns]
    forward.enters = work.enters
    put_conditioning(work.conditioning, forward.conditioning)
    match work.input:
        case FromNoise():
            forward.from_noise.SetInParent()
        case FromLane():
            forward.from_lane.SetInParent()
        case FromLatent(ref):
            _put_latent(ref, forward.from_latent.ref)


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
        op=Op(kinds[forward.kind], forward.step, REFERENCE if forward.is_reference else forward.block),
        pages=Pages(reads=tuple(map(PageId, forward.reads)), writes=tuple(map(PageId, forward.writes))),
        times=_times_from(forward.times),
        positions=tuple(forward.positions),
        key_positions=tuple(forward.key_positions or forward.positions),
        read_turns=tuple(forward.read_turns),
        bias=_bias_from(forward.bias) if forward.HasField("bias") else NO_BIAS,
        noise=NoiseKey(seed=forward.noise.seed, block=forward.noise.block),
        conditioning=conditioning_from_proto(forward.conditioning),
        input=_input_from(forward),
        returns=returns[forward.returns],
        enters=forward.enters,
        folds=tuple(map(_fold_from, forward.folds)),
    )


def _fold_from(fold: pb.FoldWork) -> FoldWork:
    if len(fold.reads) < 2:
        raise InvalidField("forward.folds.reads", list(fold.reads), "2 or more pages that become one")
    return FoldWork(reads=tuple(map(PageId, fold.reads)), write=PageId(fold.write))


def _bias_from(bias: pb.Bias) -> Bias:
    if not math.isfinite(bias.slope):
        raise InvalidField("forward.bias.slope", bias.slope, "a finite number")
    return Bias(bias.slope, tuple(bias.places))


def _times_from(times: pb.Times) -> Times:
    next_sigma = times.next_sigma if times.HasField("next_sigma") else None
    noised = Noised(times.noised.sigma, times.noised.draw) if times.HasField("noised") else None
    return Times(timesteps=tuple(times.timesteps), sigma=times.sigma, next_sigma=next_sigma, noised=noised)


def task_to_proto(task: Task) -> pb.AttachResponse:
    """The message for a dispatch. It is written in place: a message given to another's constructor would be copied."""
    response = pb.AttachResponse()
    dispatch = response.dispatch
    dispatch.sequence = task.sequence
    if isinstance(task.order, Decode):
        dispatch.decode.latents = task.order.latents
        _put_decode(task.order.work, dispatch.decode.work)
    else:
        for forward in task.order:
            item = dispatch.forward.items.add(latents=forward.latents, conditioning=forward.conditioning)
            _put_forward(forward.work, item.work)
    return response


def _put_decode(work: DecodeWork, message: pb.DecodeWork) -> None:
    message.session = work.session
    message.block = work.block
    message.slot = work.slot
    _put_latent(work.latents, message.latents)
    message.first_picture = work.first_picture
    message.picture_count = work.picture_count
    message.later_frames = work.later_frames
    message.settings.CopyFrom(convert_images.settings_to_proto(work.settings))


def _decode_from(decode: pb.DecodeWork) -> DecodeWork:
    return DecodeWork(
        session=SessionId(decode.session),
        block=decode.block,
        slot=SlotId(decode.slot),
        latents=_latent_from(decode.latents),
        first_picture=decode.first_picture,
        picture_count=decode.picture_count,
        settings=convert_images.settings_from_proto(decode.settings),
        later_frames=decode.later_frames,
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
