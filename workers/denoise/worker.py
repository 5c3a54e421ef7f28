"""The denoise worker: executes forwards as they are ordered, on one device, over one pool of pages.

It branches on nothing but what an order says: kind, input, timestep, page lists. A forward serves a batch of ops; one
op is a batch of one. Shape suffixes: B batch item, F latent frame, C channel, H row, W column, T text row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtake.core.effects import Forget
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.ops import Kind, Returns
from longtake.core.work import DispatchNumber, ForwardWork, FromLane, FromLatent, FromNoise, PageId, Role, SessionId
from workers.denoise.apart import apart
from workers.denoise.attention import AttentionBackend, ItemPages
from workers.denoise.folding import Folding
from workers.denoise.kv import PageMemory
from workers.denoise.lane_memory import LaneMemory
from workers.denoise.noise import BlockNoise, Draw
from workers.denoise.solver import KeyedRenoising
from workers.denoise.stage import ModelStage, WholeModel
from workers.device_work import DeviceWork, items_of, upload
from workers.messages import OP_ERRORS, Done, Failed, Forward, Task, reason_of
from workers.models.api import Conditioning, Denoiser, Inputs, Solver, TextKV
from workers.orders import Answer, Later, Order

NOTHING = b""
"""What is reported in place of the output of an op that failed."""


def tensor_to_bytes(tensor: Tensor) -> bytes:
    """The bytes of a tensor: float32, little-endian, contiguous."""
    array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return bytes(array.astype("<f4", copy=False).tobytes())


def tensor_from_bytes(data: bytes, shape: tuple[int, ...]) -> Tensor:
    """A float32 tensor on the CPU; InternalFault if the size is not that of `shape` (-1 allowed once)."""
    array = np.frombuffer(data, dtype="<f4").astype(np.float32)
    try:
        return torch.from_numpy(array.reshape(shape))
    except ValueError:
        raise InternalFault(f"{len(data)} bytes do not hold a float32 tensor of shape {list(shape)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A forward that the device was given, and its outputs on their way to the host."""

    work: DeviceWork
    landing: tuple[Tensor, ...] = ()

    def outputs(self) -> tuple[bytes, ...]:
        """Wait for them."""
        self.work.wait()
        return tuple(map(tensor_to_bytes, self.landing))


class DenoiseWorker:
    """A denoiser, or the part of it that `stage` runs, with `pages` pages. Not thread-safe: one thread uses it."""

    role = Role.DENOISE

    def __init__(
        self,
        denoiser: Denoiser,
        geometry: Geometry,
        attention: AttentionBackend,
        *,
        pages: int,
        stage: ModelStage | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._stage = stage or WholeModel(denoiser)
        self._frame_shape = geometry.block_shape[1:]
        self._device = denoiser.device
        shape = denoiser.page_shape(geometry.tokens_per_frame)
        self._pages = PageMemory(shape, pages, device=denoiser.device, dtype=denoiser.dtype)
        grid = geometry.latent_height // geometry.patch_space, geometry.latent_width // geometry.patch_space
        self._folding = Folding(denoiser, self._pages, grid)
        self._attention = attention
        self._noise = BlockNoise.on(denoiser.device, self._frame_shape)
        self._solver: Solver = KeyedRenoising(self._noise)
        self._memory: LaneMemory[Tensor, TextKV] = LaneMemory()

    def perform(self, message: Order) -> Iterator[Answer]:
        """Do one thing and yield what to report. InternalFault or UnknownPeer if the order cannot be meant.

        Nothing here waits for a device that works asynchronously: what must wait for it is reported later.
        """
        match message:
            case Task(order=tuple() as batch):
                yield self._report(message.sequence, batch)
            case Forget():
                self._memory.forget(message)
            case _:
                raise UnknownPeer(f"a denoise worker cannot do {type(message).__name__}")

    @property
    def device(self) -> torch.device:
        """Where its pages lie."""
        return self._device

    def page(self, page: PageId) -> Tensor:
        """The memory of one page, a view; IndexError if it is not in the pool."""
        return self._pages.page(page)

    @property
    def held_sessions(self) -> set[SessionId]:
        """Sessions that something is kept for."""
        return self._memory.sessions

    def _report(self, sequence: DispatchNumber, batch: tuple[Forward, ...]) -> Done | Failed | Later:
        """Run a batch. If it fails, its ops run one by one, so that only those fail that cannot be done.

        Those that read what others of the batch write are one thing with them, and run and fail together. What is to be
        folded before them is folded once, however often they run.
        """
        spoilt = self._fold(batch)
        try:
            if spoilt:
                raise spoilt[min(spoilt)]
            running = self._forward(batch)
            if running.work.is_over:
                return Done(sequence=sequence, outputs=running.outputs())
            return Later(
                made=lambda: Done(sequence=sequence, outputs=running.outputs(), seconds=running.work.wait()),
            )
        except OP_ERRORS:
            parts = apart(batch)
            if len(parts) == 1:
                raise
        found: dict[int, bytes] = {}
        reasons: dict[SessionId, str] = {}
        for part in parts:
            forwards = tuple([batch[item] for item in part])
            sent = [item for item in part if batch[item].work.returns.are_sent]
            try:
                for item in spoilt.keys() & set(part):
                    raise spoilt[item]
                made = self._forward(forwards).outputs()
            except OP_ERRORS as error:
                reasons |= dict.fromkeys([forward.work.session for forward in forwards], reason_of(error))
                made = (NOTHING,) * len(sent)
            found |= dict(zip(sent, made, strict=bool(made)))  # of a part of a model nothing is sent
        outputs = tuple([found[item] for item in sorted(found)])
        if not reasons:
            return Done(sequence=sequence, outputs=outputs)
        reason = next(iter(reasons.values()))
        return Failed(sessions=tuple(reasons), sequence=sequence, reason=reason, outputs=outputs)

    def _fold(self, batch: tuple[Forward, ...]) -> dict[int, Exception]:
        """Fold what is to be folded before the ops of a batch; returns why that failed, by the number of the op."""
        spoilt: dict[int, Exception] = {}
        for item, forward in enumerate(batch):
            try:
                with torch.inference_mode():
                    for fold in forward.work.folds:
                        self._folding.fold(fold)
            except OP_ERRORS as error:
                spoilt[item] = error
        return spoilt

    def _forward(self, batch: tuple[Forward, ...]) -> _Running:
        """Give the device one forward over the batch; the latents of those of its ops whose outputs are sent."""
        with torch.inference_mode():
            inputs = self._inputs(batch)
            work = DeviceWork(self._device)
            sent = self._advanced([forward.work for forward in batch], inputs)
            running = _Running(work=work, landing=tuple(map(work.land, sent)))
            work.finish()
        for forward in batch:
            if forward.work.kind is Kind.COMMIT:
                self._memory.committed(forward.work)
        return running

    def _advanced(self, works: list[ForwardWork], inputs: Inputs) -> list[Tensor]:
        """Run the forward and take the steps after it; the outputs that are sent, still on the device."""
        if all(work.kind is Kind.COMMIT for work in works):
            self._stage.commit(inputs)
            return []
        flow_BFCHW = self._stage.denoise(inputs)
        wanted = [item for item, work in enumerate(works) if work.returns is not Returns.NOTHING]
        if flow_BFCHW is None or not wanted:  # it comes out of another worker, or nobody starts from it
            return []
        works = [works[item] for item in wanted]
        x_BFCHW, flow_BFCHW = items_of(inputs.x_BFCHW, wanted), items_of(flow_BFCHW, wanted)
        outputs_BFCHW = self._solver.advance(x_BFCHW, flow_BFCHW, works)
        for work, output_FCHW in zip(works, outputs_BFCHW, strict=True):
            if work.returns.are_kept:
                self._memory.keep(work, output_FCHW.clone())  # a view would keep those of all batch mates alive
        return [outputs_BFCHW[item] for item, work in enumerate(works) if work.returns.are_sent]

    def _inputs(self, batch: tuple[Forward, ...]) -> Inputs:
        """What a forward over the batch is given."""
        works = [forward.work for forward in batch]
        timestep_BF, position_BF, key_position_BF, *arrived = upload(
            self._device,
            torch.tensor([work.times.timesteps for work in works]),
            torch.tensor([work.positions for work in works], dtype=torch.int64),
            torch.tensor([work.key_positions for work in works], dtype=torch.int64),
            *self._arriving(batch),
        )
        x_BFCHW = self._latents(batch, iter(arrived))
        steering = [Conditioning(text=self._memory.text(forward, self._encode)) for forward in batch]
        pages = [
            ItemPages(
                reads=work.pages.reads,
                writes=work.pages.writes,
                turns=work.read_turns,
                bias=work.bias.rows(work.positions),
            )
            for work in works
        ]
        apart = any(work.key_positions != work.positions for work in works)
        return Inputs(
            x_BFCHW=x_BFCHW,
            timestep_BF=timestep_BF,
            position_BF=position_BF,
            conditioning=Conditioning.batch(steering),
            attention=self._attention.plan(self._pages, pages),
            key_position_BF=key_position_BF if apart else None,
        )

    def _arriving(self, batch: tuple[Forward, ...]) -> list[Tensor]:
        """The latents (F, C, H, W) that come with the batch, in its order."""
        return [
            tensor_from_bytes(forward.latents, self._shape(forward))
            for forward in batch
            if self._needs_latents(forward) and isinstance(forward.work.input, FromLatent)
        ]

    def _latents(self, batch: tuple[Forward, ...], arrived: Iterator[Tensor]) -> Tensor:
        """Latents (B, F, C, H, W) on the device that ops start from; zeros where they are not needed."""
        keys = [
            forward.work.noise
            for forward in batch
            if self._needs_latents(forward) and isinstance(forward.work.input, FromNoise)
        ]
        frames, *_ = self._shape(batch[0])  # of one forward all make as many
        noise = iter(self._noise.of([Draw(key.seed, key.block, 0) for key in keys], frames) if keys else ())
        latents: list[Tensor] = []
        for forward in batch:
            match forward.work.input:
                case _ if not self._needs_latents(forward):
                    latents.append(torch.zeros(self._shape(forward), device=self._device))
                case FromNoise():
                    latents.append(next(noise))
                case FromLatent():
                    latents.append(next(arrived))
                case FromLane():
                    latents.append(self._memory.output(forward.work))
        x_BFCHW = torch.stack(latents)
        if self._stage.takes_latents(Kind.COMMIT):
            return self._solver.noised(x_BFCHW, [forward.work for forward in batch])
        return x_BFCHW

    def _shape(self, forward: Forward) -> tuple[int, ...]:
        """(F, C, H, W) of the latents of an op's block."""
        return (len(forward.work.positions), *self._frame_shape)

    def _needs_latents(self, forward: Forward) -> bool:
        return self._stage.takes_latents(forward.work.kind)

    def _encode(self, features: bytes) -> TextKV:
        """Cross-attention K/V of a prompt's features."""
        features_TC = tensor_from_bytes(features, (-1, self._denoiser.text_shape[1]))
        return self._denoiser.encode_text(upload(self._device, features_TC)[0].unsqueeze(0))
