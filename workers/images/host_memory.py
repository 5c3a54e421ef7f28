"""Copies between one device and host memory that no forward waits for.

Theory of operation. Beside CUDA, host memory is pinned and copies run on a stream of their own: it first waits for what
the compute stream has been given so far, so a copy sees what the ops before it left; the compute stream never waits for
it. Every call returns when its copies are done, so only its own thread is held up. Beside a CPU these are plain copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

cuda: Any = torch.cuda
"""torch.cuda without types: its streams have none."""


class HostMemory:
    """Copies for one thread beside the thread that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = cuda.Stream(device) if device.type == "cuda" else None

    def empty(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
        """Host memory that a copy to the device can start from; `device` may name only the CPU."""
        return torch.empty(tuple(size), dtype=dtype, device=device, pin_memory=self._stream is not None)

    def down(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Contiguous copies in host memory of tensors on the device, views or not."""
        copies = tuple(self.empty(tensor.shape, dtype=tensor.dtype) for tensor in tensors)
        self.fill(copies, tensors)
        return copies

    def up(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copies on the device of tensors in host memory; on a CPU the same tensors."""
        if self._stream is None:
            return tuple(tensors)
        # Made outside the copies' stream: it is the compute stream that will use and free this memory.
        copies = tuple(torch.empty_like(tensor, device=self._device) for tensor in tensors)
        self.fill(copies, tensors)
        return copies

    def fill(self, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        """Copy each source into its target, one on the device and one in host memory."""
        with self._copying():
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source, non_blocking=True)

    @contextlib.contextmanager
    def _copying(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(cuda.default_stream(self._device))
        with cuda.stream(self._stream):
            yield
        self._stream.synchronize()
