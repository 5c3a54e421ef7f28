"""The denoise worker: executes forwards as they are ordered, on one device, over one pool of pages.

It branches on nothing but what an order says: kind, input, timestep, page lists. A forward serves a batch of ops; one
op is a batch of one. Shape suffixes: B batch item, F latent frame, C channel, H row, W column, T text row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from longtake.core.effects import Forget
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Kind
from longtake.core.work import ForwardWork, FromLane, FromLatent, FromNoise, PageId, Role, Sequence, SessionId
from workers.denoise.kv import ItemPages, PagedAttention, PagePool, PageShape
from workers.denoise.lane_memory import LaneMemory
from workers.denoise.noise import Draw, normals
from workers.denoise.solver import predict_x0, renoise
from workers.denoise.stage import Stage, WholeModel
from workers.messages import OP_ERRORS, Done, Failed, Forward, Output, Task, Up, reason_of
from workers.models.wan.dit import TextKV, WanModel
from workers.orders import Order

NOTHING = Output(sha256="", latents=b"")
"""In place of the output of an op that failed."""


def tensor_to_bytes(tensor: Tensor) -> bytes:
    """float32 little-endian, contiguous."""
    array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return bytes(array.astype("<f4", copy=False).tobytes())


def tensor_from_bytes(data: bytes, shape: tuple[int, ...]) -> Tensor:
    """float32 on the CPU; InternalFault if the size is not that of `shape` (-1 allowed once)."""
    array = np.frombuffer(data, dtype="<f4").astype(np.float32)
    try:
        return torch.from_numpy(array.reshape(shape))
    except ValueError:
        raise InternalFault(f"{len(data)} bytes do not hold a float32 tensor of shape {list(shape)}") from None


class DenoiseWorker:
    """The transformer, or the part of it that `stage` runs, with `pages` pages. Not thread-safe: one thread uses it."""

    role = Role.DENOISE

    def __init__(self, model: WanModel, geometry: Geometry, *, pages: int, stage: Stage | None = None) -> None:
        weight = model.patch_embedding.weight
        self._model = model
        self._stage = stage or WholeModel(model)
        self._geometry = geometry
        self._device = weight.device
        shape = PageShape(
            layers=model.layers,
            tokens_per_frame=geometry.tokens_per_frame,
            num_heads=model.config.num_heads,
            head_dim=model.config.head_dim,
        )
        self._pool = PagePool(shape, pages, device=weight.device, dtype=weight.dtype)
        self._memory: LaneMemory[Tensor, TextKV] = LaneMemory()

    def perform(self, message: Order) -> Iterator[Up]:
        """Do one thing and yield what to report. InternalFault or UnknownPeer if the order cannot be meant."""
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
        return self._pool.page(page)

    @property
    def held_sessions(self) -> set[SessionId]:
        """Sessions that something is kept for."""
        return self._memory.sessions

    def _report(self, sequence: Sequence, batch: tuple[Forward, ...]) -> Done | Failed:
        """Run a batch. If it fails, its ops run one by one, so that only those fail that cannot be done."""
        try:
            return Done(sequence=sequence, outputs=self._forward(batch))
        except OP_ERRORS:
            if len(batch) == 1:
                raise
        outputs: list[Output] = []
        reasons: dict[SessionId, str] = {}
        for forward in batch:
            try:
                outputs += self._forward((forward,))
            except OP_ERRORS as error:
                reasons[forward.work.session] = reason_of(error)
                outputs += [NOTHING] * (forward.work.kind is Kind.DENOISE)
        if not reasons:
            return Done(sequence=sequence, outputs=tuple(outputs))
        reason = next(iter(reasons.values()))
        return Failed(sessions=tuple(reasons), sequence=sequence, reason=reason, outputs=tuple(outputs))

    def _forward(self, batch: tuple[Forward, ...]) -> tuple[Output, ...]:
        """One forward over the batch; what its denoise ops produced."""
        works = [forward.work for forward in batch]
        denoised = [item for item, work in enumerate(works) if work.kind is Kind.DENOISE]
        with torch.inference_mode():
            x_BFCHW = self._inputs(batch)
            text = TextKV.batch([self._memory.text(forward, self._encode) for forward in batch])
            pages = [ItemPages(reads=work.reads, writes=work.writes) for work in works]
            attention = PagedAttention(self._pool, pages)
            frames = len(works[0].positions)
            timestep_BF = torch.tensor([[work.timestep] * frames for work in works], device=self._device)
            position_BF = torch.tensor([work.positions for work in works], dtype=torch.int64, device=self._device)
            if not denoised:
                self._stage.commit(x_BFCHW, timestep_BF, position_BF, text, attention)
                return ()
            flow_BFCHW = self._stage.denoise(x_BFCHW, timestep_BF, position_BF, text, attention)
            if flow_BFCHW is None:  # it comes out of another worker
                return ()
            x0_BFCHW = predict_x0(x_BFCHW, flow_BFCHW, [work.sigma for work in works])
            outputs_BFCHW = self._renoised(works, x0_BFCHW)
            return tuple(self._output(works[item], outputs_BFCHW[item]) for item in denoised)

    def _renoised(self, works: list[ForwardWork], x0_BFCHW: Tensor) -> Tensor:
        """What leaves denoise ops: x0, re-noised unless it was the last step. A commit's item stays what it is."""
        sigmas = {item: work.next_sigma for item, work in enumerate(works) if work.kind is Kind.DENOISE}
        noisy = {item: sigma for item, sigma in sigmas.items() if sigma is not None}
        if noisy:
            items = list(noisy)
            draws = [Draw(works[item].seed, works[item].block, works[item].step + 1) for item in items]
            x0_BFCHW[items] = renoise(x0_BFCHW[items], self._noise(draws), list(noisy.values()))
        return x0_BFCHW

    def _output(self, work: ForwardWork, output_FCHW: Tensor) -> Output:
        """The report of a denoise op. The lane keeps its output too."""
        kept_FCHW = output_FCHW.clone()  # a view would keep the latents of all batch mates alive
        self._memory.keep(work, kept_FCHW)
        latents = tensor_to_bytes(kept_FCHW)
        return Output(sha256=hashlib.sha256(latents).hexdigest(), latents=latents)

    def _noise(self, draws: list[Draw]) -> Tensor:
        return normals(draws, self._geometry.block_shape).to(self._device)

    def _inputs(self, batch: tuple[Forward, ...]) -> Tensor:
        """Latents (B, F, C, H, W) on the device that ops start from; zeros where they are not needed."""
        shape = self._geometry.block_shape
        needed = [self._stage.takes_latents(forward.work.kind) for forward in batch]
        fresh = [
            forward.work
            for forward, here in zip(batch, needed, strict=True)
            if here and isinstance(forward.work.input, FromNoise)
        ]
        noise = iter(self._noise([Draw(work.seed, work.block, 0) for work in fresh]) if fresh else ())
        return torch.stack(
            [
                self._input(forward, noise) if here else torch.zeros(shape, device=self._device)
                for forward, here in zip(batch, needed, strict=True)
            ]
        )

    def _input(self, forward: Forward, noise: Iterator[Tensor]) -> Tensor:
        match forward.work.input:
            case FromNoise():
                return next(noise)
            case FromLatent():
                return tensor_from_bytes(forward.latents, self._geometry.block_shape).to(self._device)
            case FromLane():
                return self._memory.output(forward.work)

    def _encode(self, features: bytes) -> TextKV:
        """Cross-attention K/V of a prompt's features."""
        features_TC = tensor_from_bytes(features, (-1, self._model.config.text_dim))
        return self._model.encode_text(features_TC.to(self._device).unsqueeze(0))
