"""What the compute thread of a worker is asked to do, and what it and the thread for images pass to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from longtake.core.effects import EncodeText, Forget, PrepareStream, Stow
from longtake.core.work import ImageId
from workers.messages import EncodeGiven, JoinChain, Task, Up


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached:
    """The state of a decoder slot that was to be stowed, still on the device; nobody else has it any more."""

    image: ImageId
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A report that waits for a device or for another thread: while it does, the compute thread goes on."""

    made: Callable[[], Up]
    """Waits and returns the report; raises what the op would have raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The state for a decoder slot that `order` prepares, in host memory, as it once was detached."""

    image: ImageId
    order: PrepareStream
    tensors: tuple[Tensor, ...]


Order = Task | PrepareStream | EncodeGiven | EncodeText | Forget | JoinChain | Stow | Filled
"""What the compute thread is given: it touches decoder slots, but pages are stowed and loaded beside it."""
Answer = Up | Later | Detached
"""What the compute thread answers."""
