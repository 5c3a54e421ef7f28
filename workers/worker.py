"""The denoise worker: executes forwards as they are ordered, on one device, over one pool of pages.

It branches on nothing but what an order says: kind, input, timestep, page lists. Shape suffixes: B batch item,
F latent frame, C channel, H row, W column, T text row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from longtake.core.effects import EncodeText, Forget, PrepareStream
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.geometry import Geometry
from longtake.core.schedule import Kind
from longtake.core.work import ConditioningRef, ForwardWork, FromLane, FromLatent, FromNoise, Role, SessionId
from workers.denoise import predict_x0, renoise
from workers.kv import ItemPages, PagedAttention, PagePool, PageShape
from workers.messages import Done, Task, Up
from workers.models.wan import TextKV, WanModel
from workers.noise import normal


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
    """One replica of the transformer, with `pages` pages. Not thread-safe: one thread does everything."""

    role = Role.DENOISE

    def __init__(self, model: WanModel, geometry: Geometry, *, pages: int) -> None:
        weight = model.patch_embedding.weight
        self._model = model
        self._geometry = geometry
        self._device = weight.device
        shape = PageShape(
            layers=model.layers,
            tokens_per_frame=geometry.tokens_per_frame,
            num_heads=model.config.num_heads,
            head_dim=model.config.head_dim,
        )
        self._pool = PagePool(shape, pages, device=weight.device, dtype=weight.dtype)
        self._outputs: dict[tuple[SessionId, int], Tensor] = {}
        """Output of the last denoise op of each (session, lane)."""
        self._texts: dict[ConditioningRef, TextKV] = {}

    def perform(self, message: Task | PrepareStream | EncodeText | Forget) -> Iterator[Up]:
        """Do one thing and yield what to report. InternalFault or UnknownPeer if the order cannot be meant."""
        match message:
            case Task(work=ForwardWork() as work):
                yield self._forward(message, work)
            case Forget():
                self._forget(message)
            case _:
                raise UnknownPeer(f"a denoise worker cannot do {type(message).__name__}")

    @property
    def held_sessions(self) -> set[SessionId]:
        """Sessions that something is kept for."""
        return {session for session, _ in self._outputs} | {ref.session for ref in self._texts}

    def _forward(self, task: Task, work: ForwardWork) -> Done:
        with torch.inference_mode():
            x_BFCHW = self._input(task, work).to(self._device).unsqueeze(0)
            text = self._text(task, work.conditioning)
            attention = PagedAttention(self._pool, [ItemPages(reads=work.reads, writes=work.writes)])
            timestep_BF = torch.full((1, len(work.positions)), work.timestep, device=self._device)
            position_BF = torch.tensor([work.positions], dtype=torch.int64, device=self._device)
            if work.kind is Kind.COMMIT:
                self._model.commit(x_BFCHW, timestep_BF, position_BF, text, attention)
                return Done(sequence=task.sequence)
            flow_BFCHW = self._model(x_BFCHW, timestep_BF, position_BF, text, attention)
            out_BFCHW = predict_x0(x_BFCHW, flow_BFCHW, [work.sigma])
            if work.next_sigma is not None:
                noise = normal(work.seed, work.block, work.step + 1, self._geometry.block_shape)
                out_BFCHW = renoise(out_BFCHW, noise.to(self._device).unsqueeze(0), [work.next_sigma])
        output_FCHW = out_BFCHW[0]
        self._outputs[work.session, work.lane] = output_FCHW
        latents = tensor_to_bytes(output_FCHW)
        return Done(sequence=task.sequence, sha256=hashlib.sha256(latents).hexdigest(), latents=latents)

    def _input(self, task: Task, work: ForwardWork) -> Tensor:
        """Latents (F, C, H, W) that the forward starts from."""
        match work.input:
            case FromNoise():
                return normal(work.seed, work.block, 0, self._geometry.block_shape)
            case FromLatent():
                return tensor_from_bytes(task.latents, self._geometry.block_shape)
            case FromLane():
                key = (work.session, work.lane)
                if key not in self._outputs:
                    raise UnknownPeer(f"lane {work.lane} of session {work.session} has no output to start from")
                return self._outputs[key]

    def _text(self, task: Task, ref: ConditioningRef) -> TextKV:
        """Cross-attention K/V of a prompt version, computed once."""
        if ref not in self._texts:
            if not task.conditioning:
                raise UnknownPeer(f"version {ref.version} of session {ref.session} was never sent")
            features_TC = tensor_from_bytes(task.conditioning, (-1, self._model.config.text_dim))
            self._texts[ref] = self._model.encode_text(features_TC.to(self._device).unsqueeze(0))
        return self._texts[ref]

    def _forget(self, message: Forget) -> None:
        if message.version is not None:
            self._texts.pop(ConditioningRef(session=message.session, version=message.version), None)
            return
        for key in [key for key in self._outputs if key[0] == message.session]:
            del self._outputs[key]
        for ref in [ref for ref in self._texts if ref.session == message.session]:
            del self._texts[ref]
