"""What passes between the host and a device around an op, so that the host need not wait while the device computes.

Theory of operation. A CUDA device does what it is given in order, while the host goes on. A copy from or to ordinary
host memory makes the host wait until all that was given before is done, so what goes up is packed into one piece of
pinned memory, and what comes down is copied to pinned memory and waited for by whoever wants it, on another thread than
the one that gives the device its work. torch's allocator keeps pinned memory for the next op and knows when a copy from
it is over. A CPU does everything at once; beside it these are no copies at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

cuda: Any = torch.cuda
"""torch.cuda without types: its events have none."""

ALIGNMENT_BYTES = 256
"""Where tensors may begin in a shared piece of memory: as the allocators of devices align what they give out."""


def aligned(size_bytes: int) -> int:
    """What a tensor of this size takes of a shared piece of memory."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How tensors lie in one piece of memory."""

    tensors: tuple[Tensor, ...]

    @property
    def offsets(self) -> list[int]:
        """The first byte of each tensor, and of what would come behind the last."""
        offsets = [0]
        for tensor in self.tensors:
            offsets.append(offsets[-1] + aligned(tensor.nbytes))
        return offsets

    def fill(self, memory: Tensor) -> None:
        """Copy all tensors into `memory`: uint8, on the host."""
        for tensor, view in zip(self.tensors, self.views(memory), strict=True):
            view.copy_(tensor)

    def views(self, memory: Tensor) -> tuple[Tensor, ...]:
        """The tensors as they lie in `memory`, on whatever device that is."""
        return tuple(
            memory[offset : offset + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            for tensor, offset in zip(self.tensors, self.offsets, strict=False)
        )


def upload(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of the host on the device, in one copy that nobody waits for; on a CPU the tensors themselves."""
    if device.type == "cpu" or not tensors:
        return tensors
    packing = Packing(tensors=tensors)
    staging = torch.empty(packing.offsets[-1], dtype=torch.uint8, pin_memory=True)
    packing.fill(staging)
    return packing.views(staging.to(device, non_blocking=True))


class DeviceWork:
    """One op on a device: begun where this is made, over when everything given until `finish` is done."""

    def __init__(self, device: torch.device) -> None:
        # `blocking`: who waits sleeps, and leaves its core to the thread that gives the device its work.
        made = (cuda.Event(enable_timing=True, blocking=True) for _ in range(2))
        self._events = tuple(made) if device.type == "cuda" else ()
        self._began_s = time.perf_counter()
        self._seconds = 0.0
        for event in self._events[:1]:
            event.record()

    @property
    def is_over(self) -> bool:
        """Whether `wait` would return at once, after `finish`."""
        return not self._events

    def land(self, tensor: Tensor) -> Tensor:
        """A copy of the tensor in host memory, contiguous; it holds nothing until `wait` has returned."""
        if not self._events:
            return tensor.contiguous()
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def finish(self) -> None:
        """Nothing more belongs to the op."""
        self._seconds = time.perf_counter() - self._began_s
        for event in self._events[1:]:
            event.record()

    def wait(self) -> float:
        """Wait until the op is over; the seconds that the device spent on it. RuntimeError if the device failed."""
        if not self._events:
            return self._seconds
        begin, end = self._events
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def items_of(batch: Tensor, items: Sequence[int]) -> Tensor:
    """Some items of a batch in a batch of their own; an index in a list would make the host wait."""
    if len(items) == len(batch):
        return batch
    return torch.stack([batch[item] for item in items])
