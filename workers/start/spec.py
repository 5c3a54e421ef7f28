"""What one worker is to be, and its making: from a specification to loaded weights to workers without any history."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.recipe.layers import LayerTimes
from longtake.core.work import Role, WorkerId
from workers.decode.slots import DecoderPool, LatentFormat
from workers.decode.worker import DecodeWorker
from workers.denoise.layer_split import ChainMember, ModelPart
from workers.denoise.worker import DenoiseWorker
from workers.link_trust import LinkFiles
from workers.messages import Introduction, Part, Seat
from workers.models import weights
from workers.models.text import text_encoder
from workers.models.wan.dit import WanModel
from workers.models.wan.vae import WanDecoder
from workers.models.weights import ModelInfo
from workers.runner import Worker
from workers.simulated.device import is_simulated, parse_device
from workers.simulated.workers import SimulatedModel, simulated_digest
from workers.start.layer_times import held_layers, measured_times
from workers.start.probe import BatchProfile, decode_s, probe
from workers.start.profile_cache import cached, key_of

_log = logging.getLogger("longtake.worker")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Name, role, size, model and device of one worker; the same however it is started."""

    worker: WorkerId
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    model: Path
    """A model directory that this worker can read."""
    device: str = "cpu"
    """A torch device, or one that only takes its time (workers.simulated_device)."""
    dtype: str = "float32"
    max_batch: int = 1
    """Ops that one forward of a denoise worker may serve at most; what pays and is exact, it measures."""
    meeting_point: str = ""
    """Where workers find each other (workers.peers), host:port; empty: this one is alone."""
    seat: Seat | None = None
    """The worker's place in a chain that holds the model together; None: it holds all of it."""
    profiles: str = ""
    """Folder for what start-up measurements found (workers.profile_cache); empty: measure at every start."""
    link_files: LinkFiles | None = None
    """With which it shows the engine what it is, on this worker's machine; None: the link is not encrypted."""

    @property
    def replica(self) -> WorkerId:
        """The name under which the engine knows the worker, or the chain that it is part of."""
        return self.worker if self.seat is None else self.seat.replica

    def arguments(self) -> list[str]:
        """As command-line arguments that `parse_arguments` reads."""
        return [
            f"--worker={self.worker}",
            f"--role={self.role.value}",
            f"--capacity={self.capacity}",
            f"--model={self.model}",
            f"--device={self.device}",
            f"--dtype={self.dtype}",
            f"--max-batch={self.max_batch}",
            f"--meeting-point={self.meeting_point}",
            *_seat_arguments(self.seat),
            f"--profiles={self.profiles}",
            *([] if self.link_files is None else self.link_files.arguments()),
        ]


def _seat_arguments(seat: Seat | None) -> list[str]:
    if seat is None:
        return []
    return [f"--replica={seat.replica}", f"--rank={seat.rank}", f"--chain-length={seat.length}"]


def parse_arguments(arguments: Sequence[str]) -> tuple[WorkerSpec, str]:
    """A specification and the engine's address from the command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.link", description="One worker of a Longtake cell.")
    parser.add_argument("--engine", required=True, help="host:port that the engine listens on for workers")
    parser.add_argument("--worker", required=True, help="name, unique in the cell")
    parser.add_argument("--role", required=True, choices=[role.value for role in Role])
    parser.add_argument("--capacity", required=True, type=int, help="pages (denoise) or decoder slots (decode)")
    parser.add_argument("--model", required=True, type=Path, help="model directory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(_DTYPES))
    parser.add_argument("--max-batch", default=1, type=int, help="ops that one forward may serve at most")
    parser.add_argument("--meeting-point", default="", help="host:port where workers find each other")
    parser.add_argument("--replica", default="", help="name of the chain that this worker is part of; none: no chain")
    parser.add_argument("--rank", default=0, type=int, help="place in the chain, from 0")
    parser.add_argument("--chain-length", default=1, type=int, help="workers in the chain")
    parser.add_argument("--profiles", default="", help="folder for what start-up measurements found")
    for name in ("certificate", "key", "ca"):
        parser.add_argument(f"--link-{name}", default=None, type=Path, help="PEM file; all three, or none")
    given = parser.parse_args(arguments)
    files = (given.link_certificate, given.link_key, given.link_ca)
    seat = Seat(replica=WorkerId(given.replica), rank=given.rank, length=given.chain_length)
    spec = WorkerSpec(
        worker=WorkerId(given.worker),
        role=Role(given.role),
        capacity=given.capacity,
        model=given.model,
        device=given.device,
        dtype=given.dtype,
        max_batch=given.max_batch,
        meeting_point=given.meeting_point,
        seat=seat if given.replica else None,
        profiles=given.profiles,
        link_files=LinkFiles(certificate=files[0], key=files[1], ca=files[2]) if any(files) else None,
    )
    return spec, given.engine


class LoadedWorker:
    """Weights on their device; `fresh` makes workers over them that have no history, one at a time."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Load the weights and measure what batches are good for (seconds).

        InvalidField or Contradiction if specification or model directory are wrong.
        """
        for field, count, allowed in (
            ("worker.capacity", spec.capacity, "1 or more pages or decoder slots"),
            ("worker.max_batch", spec.max_batch, "1 or more ops"),
        ):
            if count < 1:
                raise InvalidField(field, count, allowed)
        if spec.dtype not in _DTYPES:
            raise InvalidField("model.dtype", spec.dtype, " or ".join(_DTYPES))
        device, dtype = torch.device(spec.device), _DTYPES[spec.dtype]
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InvalidField("model.device", spec.device, "cpu; no CUDA device is available to this worker")
        self._spec = spec
        self.meeting_point = spec.meeting_point
        self._info: ModelInfo = weights.load_info(spec.model)
        digest = weights.digest(spec.model)
        self.profile: BatchProfile | None = None
        """What a denoise worker measured."""
        self._module: WanModel | WanDecoder
        self._part: Part | None = None
        batch_limit, mixes_kinds, forward_s = 1, False, 0.0
        if spec.role is Role.DENOISE:
            if spec.seat is not None:
                self._part = self._part_for(spec.seat, device, dtype)
            layers = None if self._part is None else self._part.layers
            self._module = weights.load_denoiser(spec.model, self._info, device=device, dtype=dtype, layers=layers)
            self.profile = self._profiled(self._module, digest)
            batch_limit, mixes_kinds = self.profile.limit, self.profile.mixes_kinds
            forward_s = self.profile.forward_s.get(1, 0.0)
            _log.info("worker %s: %s", spec.worker, self.profile)
        else:
            self._module = weights.load_decoder(spec.model, self._info, device=device, dtype=dtype)
            forward_s = decode_s(self._module, self._info.geometry)
            _log.info("worker %s: %.2f ms for a block", spec.worker, 1e3 * forward_s)
        self.introduction = Introduction(
            worker=spec.worker,
            role=spec.role,
            capacity=spec.capacity,
            batch_limit=batch_limit,
            mixes_kinds=mixes_kinds,
            forward_s=forward_s,
            model_digest=digest,
            part=self._part,
        )

    def _part_for(self, seat: Seat, device: torch.device, dtype: torch.dtype) -> Part:
        """What the worker in `seat` holds; the first of its chain measures how long a layer takes."""
        spec, info = self._spec, self._info

        def measure() -> LayerTimes:
            times = measured_times(spec.model, info, device=device, dtype=dtype)
            _log.info("worker %s: %s", spec.worker, times)
            return times

        return Part(seat=seat, layers=held_layers(seat, info, measure, spec.meeting_point))

    def _profiled(self, model: WanModel, digest: str) -> BatchProfile:
        """What batches are good for, measured now or at an earlier start."""
        spec, geometry, recipe = self._spec, self._info.geometry, self._info.recipe

        def measure() -> BatchProfile:
            return probe(model, geometry, recipe, pages=spec.capacity, max_batch=spec.max_batch)

        if not spec.profiles:
            return measure()
        largest = max(1, min(spec.max_batch, spec.capacity // recipe.page_count))
        return cached(Path(spec.profiles), key_of(digest, model, geometry, recipe, max_batch=largest), measure)

    def fresh(self) -> Worker:
        """A worker with empty pages or slots. The one before must have ended."""
        geometry, pages = self._info.geometry, self._spec.capacity
        if isinstance(self._module, WanModel):
            if self._part is None:
                return DenoiseWorker(self._module, geometry, pages=pages)
            stage = ModelPart(self._module, geometry, self._part.seat, meeting_point=self._spec.meeting_point)
            return ChainMember(DenoiseWorker(self._module, geometry, pages=pages, stage=stage), stage)
        text = text_encoder(self._info.text_kind, self._info.dit.text_dim)
        slots = DecoderPool(self._module, LatentFormat.of(self._info), slots=self._spec.capacity)
        return DecodeWorker(slots, geometry, text)


def load_worker(spec: WorkerSpec) -> LoadedWorker | SimulatedModel:
    """What the specification says, computing or simulated; raises what LoadedWorker and SimulatedModel raise."""
    if not is_simulated(spec.device):
        return LoadedWorker(spec)
    if spec.seat is not None:
        raise Contradiction(f"a chain of {spec.seat.length}", spec.device, "a simulated device holds no layers")
    return SimulatedModel(
        worker=spec.worker,
        role=spec.role,
        capacity=spec.capacity,
        model=spec.model,
        device=parse_device(spec.device),
        meeting_point=spec.meeting_point,
    )


def model_digest(spec: WorkerSpec) -> str:
    """The digest with which this worker introduces itself: a simulated worker cannot pass for one that computes."""
    return simulated_digest(spec.model) if is_simulated(spec.device) else weights.digest(spec.model)
