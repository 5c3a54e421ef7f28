"""Copies between one device and host memory that no forward waits for.

Theory of operation. Beside CUDA, host memory is pinned and copies run on a stream of their own: it first waits for what
the compute stream has been given so far, so a copy sees what the ops before it left; the compute stream never waits for
it. Every call returns when its copies are done, so only its own thread is held up. Beside a CPU these are plain copies.
Only what goes into a decoder slot is copied there by the compute thread itself: the slot is the one place it can go to,
and a copy beside it would take as much of the device once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.images.pinned import cut, storage_bytes, taken_bytes

cuda: Any = torch.cuda
"""torch.cuda without types: its streams have none."""


class HostMemory:
    """Copies for one thread beside the thread that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = cuda.Stream(device) if device.type == "cuda" else None

    def empty(self, wanted: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Contiguous host memory for tensors of these shapes and types, that a copy to the device can start from."""
        if self._stream is None:
            return tuple(torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in wanted)
        return cut(wanted, lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True))

    def taken_bytes(self, tensors: Sequence[Tensor]) -> int:
        """The host memory that tensors made by `empty` take, what torch adds to each allocation included."""
        sizes = storage_bytes(tensors)
        return sum(sizes if self._stream is None else map(taken_bytes, sizes))

    def down(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Contiguous copies in host memory of tensors on the device, views or not."""
        copies = self.empty(tensors)
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
