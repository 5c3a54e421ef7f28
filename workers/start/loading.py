"""From a specification to loaded weights that know what they can do, and to workers without any history."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from longtake.core.errors import Contradiction, InvalidField, Lack, NoCapacity
from longtake.core.plan.memory import footprint
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.layers import LayerTimes
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Ability, DecoderKind, Role
from workers.decode.encode import Codec, VideoSettings, encoder_for
from workers.decode.encoding import EncodingPool, encoding_beside
from workers.decode.giving import PictureEncoder
from workers.decode.slots import DecoderPool, DecoderSlots, LatentFormat
from workers.decode.text import TextWorker
from workers.decode.worker import DecodeWorker
from workers.denoise.attention import AttentionBackend
from workers.denoise.layer_split import ChainMember, ModelPart
from workers.denoise.worker import DenoiseWorker
from workers.messages import Introduction, Part, Seat
from workers.models import weights
from workers.models.api import LatentDecoder
from workers.models.numbers import numbers_of
from workers.models.text import load_text_encoder
from workers.models.text_rules import is_encoded_apart
from workers.models.weights import ModelInfo
from workers.runner import Performer
from workers.simulated.device import is_simulated, parse_device
from workers.simulated.workers import SimulatedModel, simulated_digest
from workers.site import site_of
from workers.start.attention import Extent, choose
from workers.start.encoder_memory import encode_peak_bytes, encoder_state_bytes
from workers.start.joint_trial import joint_like_apart
from workers.start.layer_times import held_layers, measured_times
from workers.start.numerics import Numerics, decode_numerics, denoise_numerics, settle_kernels, text_numerics
from workers.start.probe import (
    BatchProfile,
    Subject,
    decode_peak_bytes,
    forward_peak_bytes,
    probe,
    segment_s,
)
from workers.start.profile_cache import cached, key_of
from workers.start.profiles import Profiles, Shapes
from workers.start.spec import WorkerSpec
from workers.start.taking import Stock, is_out_of_memory, taken

_Decoders = Mapping[DecoderKind, LatentDecoder]

_log = logging.getLogger("longtake.worker")


class LoadedWorker:
    """Weights on their device; `fresh` makes workers over them that have no history, one at a time."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Load the weights and measure what batches are good for (seconds).

        InvalidField or Contradiction if specification or model directory are wrong.
        """
        settle_kernels()
        self._spec = spec
        if spec.compute.torch_device.type == "cuda" and not torch.cuda.is_available():
            raise InvalidField("model.device", spec.compute.device, "cpu; no CUDA device is available to this worker")
        self._info: ModelInfo = weights.load_info(spec.model)
        self._digest = weights.digest(spec.model)
        self._sites = (site_of(spec.compute.torch_device),)
        self.meeting_point = spec.meeting_point
        self.profile: Profiles | None = None
        """What a denoise worker measured of its batches."""
        self._fresh: Callable[[], Performer]
        match spec.role:
            case Role.DENOISE:
                self.introduction = self._denoiser()
            case Role.DECODE:
                self.introduction = self._decoder()
            case Role.TEXT:
                self.introduction = self._texter()
        self._first: Performer | None = self._fresh()  # whoever waits for the weights shall hear whether they have room

    def fresh(self) -> Performer:
        """A worker with empty pages or slots; NoCapacity if there is no memory for them. The one before must have
        ended."""
        first, self._first = self._first, None
        return first or self._fresh()

    def _denoiser(self) -> Introduction:
        spec, info = self._spec, self._info
        attention = choose(Extent.of(info), spec.compute)
        part = None if spec.seat is None else self._part_for(spec.seat, attention.backend)
        layers = None if part is None else part.layers
        subject = Subject(
            denoiser=weights.load_denoiser(spec.model, info, spec.compute, layers),
            attention=attention.backend,
            geometry=info.geometry,
            recipe=info.recipe,
        )
        numerics = denoise_numerics(subject, spec.compute, attention.name)
        _log.info("worker %s: %s", spec.worker, numerics)
        subjects = {shape: subject.by(each) for shape, each in one_of_each_shape(info.recipe, *spec.recipes).items()}
        profiles = {shape: self._profiled(each, numerics) for shape, each in subjects.items()}
        self.profile = Profiles(
            own=profiles.pop(shapes_of(info.recipe)), others=profiles, joint_ops=self._joint_ops(subject)
        )
        _log.info("worker %s: %s", spec.worker, self.profile)
        shape = subject.denoiser.page_shape(info.geometry.tokens_per_frame)
        limit = self.profile.limit
        together = [(subject.by(each), each.most_together) for each in (info.recipe, *spec.recipes)]
        sizes = [*((each, limit) for each in subjects.values()), *together]
        peak_bytes = max(forward_peak_bytes(each, size) for each, size in sizes)
        self._stock(
            "pages", shape.size_bytes(subject.denoiser.dtype), peak_bytes, partial(_denoise_worker, subject, spec)
        )
        return Introduction(
            worker=spec.worker,
            role=spec.role,
            ability=self.profile.ability(spec.capacity, numerics.fingerprint, layers=info.num_layers),
            model_digest=self._digest,
            part=part,
            sites=self._sites,
        )

    def _decoder(self) -> Introduction:
        spec, info = self._spec, self._info
        decoders = {kind: weights.load_decoder(spec.model, info, spec.compute, kind) for kind in info.decoders}
        apart = is_encoded_apart(info.text_kind)
        text = None if apart else load_text_encoder(spec.model, info, spec.compute)
        numerics = decode_numerics(tuple(decoders.values()), info.geometry, spec.compute)
        _log.info("worker %s: %s", spec.worker, numerics)
        encoding = encoding_beside(spec.compute.torch_device)
        trials = _pools(decoders, info, slots=1)
        block_s = {
            kind: _block_s(f"worker {spec.worker}, {kind.value} decoder", slots, info.geometry, encoding)
            for kind, slots in trials.items()
        }
        peak_bytes = max(decode_peak_bytes(slots, info.geometry) for slots in trials.values())
        del trials
        ability = Ability(
            capacity=spec.capacity,
            forward_s=block_s[DecoderKind.FULL],
            tiny_s=block_s.get(DecoderKind.TINY, 0.0),
            encodes_text=not apart,
            numerics=numerics.fingerprint,
            replay_depth=max(decoder.receptive_frames for decoder in decoders.values()),
        )
        encoder = weights.load_encoder(spec.model, info, spec.compute)
        giving = None if encoder is None else PictureEncoder(encoder, LatentFormat.of(info), info.geometry)
        if encoder is not None:
            peak_bytes += encoder_state_bytes(encoder, info.geometry)  # decodes run between the frames of a clip
            peak_bytes = max(peak_bytes, encode_peak_bytes(encoder, info.geometry))
        make = partial(
            DecodeWorker, geometry=info.geometry, text=text, encoding=encoding, giving=giving
        )  # fmt: skip
        make = partial(_decode_worker, make, decoders, info, spec.capacity)
        self._stock("decoder slots", _slot_bytes(decoders, info.geometry), peak_bytes, make)
        return Introduction(
            worker=spec.worker,
            role=spec.role,
            ability=ability,
            model_digest=self._digest,
            sites=self._sites,
        )

    def _texter(self) -> Introduction:
        spec = self._spec
        text = load_text_encoder(spec.model, self._info, spec.compute)
        numerics = text_numerics(text, spec.compute)
        _log.info("worker %s: %s", spec.worker, numerics)
        self._fresh = partial(TextWorker, text, spec.compute.torch_device)
        ability = Ability(capacity=spec.capacity, numerics=numerics.fingerprint)
        return Introduction(
            worker=spec.worker, role=spec.role, ability=ability, model_digest=self._digest, sites=self._sites
        )

    def _stock(self, kind: str, unit_bytes: int, peak_bytes: int, make: Callable[[], Performer]) -> None:
        """Have fresh workers made by `make`, each with pages or slots of this size."""
        spec, model = self._spec, numbers_of(self._info, self._spec.model)
        planned = footprint(model, spec.occupant, lane_pages=self._info.recipe.page_count)
        stock = Stock(
            kind=kind,
            count=spec.capacity,
            unit_bytes=unit_bytes,
            workspace_bytes=peak_bytes,
            planned_bytes=planned.workspace_bytes - spec.occupant.process_bytes,
        )
        self._fresh = partial(taken, stock, spec.compute.torch_device, make)

    def _part_for(self, seat: Seat, attention: AttentionBackend) -> Part:
        """What the worker in `seat` holds; the first of its chain measures how long a layer takes."""
        spec, info = self._spec, self._info

        def measure() -> LayerTimes:
            times = measured_times(spec.model, info, spec.compute, attention)
            _log.info("worker %s: %s", spec.worker, times)
            return times

        return Part(seat=seat, layers=held_layers(seat, info, measure, spec.meeting_point))

    def _joint_ops(self, subject: Subject) -> int:
        """Among how many ops of one stream a commit may be, as far as the served recipes want it and all goes well."""
        wanted = [
            (each.joint.live, each, each.joint) for each in (self._info.recipe, *self._spec.recipes) if each.joint
        ]
        most = 0
        for live, recipe, joint in sorted(wanted, key=lambda each: each[0]):
            if not joint_like_apart(subject.by(recipe), joint):
                _log.info("worker %s: beside %d ops of one stream commits give other bits", self._spec.worker, live - 1)
                break
            most = live
        return most

    def _profiled(self, subject: Subject, numerics: Numerics) -> BatchProfile:
        """What batches are good for, measured now or at an earlier start."""
        spec = self._spec

        def measure() -> BatchProfile:
            _log.info("worker %s: measuring what its device can do", spec.worker)
            return probe(subject, pages=spec.capacity, max_batch=spec.max_batch)

        if not spec.profiles:
            return measure()
        largest = max(1, min(spec.max_batch, spec.capacity // subject.recipe.window.size))
        key = key_of(self._digest, subject, spec.compute, numerics, max_batch=largest)
        return cached(Path(spec.profiles), key, measure)


def one_of_each_shape(*recipes: Recipe) -> dict[Shapes, Recipe]:
    """One recipe of each shape, to be measured: the first, or the first whose keys are turned as they are read, because
    a trial of these has keys of both kinds."""
    found: dict[Shapes, Recipe] = {}
    for each in sorted(recipes, key=lambda recipe: not recipe.positions.turn_reads):
        found.setdefault(shapes_of(each), each)
    return {shapes_of(each): found[shapes_of(each)] for each in recipes}


def shapes_of(recipe: Recipe) -> Shapes:
    """What tells the shapes of a recipe's blocks from those of another."""
    return (*recipe.shape, recipe.blocks.lead, recipe.positions.slope > 0)


def _denoise_worker(subject: Subject, spec: WorkerSpec) -> Performer:
    """A worker over a whole denoiser, or one of a chain over its part."""
    made = partial(DenoiseWorker, subject.denoiser, subject.geometry, subject.attention, pages=spec.capacity)
    if spec.seat is None:
        return made()
    stage = ModelPart(subject.denoiser, spec.seat, meeting_point=spec.meeting_point)
    return ChainMember(made(stage=stage), stage)


def _decode_worker(
    make: Callable[[dict[DecoderKind, DecoderPool]], DecodeWorker], decoders: _Decoders, info: ModelInfo, slots: int
) -> DecodeWorker:
    return make(_pools(decoders, info, slots=slots))


def _pools(decoders: _Decoders, info: ModelInfo, *, slots: int) -> dict[DecoderKind, DecoderPool]:
    """Slots for each decoder: which one a session will choose is not known."""
    return {kind: DecoderPool(made, LatentFormat.of(info, kind), slots=slots) for kind, made in decoders.items()}


def _slot_bytes(decoders: _Decoders, geometry: Geometry) -> int:
    """What a slot takes with each of the decoders."""
    size = geometry.latent_height, geometry.latent_width
    return sum(
        made.dtype.itemsize * sum(map(math.prod, made.state_shapes(1, *size))) for made in decoders.values()
    )  # fmt: skip


def _block_s(what: str, slots: DecoderSlots, geometry: Geometry, encoding: EncodingPool | None) -> float:
    """Seconds between the segments of a busy decode worker, measured with what a stream gets that asks for nothing."""
    encoder = encoder_for(
        VideoSettings(codec=Codec.H264, width=geometry.width, height=geometry.height, fps=geometry.fps)
    )
    decode_s, encode_s = segment_s(slots, encoder, geometry)
    where = "in turn" if encoding is None else f"on each of {encoding.threads} threads beside"
    _log.info("%s: %.2f ms to decode a block, %.2f ms to encode it %s", what, 1e3 * decode_s, 1e3 * encode_s, where)
    return decode_s + encode_s if encoding is None else encoding.pace_s(decode_s, encode_s)


def load_worker(spec: WorkerSpec) -> LoadedWorker | SimulatedModel:
    """What the specification says, computing or simulated; raises what LoadedWorker and SimulatedModel raise, and
    NoCapacity if the device has no room for it."""
    if not is_simulated(spec.compute.device):
        _log.info("worker %s: loading its weights", spec.worker)
        try:
            return LoadedWorker(spec)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            why = str(error).splitlines()[0]
            raise NoCapacity(f"{spec.compute.device} has no room for the weights: {why}", 0.0, Lack.PAGES) from None
    if spec.seat is not None:
        raise Contradiction(f"a chain of {spec.seat.length}", spec.compute.device, "a simulated device holds no layers")
    return SimulatedModel(
        worker=spec.worker,
        role=spec.role,
        capacity=spec.capacity,
        model=spec.model,
        device=parse_device(spec.compute.device),
        meeting_point=spec.meeting_point,
    )


def model_digest(spec: WorkerSpec) -> str:
    """The digest with which this worker introduces itself: a simulated worker cannot pass for one that computes."""
    if is_simulated(spec.compute.device):
        return simulated_digest(spec.model, parse_device(spec.compute.device).reach)
    return weights.digest(spec.model)
